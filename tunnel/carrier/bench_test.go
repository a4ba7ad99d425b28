package carrier_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/netstack"
)

// mute is a Bind whose packets by UDP all get lost.
type mute struct{ conn.Bind }

func (mute) Send([][]byte, conn.Endpoint) error { return nil }

const (
	benchSink = "10.9.0.1:104"
	benchEcho = "10.9.0.1:105"
)

// benchBox is a box with a session to a hub in the same process, over UDP on loopback or, if carried, over TCP and TLS. The hub has a sink
// and an echo, and reports what the sink took.
func benchBox(b *testing.B, carried bool) (box *netstack.Device, sunk <-chan int) {
	server, client := carrier.NewServer(carrier.Limits{}, nil), carrier.NewClient(quick(), nil)
	web := httptest.NewUnstartedServer(server)
	web.StartTLS()
	hubKey, boxKey := newKey(b), newKey(b)
	hub := newDevice(b, netstack.Options{Bind: server.Bind(conn.NewDefaultBind())}, tunnel.Config{
		PrivateKey: hubKey, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")}, MTU: 1420,
		Peers: []tunnel.Peer{{PublicKey: public(b, boxKey), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")}}},
	})
	st, err := hub.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), st.ListenPort)
	bind := conn.NewDefaultBind()
	if carried {
		bind = mute{bind}
	}
	client.Aim(carrier.Target{Hub: at, Routes: []carrier.Route{{How: "the benchmark", Host: "hub.invalid", Open: func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", web.Listener.Addr().String())
	}}}})
	box = newDevice(b, netstack.Options{Bind: client.Bind(bind)}, tunnel.Config{
		PrivateKey: boxKey, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")}, MTU: 1420,
		Peers: []tunnel.Peer{{
			PublicKey: public(b, hubKey), Endpoint: at, PersistentKeepalive: time.Second, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")},
		}},
	})
	took := make(chan int, 1<<10)
	var work sync.WaitGroup
	serve := func(address string, f func(net.Conn)) {
		ln, err := hub.Listen(b.Context(), "tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		work.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				work.Go(func() {
					defer func() { _ = c.Close() }()
					f(c)
				})
			}
		})
	}
	serve(benchEcho, func(c net.Conn) { _, _ = io.Copy(c, c) })
	serve(benchSink, func(c net.Conn) {
		piece := make([]byte, 256<<10)
		for {
			if _, err := io.ReadFull(c, piece); err != nil {
				return
			}
			select {
			case took <- len(piece):
			case <-b.Context().Done():
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	work.Go(func() { client.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		_ = box.Close()
		_ = hub.Close()
		server.Close()
		web.Close()
		work.Wait()
	})
	associate(b, box)
	return box, took
}

// associate connects and has one octet come back, as the set-up of an association does.
func associate(b *testing.B, box *netstack.Device) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	c, err := box.DialContext(ctx, "tcp", benchEcho)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	one := make([]byte, 1)
	if _, err := c.Write(one); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, one); err != nil {
		b.Fatal(err)
	}
}

// pour fills the way with one stream until it is stopped.
func pour(b *testing.B, box *netstack.Device) {
	b.Helper()
	c, err := box.DialContext(b.Context(), "tcp", benchSink)
	if err != nil {
		b.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		piece := make([]byte, 256<<10)
		for {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	})
	b.Cleanup(func() {
		_ = c.Close()
		work.Wait()
	})
}

// BenchmarkThroughput compares what a box sends by UDP with what it sends over TLS. One operation is 256 KiB.
func BenchmarkThroughput(b *testing.B) {
	for _, name := range []string{"direct", "carried"} {
		b.Run(name, func(b *testing.B) {
			box, sunk := benchBox(b, name == "carried")
			pour(b, box)
			b.SetBytes(256 << 10)
			for b.Loop() {
				<-sunk
			}
		})
	}
}

// BenchmarkAssociation is the set-up of an association by UDP and over TLS, alone and beside a stream that takes all there is.
func BenchmarkAssociation(b *testing.B) {
	for _, c := range []struct {
		name          string
		carried, busy bool
	}{{"direct/idle", false, false}, {"direct/saturated", false, true}, {"carried/idle", true, false}, {"carried/saturated", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			box, sunk := benchBox(b, c.carried)
			if c.busy {
				pour(b, box)
				go func() {
					for {
						select {
						case <-sunk:
						case <-b.Context().Done():
							return
						}
					}
				}()
			}
			for b.Loop() {
				associate(b, box)
			}
		})
	}
}
