package reconcile_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/sitecert"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/lantls"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// boxCerts are the Certificates of a box without an operator's own.
type boxCerts struct{ *sitecert.Authority }

func (c boxCerts) Certificate(_ bool, local netip.Addr) (*tls.Certificate, error) {
	return c.Authority.Certificate(local)
}

// clinic is a box on the real loopback whose overlay is in memory.
type clinic struct {
	*fixture
	ca       *sitecert.Authority
	book     *lantls.Book
	ahead    atomic.Int64 // of its clock
	m        wire.NetMap
	sessions chan proxy.Session
	dir      string
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: reconcile.Ordered})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	c := &clinic{sessions: make(chan proxy.Session, 100), dir: t.TempDir()}
	now := func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }
	c.book = lantls.NewBook(now)
	if c.ca, err = sitecert.Open(sitecert.Options{Dir: dir, Site: "north", Now: now}); err != nil {
		t.Fatal(err)
	}
	c.fixture = &fixture{dev: &idleDevice{}, overlay: proxytest.NewNetwork(), queue: q}
	c.Runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: c.dev, LANNet: &lan.Network{}, OverlayNet: c.overlay, Queue: q, Health: &c.health, Log: slog.New(slog.DiscardHandler),
		LANTLS: reconcile.LANTLS{Book: c.book, Certificates: boxCerts{c.ca}}, OnSession: func(s proxy.Session) { c.sessions <- s },
	})
	t.Cleanup(func() { c.Stop(); _ = q.Close(); _ = dir.Close() })

	c.m = clinicMap(t)
	ports := freePorts(t, 4)
	for i := range c.m.Uses {
		c.m.Uses[i].LANPort = ports[0]
		if c.m.Uses[i].Protocol == wire.HL7 {
			c.m.Uses[i].LANPort = ports[1]
		}
	}
	c.m.LANTLS = &wire.LANTLS{DICOMPort: ports[2], HL7Port: ports[3]}
	return c
}

func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var out []uint16
	for range n {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return out
}

