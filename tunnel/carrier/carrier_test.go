package carrier_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// lab is a hub and a box with real WireGuard, UDP between them that can be blocked, and the hub's HTTP server.
type lab struct {
	server *carrier.Server
	client *carrier.Client
	http   *httptest.Server
	hub    *netstack.Device
	box    *netstack.Device
	echo   string

	blocked atomic.Bool
	mu      sync.Mutex
	conns   []net.Conn
}

const hubAt = "198.51.100.1:51820"

func quick() carrier.Times {
	return carrier.Times{Blocked: 500 * time.Millisecond, Probe: 700 * time.Millisecond, Prove: 20 * time.Second, Look: 20 * time.Millisecond}
}

func newLab(t *testing.T, secure, blocked bool, limits carrier.Limits) *lab {
	t.Helper()
	l := &lab{server: carrier.NewServer(limits, nil), client: carrier.NewClient(quick(), nil)}
	l.blocked.Store(blocked)
	network := tunneltest.NewNetwork()
	network.Drop = func(_, _ netip.AddrPort, _ []byte) bool { return l.blocked.Load() }
	l.http = httptest.NewUnstartedServer(l.server)
	if secure {
		l.http.StartTLS()
	} else {
		l.http.Start()
	}
	hubKey, boxKey := newKey(t), newKey(t)
	l.hub = newDevice(t, netstack.Options{Bind: l.server.Bind(network.Bind(netip.MustParseAddr("198.51.100.1")))}, tunnel.Config{
		PrivateKey: hubKey, ListenPort: 51820, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")},
		Peers: []tunnel.Peer{{PublicKey: public(t, boxKey), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")}}},
	})
	l.client.Aim(carrier.Target{Hub: netip.MustParseAddrPort(hubAt), Routes: []carrier.Route{{How: "the test", Host: "hub.invalid", Open: l.open(secure)}}})
	l.box = newDevice(t, netstack.Options{Bind: l.client.Bind(network.Bind(netip.MustParseAddr("198.51.100.2")))}, tunnel.Config{
		PrivateKey: boxKey, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32")},
		Peers: []tunnel.Peer{{
			PublicKey: public(t, hubKey), Endpoint: netip.MustParseAddrPort(hubAt), PersistentKeepalive: time.Second,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")},
		}},
	})
	ln, err := l.hub.Listen(t.Context(), "tcp", "10.9.0.1:104")
	if err != nil {
		t.Fatal(err)
	}
	l.echo = ln.Addr().String()
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			})
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	work.Go(func() { l.client.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = l.box.Close()
		_ = l.hub.Close()
		l.server.Close()
		l.http.Close()
		work.Wait()
	})
	return l
}

func newKey(t testing.TB) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k wgkey.PrivateKey) wgkey.PublicKey {
	t.Helper()
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newDevice(t testing.TB, o netstack.Options, c tunnel.Config) *netstack.Device {
	t.Helper()
	d, err := netstack.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return d
}

// open connects, and remembers what can be cut.
func (l *lab) open(secure bool) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.http.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
		if !secure {
			return c, nil
		}
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil
	}
}

func (l *lab) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// exchange sends octets there and back.
func (l *lab) exchange(t *testing.T, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := l.box.DialContext(ctx, "tcp", l.echo)
	if err != nil {
		t.Fatalf("%v; %+v", err, l.client.Status())
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	want := make([]byte, size)
	_, _ = rand.Read(want)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		sent <- err
	}()
	got := make([]byte, size)
	_, err = io.ReadFull(c, got)
	if werr := <-sent; werr != nil || err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d octets did not come back as they were: %v, %v; %+v", size, werr, err, l.client.Status())
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not yet: %s", what)
		}
	}
}

