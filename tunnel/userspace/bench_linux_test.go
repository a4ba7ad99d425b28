package userspace_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/filter"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/userspace"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	// endVariable makes this program one end of a tunnel, as it says, instead of the tests.
	endVariable = "TOWPATH_BENCH_END"
	// benchPiece is one operation of the benchmarks in bytes.
	benchPiece = 1 << 20
	benchMTU   = 1420
	benchPort  = 51820
)

// end is one end of a tunnel in a process and a namespace of its own.
type end struct {
	Stock     bool
	Key, Peer string
	Own       netip.Addr
	Far       netip.Addr
	Endpoint  netip.AddrPort
}

func (e end) config() (c tunnel.Config, err error) {
	c = tunnel.Config{
		ListenPort: benchPort, MTU: benchMTU, Addresses: []netip.Prefix{netip.PrefixFrom(e.Own, 32)},
		Peers: []tunnel.Peer{{AllowedIPs: []netip.Prefix{netip.PrefixFrom(e.Far, 32)}, Endpoint: e.Endpoint}},
	}
	if c.PrivateKey, err = wgkey.ParsePrivateKey(e.Key); err != nil {
		return c, err
	}
	c.Peers[0].PublicKey, err = wgkey.ParsePublicKey(e.Peer)
	return c, err
}

// run is the process: it says when it is ready, and ends with its standard input.
func (e end) run() error {
	c, err := e.config()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if e.Stock {
		t, err := tun.CreateTUN(ifName, benchMTU)
		if err != nil {
			return err
		}
		d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
		defer d.Close()
		if err := d.IpcSetOperation(bytes.NewReader(uapi.Render(tunnel.Diff(tunnel.Config{}, c)))); err != nil {
			return err
		}
		if err := d.Up(); err != nil {
			return err
		}
		if err := (link.Kernel{}).Apply(ctx, link.Config{Interface: ifName, MTU: benchMTU, Addresses: c.Addresses, Routes: c.Peers[0].AllowedIPs}); err != nil {
			return err
		}
	} else {
		wall := &filter.Kernel{}
		if err := wall.Apply(ctx, filter.Ruleset{
			Tunnel: ifName, Overlay: tunneltest.Prefixes("100.64.0.0/10"), Ports: []uint16{104, 2575}, Open: []netip.AddrPort{netip.AddrPortFrom(e.Own, 104)},
		}); err != nil {
			fmt.Fprintln(os.Stderr, "without the firewall:", err)
		}
		ways := carrier.NewClient(carrier.Times{}, nil)
		d, err := userspace.New(userspace.Options{Interface: ifName, Bind: steer.New(ways.Bind(nil))})
		if err != nil {
			return err
		}
		defer d.Close()
		if err := d.Configure(ctx, c); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// daemon is a running end.
type daemon struct {
	cmd *exec.Cmd
	ns  *tunneltest.Namespace
}

func startDaemon(t testing.TB, ns *tunneltest.Namespace, e end) daemon {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), endVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the end of the tunnel says %q (%v)", line, err)
	}
	return daemon{cmd, ns}
}

// peak is the most that the process had resident so far, in bytes.
func (d daemon) peak(t testing.TB) (kib int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no peak of memory in:\n%s", text)
	return 0
}

// processor is the time the process has had of it.
func (d daemon) processor(t testing.TB) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var user, system int64
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if _, err := fmt.Sscan(f[11]+" "+f[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}

// benchPair connects two ends by Ethernet.
func benchPair(t testing.TB, stock bool) (d [2]daemon) {
	s := tunneltest.NewSwitch(t)
	var keys [2]wgkey.PrivateKey
	var spaces [2]*tunneltest.Namespace
	for i := range keys {
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		spaces[i] = tunneltest.NewNamespace(t)
		s.Plug(spaces[i], netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 24))
	}
	for i := range d {
		peer, err := keys[1-i].Public()
		if err != nil {
			t.Fatal(err)
		}
		d[i] = startDaemon(t, spaces[i], end{
			Stock: stock, Key: keys[i].RevealText(), Peer: peer.String(),
			Own: netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}), Far: netip.AddrFrom4([4]byte{100, 64, 0, byte(2 - i)}),
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 - i)}), benchPort),
		})
	}
	return d
}

// BenchmarkTunnel sends TCP through two processes, each in a network namespace of its own, connected by Ethernet: our device as a box has it,
// with its firewall and ways, and wireguard-go as it comes. Rss-MB is the larger peak of both processes; cpu-s/Gbit is of both.
func BenchmarkTunnel(b *testing.B) {
	for _, streams := range []int{1, 4} {
		for _, kind := range []string{"stock", "towpath"} {
			b.Run(fmt.Sprintf("streams=%d/%s", streams, kind), func(b *testing.B) { benchStreams(b, benchPair(b, kind == "stock"), streams) })
		}
	}
}

func benchStreams(b *testing.B, d [2]daemon, streams int) {
	clients, servers := benchConnect(b, d, streams)
	arrived := make(chan struct{}, 1<<10)
	for i := range clients {
		go func() {
			piece := make([]byte, 128<<10)
			for {
				if _, err := clients[i].Write(piece); err != nil {
					return
				}
			}
		}()
		go func() {
			piece := make([]byte, benchPiece)
			for {
				if _, err := io.ReadFull(servers[i], piece); err != nil {
					return
				}
				select {
				case arrived <- struct{}{}:
				case <-b.Context().Done():
					return
				}
			}
		}()
	}
	busy := -d[0].processor(b) - d[1].processor(b)
	b.SetBytes(benchPiece)
	for b.Loop() {
		<-arrived
	}
	busy += d[0].processor(b) + d[1].processor(b)
	b.ReportMetric(float64(max(d[0].peak(b), d[1].peak(b)))/(1<<20), "rss-MB")
	b.ReportMetric(busy.Seconds()/(float64(b.N)*benchPiece*8/1e9), "cpu-s/Gbit")
}

// benchConnect makes connections from the first end to the second.
func benchConnect(t testing.TB, d [2]daemon, n int) (clients, servers []net.Conn) {
	var ln net.Listener
	if err := d[1].ns.Do(func() (err error) {
		ln, err = net.Listen("tcp", "100.64.0.2:104")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	for range n {
		var c net.Conn
		if err := d[0].ns.Do(func() (err error) {
			c, err = net.DialTimeout("tcp", "100.64.0.2:104", tunneltest.Patience)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		clients, servers = append(clients, c), append(servers, s)
	}
	return clients, servers
}

// BenchmarkIdleLatency is one byte there and back through a tunnel in which there is nothing else.
func BenchmarkIdleLatency(b *testing.B) {
	for _, kind := range []string{"stock", "towpath"} {
		b.Run(kind, func(b *testing.B) {
			clients, servers := benchConnect(b, benchPair(b, kind == "stock"), 1)
			go func() { _, _ = io.Copy(servers[0], servers[0]) }()
			one := make([]byte, 1)
			for b.Loop() {
				if _, err := clients[0].Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(clients[0], one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// runEnd makes this process an end, if it is meant to be one.
func runEnd() {
	text := os.Getenv(endVariable)
	if text == "" {
		return
	}
	var e end
	err := json.Unmarshal([]byte(text), &e)
	if err == nil {
		err = e.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
