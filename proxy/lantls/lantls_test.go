package lantls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/lantls"
)

// authority issues certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(tmpl, tmpl, &key.PublicKey)
	return a
}

func (a *authority) sign(c, parent *x509.Certificate, public any) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// issue makes a certificate with an RSA key, as old devices have.
func (a *authority) issue(serial int64, life time.Duration, usage ...x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		a.t.Fatal(err)
	}
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("device ", serial)}, NotBefore: time.Now().Add(-2 * time.Hour),
		NotAfter: time.Now().Add(life), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: usage,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, a.cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// echo sends back what it reads.
var echo = proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
	if _, err := io.Copy(c, c); err != nil {
		return proxy.Result{Outcome: proxy.OutcomeAborted, Detail: err.Error()}
	}
	return proxy.Result{Outcome: proxy.OutcomeDone}
})

// lab is a Server on loopback.
type lab struct {
	address  string
	book     *lantls.Book
	sessions chan proxy.Session
}

func serve(t *testing.T, h func(*lantls.Book) proxy.Handler) lab {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := lab{address: ln.Addr().String(), book: lantls.NewBook(time.Now), sessions: make(chan proxy.Session, 100)}
	srv := proxy.NewServer(proxy.ServerConfig{
		Name: "lan", Listener: ln, Handler: h(l.book), Grace: time.Second, OnSession: func(s proxy.Session) { l.sessions <- s },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func (l lab) result(t *testing.T) proxy.Result {
	t.Helper()
	select {
	case s := <-l.sessions:
		return s.Result
	case <-time.After(20 * time.Second):
		t.Fatal("no session ended")
		return proxy.Result{}
	}
}

func tlsLab(t *testing.T, p *lantls.Profile) lab {
	return serve(t, func(b *lantls.Book) proxy.Handler {
		return lantls.NewServer(lantls.ServerConfig{
			Handler: echo, Profile: func() *lantls.Profile { return p }, Book: b, Reject: lantls.DICOMReject(), Handshake: time.Second,
		})
	})
}

// say sends a word and returns what comes back.
func say(address string, cfg *tls.Config) (tls.ConnectionState, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("word")); err != nil {
		return c.ConnectionState(), err
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return c.ConnectionState(), err
	}
	if string(b) != "word" {
		return c.ConnectionState(), fmt.Errorf("got %q", b)
	}
	return c.ConnectionState(), c.CloseWrite()
}

func TestHandshakes(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	box, good, revoked := ours.issue(2, time.Hour), ours.issue(3, time.Hour), ours.issue(0xbad, time.Hour)
	stranger, expired := other.issue(4, time.Hour), ours.issue(5, -time.Hour)
	wrongUse := ours.issue(6, time.Hour, x509.ExtKeyUsageServerAuth)
	profile := lantls.Profile{
		Certificate: func(netip.Addr) (*tls.Certificate, error) { return &box, nil },
		Devices:     ours.pool(), Revoked: func(s string) bool { return s == "bad" },
	}
	here := netip.MustParsePrefix("127.0.0.1/32")
	with := func(change func(*lantls.Profile)) *lantls.Profile {
		p := profile
		change(&p)
		return &p
	}
	noCertificate := with(func(p *lantls.Profile) {
		p.Certificate = func(netip.Addr) (*tls.Certificate, error) { return nil, errors.New("none") }
	})
	cbc := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	for name, c := range map[string]struct {
		profile *lantls.Profile
		device  *tls.Certificate
		change  func(*tls.Config)
		want    lantls.Failure // empty: it works
		version uint16
	}{
		"TLS 1.3":                     {profile: &profile, device: &good, version: tls.VersionTLS13},
		"TLS 1.2":                     {profile: &profile, device: &good, change: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, version: tls.VersionTLS12},
		"no certificate":              {profile: &profile, want: lantls.FailNoCertificate},
		"none needed":                 {profile: with(func(p *lantls.Profile) { p.ServerOnly = true }), version: tls.VersionTLS13},
		"shown though none is needed": {profile: with(func(p *lantls.Profile) { p.ServerOnly = true }), device: &stranger, want: lantls.FailUnknownCA},
		"another authority":           {profile: &profile, device: &stranger, want: lantls.FailUnknownCA},
		"expired":                     {profile: &profile, device: &expired, want: lantls.FailExpired},
		"for another use":             {profile: &profile, device: &wrongUse, want: lantls.FailCertificate},
		"revoked":                     {profile: &profile, device: &revoked, want: lantls.FailRevoked},
		"TLS 1.1": {profile: &profile, device: &good, want: lantls.FailVersion, change: func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}},
		"TLS 1.1 by exception": {
			profile: with(func(p *lantls.Profile) { p.Legacy = []lantls.Legacy{{Device: here, TLS10: true}} }), device: &good, version: tls.VersionTLS11,
			change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		},
		"TLS 1.1 by another's exception": {
			profile: with(func(p *lantls.Profile) {
				p.Legacy = []lantls.Legacy{{Device: netip.MustParsePrefix("127.0.0.2/32"), TLS10: true}}
			}), device: &good, want: lantls.FailVersion,
			change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		},
		"TLS 1.1 by an exception that ended": {
			profile: with(func(p *lantls.Profile) {
				p.Legacy = []lantls.Legacy{{Device: here, TLS10: true, Until: time.Now().Add(-time.Minute)}}
			}), device: &good, want: lantls.FailVersion,
			change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		},
		"TLS 1.1 by the smaller exception": {
			profile: with(func(p *lantls.Profile) { p.Legacy = []lantls.Legacy{{Device: here}} }), device: &good, want: lantls.FailVersion,
			change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		},
		"CBC": {profile: &profile, device: &good, want: lantls.FailSuites, change: func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, cbc }},
		"CBC by exception": {
			profile: with(func(p *lantls.Profile) { p.Legacy = []lantls.Legacy{{Device: here}} }), device: &good, version: tls.VersionTLS12,
			change: func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, cbc },
		},
		"the device does not trust us": {profile: &profile, device: &good, want: lantls.FailDistrust, change: func(c *tls.Config) { c.RootCAs = other.pool() }},
		"we have no certificate":       {profile: noCertificate, device: &good, want: lantls.FailOurs},
		"we have no profile":           {profile: nil, device: &good, want: lantls.FailOurs},
	} {
		t.Run(name, func(t *testing.T) {
			l := tlsLab(t, c.profile)
			cfg := &tls.Config{RootCAs: ours.pool(), ServerName: "127.0.0.1"}
			if c.device != nil {
				// A device shows what it has, whatever authorities it is told of.
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.device, nil }
			}
			if c.change != nil {
				c.change(cfg)
			}
			state, err := say(l.address, cfg)
			res := l.result(t)
			if c.want != "" {
				if err == nil || res.Detail != c.want.Advice() || res.Outcome == proxy.OutcomeDone {
					t.Fatalf("%v; %q: %s", err, res.Outcome, res.Detail)
				}
				f := l.book.Faults()
				if len(f) != 1 || f[0].Failure != c.want || f[0].Source != netip.MustParseAddr("127.0.0.1") || f[0].Tally.Count != 1 {
					t.Fatalf("faults %+v", f)
				}
				return
			}
			if err != nil || res.Outcome != proxy.OutcomeDone || state.Version != c.version || len(l.book.Faults()) != 0 {
				t.Fatalf("%v; %v; TLS %x; %v", err, res, state.Version, l.book.Faults())
			}
		})
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestHostileTLSPort(t *testing.T) {
	ours := newAuthority(t, "ours")
	box := ours.issue(2, time.Hour)
	l := tlsLab(t, &lantls.Profile{Certificate: func(netip.Addr) (*tls.Certificate, error) { return &box, nil }, Devices: ours.pool()})
	for name, c := range map[string]struct {
		send, answer string
		want         lantls.Failure
	}{
		"an association in cleartext": {"\x01\x00\x00\x00\x00\xcd\x00\x01\x00\x00", string(lantls.DICOMReject()), lantls.FailCleartext},
		"a message in cleartext":      {"\x0bMSH|^~\\&|", string(lantls.DICOMReject()), lantls.FailCleartext},
		"nothing more":                {"\x16\x03\x01\x02\x00\x01", "", lantls.FailSlow},
		"nothing at all":              {"", "", lantls.FailSlow},
	} {
		conn := dial(t, l.address)
		if _, err := io.WriteString(conn, c.send); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if string(got) != c.answer || err != nil {
			t.Errorf("%s: answered % x, %v", name, got, err)
		}
		if res := l.result(t); res.Detail != c.want.Advice() {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// One source may not take all handshakes, and those who finished theirs are not counted.
func TestCrowdedHandshakes(t *testing.T) {
	ours := newAuthority(t, "ours")
	box, device := ours.issue(2, time.Hour), ours.issue(3, time.Hour)
	l := tlsLab(t, &lantls.Profile{Certificate: func(netip.Addr) (*tls.Certificate, error) { return &box, nil }, Devices: ours.pool()})
	for range lantls.MaxHandshakesFrom {
		dial(t, l.address)
	}
	if _, err := io.ReadAll(dial(t, l.address)); err != nil {
		t.Fatal(err)
	}
	if res := l.result(t); res.Detail != lantls.FailCrowded.Advice() && res.Detail != lantls.FailSlow.Advice() {
		t.Fatalf("%+v", res)
	}
	for range lantls.MaxHandshakesFrom {
		l.result(t)
	}
	crowded := 0
	for _, f := range l.book.Faults() {
		if f.Failure == lantls.FailCrowded {
			crowded += int(f.Tally.Count)
		}
	}
	if crowded != 1 {
		t.Fatalf("%d were one too many: %+v", crowded, l.book.Faults())
	}
	if _, err := say(l.address, &tls.Config{RootCAs: ours.pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{device}}); err != nil {
		t.Fatal("afterwards:", err)
	}
}

func TestTLSOnTheCleartextPort(t *testing.T) {
	l := serve(t, func(b *lantls.Book) proxy.Handler { return lantls.NewCleartext(echo, b) })
	_, err := say(l.address, &tls.Config{InsecureSkipVerify: true})
	if err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Fatal("the device is told:", err)
	}
	if res := l.result(t); res.Outcome != proxy.OutcomeRefused || res.Detail != lantls.FailTLSOnClear.Advice() {
		t.Fatalf("%+v", res)
	}
	if f := l.book.Faults(); len(f) != 1 || f[0].Failure != lantls.FailTLSOnClear {
		t.Fatalf("%+v", f)
	}
	for _, text := range []string{"\x01\x00word", "\x0b\x16\x03\x01", "\x16\x07\x07"} {
		c := dial(t, l.address)
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); string(got) != text || err != nil {
			t.Errorf("% x is no ClientHello: % x, %v", text, got, err)
		}
		l.result(t)
	}
}

// lanNetwork dials the real loopback.
type lanNetwork struct{ net.Dialer }

func (lanNetwork) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, errors.New("not here")
}