// Where UDP is blocked a session comes up over TCP, carries megabytes, survives cuts, and returns to UDP when that works.
func TestCarried(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, secure, true, carrier.Limits{})
			began := time.Now()
			l.exchange(t, 1)
			t.Logf("the first octet came back after %v", time.Since(began))
			began = time.Now()
			for range 6 { // packets out of order made a connection stand still, in one of ten
				l.exchange(t, 8<<20)
			}
			t.Logf("6 times 8 MiB came back after %v; %+v", time.Since(began), l.client.Status())
			s := l.client.Status()
			if !s.Carried || s.How != "the test" || s.Since.IsZero() || l.server.Sessions() != 1 {
				t.Errorf("carried: %+v, %d at the server", s, l.server.Sessions())
			}
			l.cut()
			l.exchange(t, 1<<20)
			if !l.client.Status().Carried {
				t.Error("not carried after a cut")
			}
			l.blocked.Store(false)
			eventually(t, "return to UDP", func() bool {
				l.exchange(t, 1) // the hub is heard when it has something to say, as a coordinator has
				return !l.client.Status().Carried && l.server.Sessions() == 0
			})
			l.exchange(t, 1<<20)
			if at := endpoint(t, l.box); at.String() != hubAt {
				t.Errorf("the box calls the hub at %v", at)
			}
			l.blocked.Store(true)
			eventually(t, "carried again", func() bool { return l.client.Status().Carried })
			l.exchange(t, 1<<20)
			if at := endpoint(t, l.hub); !carrier.IsAddress(at.Addr()) {
				t.Errorf("the hub sees the box at %v", at)
			}
		})
	}
}

func endpoint(t *testing.T, d *netstack.Device) netip.AddrPort {
	t.Helper()
	s, err := d.Status(t.Context())
	if err != nil || len(s.Peers) != 1 {
		t.Fatal(s, err)
	}
	return s.Peers[0].Endpoint
}

// With UDP that works nothing is opened.
func TestUDPFirst(t *testing.T) {
	l := newLab(t, false, false, carrier.Limits{})
	eventually(t, "a session", func() bool {
		s, err := l.box.Status(t.Context())
		return err == nil && len(s.Peers) == 1 && !s.Peers[0].LastHandshake.IsZero()
	})
	l.exchange(t, 1<<20)
	if l.client.Status().Carried {
		t.Errorf("carried although UDP works: %+v", l.client.Status())
	}
}

// ask opens a connection as a client would and returns the answer.
func (l *lab) ask(t *testing.T, session, lane string) (net.Conn, int) {
	t.Helper()
	c, err := net.Dial("tcp", l.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	req, err := http.NewRequest(http.MethodGet, "http://hub.invalid"+carrier.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "towpath-carrier/1", "Towpath-Session": session, "Towpath-Lane": lane} {
		req.Header.Set(k, v)
	}
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil || n < 12 {
		t.Fatal(n, err)
	}
	return c, int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
}

// Strangers are few, and not for long; what makes no sense is refused.
func TestLimits(t *testing.T) {
	l := newLab(t, false, true, carrier.Limits{Unproven: 2, Proof: 2 * time.Second})
	l.client.Aim(carrier.Target{})
	for _, x := range []struct {
		session, lane string
		status        int
	}{
		{"AAAAAAAAAAAAAAAAAAAAAA", "interactive", 101},
		{"AAAAAAAAAAAAAAAAAAAAAA", "bulk", 101},
		{"AQAAAAAAAAAAAAAAAAAAAA", "bulk", 101},
		{"AgAAAAAAAAAAAAAAAAAAAA", "bulk", 503},
		{"AgAAAA", "bulk", 400},
		{"AAAAAAAAAAAAAAAAAAAAAA", "both", 400},
	} {
		if _, status := l.ask(t, x.session, x.lane); status != x.status {
			t.Errorf("session %s, lane %s: %d, want %d", x.session, x.lane, status, x.status)
		}
	}
	resp, err := l.http.Client().Get(l.http.URL + carrier.Path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without upgrade: %s", resp.Status)
	}
	eventually(t, "the strangers are gone", func() bool { return l.server.Sessions() == 0 })
	if _, status := l.ask(t, "AwAAAAAAAAAAAAAAAAAAAA", "bulk"); status != 101 {
		t.Errorf("afterwards: %d", status)
	}
}

// Whoever sends something else is cut off, and what is in flight for others goes on.
func TestHostileClient(t *testing.T) {
	l := newLab(t, false, true, carrier.Limits{})
	l.exchange(t, 1)
	for _, bad := range [][]byte{{0xff, 0xff}, {0, 3, 1, 2, 3}, append([]byte{0, 32, 9}, make([]byte, 40)...)} {
		c, _ := l.ask(t, "AAAAAAAAAAAAAAAAAAAAAA", "bulk")
		if _, err := c.Write(bad); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%x was answered", bad)
		} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Errorf("%x was taken", bad)
		}
	}
	l.exchange(t, 1<<20)
}
