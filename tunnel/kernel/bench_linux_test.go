package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// BenchmarkThroughput sends through two of our devices, and through two interfaces that wg(8) and ip(8) made by hand: WireGuard itself is the
// same, so there should be no difference.
func BenchmarkThroughput(b *testing.B) {
	need(b)
	for _, c := range []struct {
		name string
		pair func(testing.TB) (dial func() (net.Conn, error), listen func() (net.Listener, error))
	}{{"towpath", ours}, {"wg", byHand}} {
		b.Run(c.name, func(b *testing.B) {
			dial, listen := c.pair(b)
			ln, err := listen()
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			received := make(chan error, 1)
			go func() {
				c, err := ln.Accept()
				if err == nil {
					defer c.Close()
					_, err = io.Copy(c, c)
				}
				received <- err
			}()
			conn, err := dial()
			if err != nil {
				b.Fatal(err)
			}
			piece, back := make([]byte, 1<<20), make([]byte, 1<<20)
			b.SetBytes(2 * int64(len(piece))) // there and back
			for b.Loop() {
				written := make(chan error, 1)
				go func() {
					_, err := conn.Write(piece)
					written <- err
				}()
				_, err := io.ReadFull(conn, back)
				if err = errors.Join(err, <-written); err != nil {
					b.Fatal(err)
				}
			}
			if err := conn.Close(); err != nil {
				b.Fatal(err)
			}
			if err := <-received; err != nil {
				b.Fatal(err)
			}
		})
	}
}

func ours(t testing.TB) (dial func() (net.Conn, error), listen func() (net.Listener, error)) {
	nodes := inNamespaces(t, 2)
	var confs [2]tunnel.Config
	for i := range nodes {
		confs[i] = tunneltest.OneNode(t)
		confs[i].ListenPort, confs[i].MTU = 51820, 1420
		confs[i].Addresses = tunneltest.Prefixes(fmt.Sprintf("100.64.0.%d/32", i+1))
		confs[i].Peers[0].AllowedIPs = tunneltest.Prefixes(fmt.Sprintf("100.64.0.%d/32", 2-i))
		confs[i].Peers[0].Endpoint = netip.AddrPortFrom(nodes[1-i].Underlay, 51820)
	}
	for i, n := range nodes {
		key, err := confs[1-i].PrivateKey.Public()
		if err != nil {
			t.Fatal(err)
		}
		confs[i].Peers[0].PublicKey = key
		if err := n.Device.Configure(t.Context(), confs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return func() (net.Conn, error) { return nodes[0].Device.DialContext(t.Context(), "tcp", "100.64.0.2:104") },
		func() (net.Listener, error) { return nodes[1].Device.Listen(t.Context(), "tcp", "100.64.0.2:104") }
}

func byHand(t testing.TB) (dial func() (net.Conn, error), listen func() (net.Listener, error)) {
	s := tunneltest.NewSwitch(t)
	var spaces [2]*tunneltest.Namespace
	var keys [2]wgkey.PrivateKey
	for i := range spaces {
		spaces[i] = tunneltest.NewNamespace(t)
		s.Plug(spaces[i], netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 24))
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	for i, ns := range spaces {
		peer, err := keys[1-i].Public()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"ip link add wg0 mtu 1420 type wireguard",
			fmt.Sprintf("wg set wg0 private-key /dev/stdin listen-port 51820 peer %s endpoint 198.51.100.%d:51820 allowed-ips 100.64.0.%d/32", peer, 2-i, 2-i),
			fmt.Sprintf("ip address add 100.64.0.%d/24 dev wg0", i+1),
			"ip link set wg0 up",
		} {
			if err := ns.Do(func() error {
				f := strings.Fields(line)
				cmd := exec.CommandContext(t.Context(), f[0], f[1:]...)
				cmd.Stdin = strings.NewReader(keys[i].RevealText())
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w: %s", line, err, out)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return func() (c net.Conn, err error) {
			err = spaces[0].Do(func() (err error) {
				c, err = (&net.Dialer{}).DialContext(context.Background(), "tcp", "100.64.0.2:104")
				return err
			})
			return c, err
		}, func() (l net.Listener, err error) {
			err = spaces[1].Do(func() (err error) {
				l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "100.64.0.2:104")
				return err
			})
			return l, err
		}
}
