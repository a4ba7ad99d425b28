package control_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// carryProxy is an HTTP proxy with a login that knows CONNECT; inspect has it open TLS with a certificate of its own.
type carryProxy struct {
	inspect *tls.Config
	mu      sync.Mutex
	asked   []string
	seen    []byte // of what went through, as far as the proxy can read it
}

func (p *carryProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("box:secret")) {
		w.Header().Set("Proxy-Authenticate", "Basic realm=clinic")
		http.Error(w, "log in", http.StatusProxyAuthRequired)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	origin, err := net.Dial("tcp", r.Host)
	if err != nil {
		return
	}
	if p.inspect != nil {
		client, origin = tls.Server(client, p.inspect), tls.Client(origin, &tls.Config{InsecureSkipVerify: true})
	}
	defer func() { _ = origin.Close() }()
	var done sync.WaitGroup
	done.Go(func() {
		_, _ = io.Copy(origin, io.TeeReader(client, p))
		_ = origin.Close()
	})
	_, _ = io.Copy(client, io.TeeReader(origin, p))
	_ = client.Close()
	done.Wait()
}

func (p *carryProxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, b...)
	return len(b), nil
}

// A box reaches its hub through a proxy with a login, also one that opens TLS, and what the proxy reads is sealed.
func TestLinesThroughProxies(t *testing.T) {
	for _, inspect := range []bool{false, true} {
		t.Run(map[bool]string{false: "CONNECT", true: "TLS inspection"}[inspect], func(t *testing.T) {
			server, client := carrier.NewServer(carrier.Limits{}, nil), carrier.NewClient(carrier.Times{Blocked: 100 * time.Millisecond, Look: 20 * time.Millisecond}, nil)
			origin := httptest.NewTLSServer(server)
			defer origin.Close()
			p := &carryProxy{}
			if inspect {
				other := httptest.NewTLSServer(http.NotFoundHandler())
				defer other.Close()
				p.inspect = &tls.Config{Certificates: other.TLS.Certificates}
			}
			ps := httptest.NewServer(p)
			defer ps.Close()
			named, err := control.ParseProxy(strings.Replace(ps.URL, "http://", "http://box:secret@", 1))
			if err != nil {
				t.Fatal(err)
			}
			target := carrier.Target{Hub: netip.MustParseAddrPort("198.51.100.1:51820")}
			for _, l := range (control.Ways{Proxy: named}).Lines([]string{origin.URL}, carrier.Dialer{}.DialContext)[:1] {
				target.Routes = append(target.Routes, carrier.Route{How: l.How, Host: l.Host, Open: l.Open})
			}
			client.Aim(target)
			ctx, cancel := context.WithCancel(t.Context())
			var work sync.WaitGroup
			work.Go(func() { client.Run(ctx) })
			defer work.Wait()
			defer cancel()
			defer server.Close()
			const text = "the patient's name is nobody's business"
			throughHub(t, server, client, text)
			host := strings.TrimPrefix(origin.URL, "https://")
			if s := client.Status(); !s.Carried || s.How != "TLS on "+host+" via the proxy "+ps.URL {
				t.Errorf("carried %+v", s)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.asked) < 2 || p.asked[0] != "CONNECT "+host {
				t.Errorf("the proxy was asked %q", p.asked)
			}
			if read := strings.Contains(string(p.seen), "towpath-carrier/1"); read != inspect || strings.Contains(string(p.seen), text) {
				t.Errorf("the proxy saw the upgrade: %v; in %d octets", read, len(p.seen))
			}
		})
	}
}

// throughHub has a box say something to its hub and hear it back, without UDP.
func throughHub(t *testing.T, server *carrier.Server, client *carrier.Client, text string) {
	t.Helper()
	network := tunneltest.NewNetwork()
	network.Drop = func(netip.AddrPort, netip.AddrPort, []byte) bool { return true }
	addresses := [2]netip.Prefix{netip.MustParsePrefix("10.9.0.1/32"), netip.MustParsePrefix("10.9.0.2/32")}
	var keys [2]wgkey.PrivateKey
	var public [2]wgkey.PublicKey
	for i := range keys {
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		if public[i], err = keys[i].Public(); err != nil {
			t.Fatal(err)
		}
	}
	var devices [2]*netstack.Device
	for i, o := range [2]netstack.Options{
		{Bind: server.Bind(network.Bind(netip.MustParseAddr("198.51.100.1")))}, {Bind: client.Bind(network.Bind(netip.MustParseAddr("198.51.100.2")))},
	} {
		d, err := netstack.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		peer := tunnel.Peer{PublicKey: public[1-i], AllowedIPs: []netip.Prefix{addresses[1-i]}}
		c := tunnel.Config{PrivateKey: keys[i], Addresses: []netip.Prefix{addresses[i]}}
		if i == 0 {
			c.ListenPort = 51820
		} else {
			peer.Endpoint = netip.MustParseAddrPort("198.51.100.1:51820")
		}
		c.Peers = []tunnel.Peer{peer}
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		devices[i] = d
	}
	ln, err := devices[0].Listen(t.Context(), "tcp", "10.9.0.1:104")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := devices[1].DialContext(ctx, "tcp", "10.9.0.1:104")
	if err != nil {
		t.Fatalf("%v; %+v", err, client.Status())
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(text))
	if _, err = io.WriteString(c, text); err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil || string(got) != text {
		t.Fatalf("%q came back, %v", got, err)
	}
}

// TLS goes first, a named proxy before the direct way, one of the environment behind it, and no absolute-form.
func TestLinesInOrder(t *testing.T) {
	named, err := control.ParseProxy("http://box:secret@proxy.example:3128")
	if err != nil {
		t.Fatal(err)
	}
	env := func(*url.URL) (*url.URL, error) { return url.Parse("http://env.example:8080") }
	urls := []string{"http://hub.example:8080", "https://hub.example", "nonsense"}
	for name, x := range map[string]struct {
		ways control.Ways
		want []string
	}{
		"direct": {control.Ways{}, []string{"TLS on hub.example:443", "HTTP on hub.example:8080"}},
		"named": {control.Ways{Proxy: named}, []string{
			"TLS on hub.example:443 via the proxy http://proxy.example:3128", "HTTP on hub.example:8080 via the proxy http://proxy.example:3128",
			"TLS on hub.example:443", "HTTP on hub.example:8080",
		}},
		"environment": {control.Ways{Environment: env}, []string{
			"TLS on hub.example:443", "HTTP on hub.example:8080", "TLS on hub.example:443 via the proxy http://env.example:8080",
			"HTTP on hub.example:8080 via the proxy http://env.example:8080",
		}},
	} {
		var got []string
		for _, l := range x.ways.Lines(urls, nil) {
			got = append(got, l.How)
		}
		if strings.Join(got, "\n") != strings.Join(x.want, "\n") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