func TestClient(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	server, box := ours.issue(2, time.Hour), ours.issue(3, time.Hour)
	l := tlsLab(t, &lantls.Profile{Certificate: func(netip.Addr) (*tls.Certificate, error) { return &server, nil }, Devices: ours.pool()})
	mine := func() (*tls.Certificate, error) { return &box, nil }
	for name, c := range map[string]struct {
		cfg  lantls.ClientConfig
		want string
	}{
		"authority":         {lantls.ClientConfig{Roots: ours.pool(), Certificate: mine}, ""},
		"name":              {lantls.ClientConfig{Roots: ours.pool(), Name: "127.0.0.1", Certificate: mine}, ""},
		"another name":      {lantls.ClientConfig{Roots: ours.pool(), Name: "pacs.local", Certificate: mine}, "pacs.local"},
		"another authority": {lantls.ClientConfig{Roots: other.pool(), Certificate: mine}, "unknown authority"},
		"pin":               {lantls.ClientConfig{Pin: sha256.Sum256(server.Leaf.Raw), Certificate: mine}, ""},
		"another pin":       {lantls.ClientConfig{Pin: sha256.Sum256(box.Leaf.Raw), Roots: ours.pool(), Certificate: mine}, "pinned"},
		"no certificate":    {lantls.ClientConfig{Roots: ours.pool()}, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Book = l.book
			conn, err := lantls.NewClient(&lanNetwork{}, c.cfg).DialContext(t.Context(), "tcp", l.address)
			if err == nil {
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				_, _ = conn.Write([]byte("word"))
				_, err = io.ReadFull(conn, make([]byte, 4))
				_ = conn.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("want %q, got %v", c.want, err)
			}
			l.result(t)
		})
	}
}