func (c *clinic) apply(t *testing.T) {
	t.Helper()
	l := local(t)
	l.LANAddress = netip.MustParseAddr("127.0.0.1")
	d, err := reconcile.Compile(c.m, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func (c *clinic) cleartextUntil(t *testing.T, until time.Time) {
	t.Helper()
	p := *c.m.LANTLS
	p.Cleartext = []wire.CleartextRule{{Until: until}}
	c.m.LANTLS = &p
	c.apply(t)
}

// issue makes a certificate and returns the paths of its key, itself and the authority.
func (c *clinic) issue(t *testing.T, device string, names ...string) (paths [3]string, b sitecert.Bundle) {
	t.Helper()
	b, err := c.ca.Issue(sitecert.Request{Device: device, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{b.Key, b.Certificate, b.Authority} {
		paths[i] = filepath.Join(c.dir, fmt.Sprintf("%s-%d.pem", device, i))
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths, b
}

func (c *clinic) ended(t *testing.T) proxy.Result {
	t.Helper()
	select {
	case s := <-c.sessions:
		return s.Result
	case <-time.After(20 * time.Second):
		t.Fatal("no session ended")
		return proxy.Result{}
	}
}

func lanAt(port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
}

func echo(t *testing.T, n proxy.Network, target string) error {
	t.Helper()
	_, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: n, Target: target, CallingAE: "CT1", CalledAE: "PACS"})
	return err
}

// One device through a whole transition: cleartext, both, the end by the box's clock, a refusal that explains itself, the way back.
func TestTransitionOfADICOMDevice(t *testing.T) {
	c := newClinic(t)
	c.apply(t)
	end := time.Now().Add(14 * 24 * time.Hour)
	c.cleartextUntil(t, end)
	clear, secure := lanAt(c.m.Uses[0].LANPort), lanAt(c.m.LANTLS.DICOMPort)
	_, b := c.issue(t, "CT1")
	pair, err := tls.X509KeyPair([]byte(b.Certificate), []byte(b.Key))
	if err != nil {
		t.Fatal(err)
	}
	overTLS := lantls.NewClient(&lan.Network{}, lantls.ClientConfig{
		Roots: c.ca.Pool(""), Book: c.book, Certificate: func() (*tls.Certificate, error) { return &pair, nil },
	})
	for range 2 {
		if err := echo(t, &lan.Network{}, clear); err != nil {
			t.Fatal("cleartext before its end:", err)
		}
		c.ended(t)
	}
	if err := echo(t, overTLS, secure); err != nil {
		t.Fatal("TLS:", err)
	}
	c.ended(t)

	c.ahead.Store(int64(14*24*time.Hour + time.Minute)) // nobody says anything to the box: its clock does it
	err = echo(t, &lan.Network{}, clear)
	if err == nil || !strings.Contains(err.Error(), "no reason given") && !strings.Contains(err.Error(), "reject") {
		t.Fatal("cleartext after its end:", err)
	}
	res := c.ended(t)
	if res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, "device CT1 (127.0.0.1)") || !strings.Contains(res.Detail, secure[10:]) {
		t.Errorf("%+v", res)
	}
	if err := echo(t, overTLS, secure); err != nil {
		t.Fatal("TLS after the end of cleartext:", err)
	}
	c.ended(t)
	d := c.book.Devices()
	if len(d) != 1 || d[0].Cleartext.Count != 2 || d[0].TLS.Count != 2 || d[0].Refused.Count != 1 || d[0].Calling != "CT1" || d[0].Service != "pacs" {
		t.Errorf("%+v", d)
	}

	c.cleartextUntil(t, time.Now().Add(time.Duration(c.ahead.Load())+time.Hour)) // rollback
	if err := echo(t, &lan.Network{}, clear); err != nil {
		t.Fatal("after the rollback:", err)
	}
	c.ended(t)

	if ok, err := c.ca.Revoke(b.Issued.Serial); !ok || err != nil {
		t.Fatal(err)
	}
	if err := echo(t, overTLS, secure); err == nil {
		t.Error("a revoked certificate was taken")
	}
	if res := c.ended(t); res.Detail != lantls.FailRevoked.Advice() {
		t.Errorf("%+v", res)
	}
}

func TestTransitionOfAnHL7Device(t *testing.T) {
	c := newClinic(t)
	c.apply(t)
	i := slices.IndexFunc(c.m.Uses, func(u wire.Use) bool { return u.Protocol == wire.HL7 })
	_, b := c.issue(t, "LAB")
	pair, err := tls.X509KeyPair([]byte(b.Certificate), []byte(b.Key))
	if err != nil {
		t.Fatal(err)
	}
	overTLS := lantls.NewClient(&lan.Network{}, lantls.ClientConfig{
		Roots: c.ca.Pool(""), Book: c.book, Certificate: func() (*tls.Certificate, error) { return &pair, nil },
	})
	message := []byte("MSH|^~\\&|LAB|NORTH|HIS|CENTER|20261122||ORU^R01|17|P|2.5\rPID|1\r")
	dialHL7 := func(n proxy.Network, address string) net.Conn {
		conn, err := n.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	send := func(conn net.Conn) string {
		frame, err := mllp.Append(nil, message)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame); err != nil {
			return err.Error()
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	conn := dialHL7(overTLS, lanAt(c.m.LANTLS.HL7Port))
	if got := send(conn); !strings.Contains(got, "MSA|AA|17") {
		t.Fatalf("over TLS: %q", got)
	}
	conn = dialHL7(&lan.Network{}, lanAt(c.m.Uses[i].LANPort))
	if got := send(conn); !strings.Contains(got, "MSA|AA|17") {
		t.Fatalf("in cleartext: %q", got)
	}
	c.cleartextUntil(t, time.Now()) // an early end; the connection is open
	if got := send(conn); got != "EOF" && !strings.Contains(got, "reset") {
		t.Errorf("after the end: %q", got)
	}
	if res := c.ended(t); res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, "device LAB^NORTH (127.0.0.1)") {
		t.Errorf("%+v", res)
	}
	if late := c.book.Late(time.Hour); len(late) != 1 {
		t.Errorf("late %v, devices %+v", late, c.book.Devices())
	}
}

// The archive of a site that wants TLS.
func TestTargetOverTLS(t *testing.T) {
	c := newClinic(t)
	_, b := c.issue(t, "archive", "127.0.0.1")
	pair, err := tls.X509KeyPair([]byte(b.Certificate), []byte(b.Key))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: t.TempDir(), AETitle: "PACS"})
	if err != nil {
		t.Fatal(err)
	}
	profile := &lantls.Profile{Certificate: func(netip.Addr) (*tls.Certificate, error) { return &pair, nil }, Devices: c.ca.Pool("")}
	srv := proxy.NewServer(proxy.ServerConfig{Name: "archive", Listener: ln, Handler: lantls.NewServer(lantls.ServerConfig{
		Handler: archive, Profile: func() *lantls.Profile { return profile }, Book: c.book,
	})})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	block, _ := pem.Decode([]byte(b.Certificate))
	pin := sha256.Sum256(block.Bytes)
	c.m.Offers = []wire.Offer{{
		Service: "own-pacs", Protocol: wire.DICOM, Mode: wire.PassThrough, AETitle: "PACS", Port: 11112, Target: ln.Addr().String(), From: c.m.Offers[0].From,
	}}
	center := c.overlay.From(netip.MustParseAddr("10.201.0.17"))
	for name, x := range map[string]struct {
		target wire.TLSTarget
		good   bool
	}{
		"by the site's authority": {wire.TLSTarget{Verify: wire.VerifySite}, true},
		"by a pin":                {wire.TLSTarget{Verify: wire.VerifyPin, Pin: hex.EncodeToString(pin[:])}, true},
		"by another pin":          {wire.TLSTarget{Verify: wire.VerifyPin, Pin: strings.Repeat("00", 31) + "01"}, false},
		"by an authority":         {wire.TLSTarget{Verify: wire.VerifyCA, CA: b.Authority}, true},
		"by none":                 {wire.TLSTarget{Verify: wire.VerifyCA}, false},
		"for another name":        {wire.TLSTarget{Verify: wire.VerifySite, Name: "pacs.local"}, false},
		"in a way to come":        {wire.TLSTarget{Verify: "dane"}, false},
		"in cleartext":            {wire.TLSTarget{}, false},
	} {
		p := *c.m.LANTLS
		if p.Targets = nil; x.target != (wire.TLSTarget{}) {
			x.target.Service = "own-pacs"
			p.Targets = []wire.TLSTarget{x.target}
		}
		c.m.LANTLS = &p
		c.apply(t)
		if err := echo(t, center, "10.201.1.1:11112"); (err == nil) != x.good {
			t.Errorf("%s: %v", name, err)
		}
		c.ended(t)
	}
}

func TestCompileLANTLS(t *testing.T) {
	m := clinicMap(t)
	m.LANTLS = &wire.LANTLS{DICOMPort: 2762, HL7Port: 12575}
	list := func(d reconcile.Desired) (out []string) {
		for _, l := range d.Listeners {
			if l.Side == reconcile.LAN {
				var names []string
				for _, r := range l.Routes {
					names = append(names, r.Service)
				}
				out = append(out, fmt.Sprint(l.Address, " ", l.TLS, " ", strings.Join(names, "+")))
			}
		}
		return out
	}
	plain := list(compiled(t, clinicMap(t)))
	d := compiled(t, m)
	got := list(d)
	if len(d.Problems) != len(compiled(t, clinicMap(t)).Problems) || len(got) != len(plain)+2 {
		t.Errorf("%v, problems %v", got, d.Problems)
	}
	for _, l := range plain {
		if !slices.Contains(got, l) {
			t.Errorf("%s is gone", l)
		}
	}
	for _, l := range d.Listeners {
		if l.TLS != (l.Side == reconcile.LAN && (strings.HasSuffix(l.Address, ":2762") || strings.HasSuffix(l.Address, ":12575"))) {
			t.Errorf("%s: TLS is %v", l.Address, l.TLS)
		}
	}

	// Two that cleartext tells apart by port need two TLS ports; and a cleartext port stays one.
	twin := m.Uses[0]
	twin.Service, twin.LANPort = "twin", 104
	m.Uses = append(m.Uses, twin)
	d = compiled(t, m)
	if len(d.Problems) != 1 || !strings.Contains(d.Problems[0].Message, "--port twin=PORT") {
		t.Errorf("problems %v", d.Problems)
	}
	m.LANTLS = &wire.LANTLS{DICOMPort: 2762, HL7Port: 12575, Ports: map[string]uint16{"twin": 2763}}
	if d = compiled(t, m); len(d.Problems) != 0 {
		t.Errorf("problems %v", d.Problems)
	}
	m.LANTLS.Ports["twin"] = 104
	if d = compiled(t, m); len(d.Problems) != 1 || slices.ContainsFunc(d.Listeners, func(l reconcile.Listener) bool {
		return strings.HasSuffix(l.Address, ":104") && l.TLS
	}) {
		t.Errorf("problems %v", d.Problems)
	}
}