func TestTransition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(14 * 24 * time.Hour)
		b := lantls.NewBook(time.Now)
		b.Set([]lantls.Rule{{Until: end}}, map[string]uint16{"pacs": 2762})
		ct := lantls.Visit{Source: netip.MustParseAddr("192.168.1.40"), Protocol: "dicom", Service: "pacs", Calling: "CT1"}
		if why := b.Enter(ct); why != "" {
			t.Fatal("before its end:", why)
		}
		time.Sleep(14*24*time.Hour - time.Second)
		if why := b.Enter(ct); why != "" {
			t.Fatal("a second before its end:", why)
		}
		lastClear := time.Now()
		time.Sleep(time.Second)
		why := b.Enter(ct)
		for _, part := range []string{"CT1", "192.168.1.40", "pacs", "port 2762", "towpath transition rollback", end.UTC().Format(time.RFC3339)} {
			if !strings.Contains(why, part) {
				t.Errorf("the refusal does not name %s: %s", part, why)
			}
		}
		if late := b.Late(time.Hour); len(late) != 1 {
			t.Errorf("late: %v", late)
		}
		overTLS := ct
		overTLS.TLS = true
		time.Sleep(time.Second)
		if why := b.Enter(overTLS); why != "" {
			t.Error("TLS:", why)
		}
		if late := b.Late(time.Hour); len(late) != 0 {
			t.Errorf("it has moved: %v", late)
		}
		d := b.Devices()
		if len(d) != 1 || d[0].Cleartext != (lantls.Tally{Count: 2, Last: lastClear.UTC()}) || d[0].TLS.Count != 1 || d[0].Refused.Count != 1 || !d[0].Until.Equal(end) {
			t.Errorf("%+v", d)
		}
		// Rollback is another rule, at once.
		b.Set([]lantls.Rule{{Until: time.Now().Add(time.Hour)}}, nil)
		if why := b.Enter(ct); why != "" {
			t.Error("after the rollback:", why)
		}
	})
}

func TestNarrowestRule(t *testing.T) {
	now := time.Now()
	past, future := now.Add(-time.Hour), now.Add(time.Hour)
	ct, lan := netip.MustParsePrefix("192.168.1.40/32"), netip.MustParsePrefix("192.168.1.0/24")
	for name, c := range map[string]struct {
		rules []lantls.Rule
		open  bool
	}{
		"none":                                   {nil, true},
		"for all, ended":                         {[]lantls.Rule{{Until: past}}, false},
		"for all, at this moment":                {[]lantls.Rule{{Until: now}}, false},
		"the device has longer":                  {[]lantls.Rule{{Until: past}, {Device: ct, Until: future}}, true},
		"the device has no end":                  {[]lantls.Rule{{Until: past}, {Device: ct}}, true},
		"the device ended":                       {[]lantls.Rule{{Device: ct, Until: past}, {Until: future}}, false},
		"the device before its LAN":              {[]lantls.Rule{{Device: lan, Until: future}, {Device: ct, Until: past}}, false},
		"the service before all":                 {[]lantls.Rule{{Until: future}, {Service: "pacs", Until: past}}, false},
		"the device before the service":          {[]lantls.Rule{{Service: "pacs", Until: past}, {Device: ct, Until: future}}, true},
		"the service of the device before both":  {[]lantls.Rule{{Device: ct, Until: past}, {Device: ct, Service: "pacs", Until: future}}, true},
		"another device":                         {[]lantls.Rule{{Device: netip.MustParsePrefix("192.168.1.41/32"), Until: past}}, true},
		"another service":                        {[]lantls.Rule{{Service: "worklist", Until: past}}, true},
		"the service on the LAN, the whole wide": {[]lantls.Rule{{Device: netip.MustParsePrefix("192.0.0.0/8"), Service: "pacs", Until: past}, {Device: lan, Until: future}}, true},
	} {
		b := lantls.NewBook(func() time.Time { return now })
		b.Set(c.rules, nil)
		why := b.Enter(lantls.Visit{Source: netip.MustParseAddr("::ffff:192.168.1.40"), Protocol: "dicom", Service: "pacs", Calling: "CT1"})
		if (why == "") != c.open {
			t.Errorf("%s: %q", name, why)
		}
	}
}

func TestBookIsBounded(t *testing.T) {
	now := time.Now()
	b := lantls.NewBook(func() time.Time { now = now.Add(time.Second); return now })
	for i := range lantls.MaxDevices + 10 {
		b.Enter(lantls.Visit{Source: netip.MustParseAddr("10.0.0.1"), Service: "pacs", Calling: fmt.Sprint(strings.Repeat("é", 100)[:i%3], i)})
	}
	all := b.Devices()
	if len(all) != lantls.MaxDevices {
		t.Fatalf("%d devices", len(all))
	}
	for _, d := range all {
		if strings.HasSuffix(d.Calling, "0") && len(d.Calling) == 1 {
			t.Error("the one that was silent for longest is still there")
		}
	}
	again := lantls.NewBook(time.Now)
	again.Restore(all)
	if got := again.Devices(); len(got) != len(all) || got[7] != all[7] {
		t.Errorf("restored %d, %+v", len(got), got[7])
	}
	if !b.Changed() || b.Changed() {
		t.Error("changed once")
	}
}

// What TLS costs on one connection: 1 MiB there, an answer back.
func BenchmarkThroughput(b *testing.B) {
	for _, over := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", over), func(b *testing.B) {
			ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			a := newAuthority(b, "ours")
			pair := a.issue(2, time.Hour)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				if over {
					c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				}
				block := make([]byte, 1<<20)
				for {
					if _, err := io.ReadFull(c, block); err != nil {
						return
					}
					if _, err := c.Write(block[:1]); err != nil {
						return
					}
				}
			}()
			c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if over {
				c = tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "127.0.0.1"})
			}
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if _, err := c.Write(block); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, block[:1]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
