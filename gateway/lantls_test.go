package gateway

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/sitecert"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/lantls"
	"github.com/towpath/towpath/proxy/spool"
)

func condition(g *Gateway, prefix string) string {
	for _, c := range g.health.List() {
		if strings.HasPrefix(c.Code, prefix) {
			return string(c.Severity) + ": " + c.Message
		}
	}
	return ""
}

func TestLANTLSConditions(t *testing.T) {
	b := newBox(t)
	ct := lantls.Visit{Source: netip.MustParseAddr("192.168.1.40"), Protocol: "dicom", Service: "pacs", Calling: "CT1"}
	b.lanTLS.book.Enter(ct)
	observe := func(until time.Duration) {
		var rules []lantls.Rule
		if until != 0 {
			rules = []lantls.Rule{{Until: time.Now().Add(until)}}
		}
		b.lanTLS.book.Set(rules, nil)
		b.observeLANTLS(b.m)
	}
	for _, far := range []time.Duration{0, 15 * 24 * time.Hour} {
		if observe(far); condition(b.Gateway, codeTransition) != "" {
			t.Errorf("%v before the end: %s", far, condition(b.Gateway, codeTransition))
		}
	}
	if observe(13 * 24 * time.Hour); !strings.Contains(condition(b.Gateway, codeTransition+"soon"), "warning: cleartext ends at") ||
		!strings.Contains(condition(b.Gateway, codeTransition+"soon"), "device CT1 (192.168.1.40)") {
		t.Error("13 days before the end:", condition(b.Gateway, codeTransition))
	}
	observe(-time.Hour)
	b.lanTLS.book.Enter(ct)
	if observe(-time.Hour); !strings.HasPrefix(condition(b.Gateway, codeTransition+"refused/192.168.1.40/CT1"), "error: device CT1") || condition(b.Gateway, codeTransition+"soon") != "" {
		t.Error("after it:", b.health.List())
	}
	ct.TLS = true
	b.lanTLS.book.Enter(ct)
	if observe(-time.Hour); condition(b.Gateway, codeTransition) != "" {
		t.Error("it has moved:", condition(b.Gateway, codeTransition))
	}

	for life, want := range map[time.Duration]string{40 * 24 * time.Hour: "", 20 * 24 * time.Hour: "info: ", 10 * 24 * time.Hour: "warning: ", 5 * 24 * time.Hour: "warning: ", 5 * time.Hour: "error: "} {
		device := "CT-" + life.String()
		if _, err := b.Issue(sitecert.Request{Device: device, Life: life}); err != nil {
			t.Fatal(err)
		}
		b.observeLANTLS(b.m)
		if got := condition(b.Gateway, codeLANCert+device); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("a certificate for %v: %q", life, got)
		}
	}

	r, _ := b.report()
	if l := r.Facts.LANTLS; l == nil || l.Authority == "" || len(l.Devices) != 1 || l.Devices[0].TLS != 1 || l.Devices[0].Refused != 1 || l.Devices[0].Until.IsZero() {
		t.Errorf("the report: %+v", l)
	}
	before := news(r)
	b.lanTLS.book.Enter(ct)
	if again, _ := b.report(); news(again) != before {
		t.Error("one more association is news")
	}
	ct.Calling = "CT2"
	b.lanTLS.book.Enter(ct)
	if again, _ := b.report(); news(again) == before {
		t.Error("a new device is none")
	}
	r, _ = b.report()
	before = news(r)
	b.lanTLS.book.Set(nil, nil)
	if again, _ := b.report(); news(again) == before {
		t.Error("that cleartext ends no more is none")
	}
}

// A clock that is set back does not open what has ended.
func TestCleartextGoesByTheFloor(t *testing.T) {
	b := newBox(t)
	floor := time.Now().Add(48 * time.Hour)
	b.lanTLS.book.Set([]lantls.Rule{{Until: time.Now().Add(24 * time.Hour)}}, nil)
	ct := lantls.Visit{Source: netip.MustParseAddr("192.168.1.40"), Service: "pacs"}
	if why := b.lanTLS.book.Enter(ct); why != "" {
		t.Fatal(why)
	}
	if err := b.opt.Dir.RaiseTimeFloor(floor); err != nil {
		t.Fatal(err)
	}
	b.checkClock()
	if why := b.lanTLS.book.Enter(ct); why == "" {
		t.Error("open again, although the box has lived through the end")
	}
}

func TestDevicesOutliveARestart(t *testing.T) {
	b := newBox(t)
	b.lanTLS.book.Enter(lantls.Visit{Source: netip.MustParseAddr("192.168.1.40"), Protocol: "hl7", Service: "his", Calling: "LAB^NORTH"})
	b.saveLANBook()
	again, err := openLANTLS(b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if d := again.book.Devices(); len(d) != 1 || d[0].Calling != "LAB^NORTH" || d[0].Cleartext.Count != 1 || d[0].Cleartext.Last.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestCertificatesOverTheSocket(t *testing.T) {
	b := newBox(t)
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	socket := filepath.Join(t.TempDir(), state.SocketFile)
	go func() { _ = localapi.Serve(t.Context(), socket, b, localapi.QueuesOf(q)) }()
	c, ctx := localapi.NewClient(socket), t.Context()
	var l localapi.LAN
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if l, err = c.LAN(ctx); err == nil {
			break
		}
	}
	if err != nil || l.Authority != "" {
		t.Fatalf("%+v, %v", l, err)
	}
	issued, err := c.Issue(ctx, sitecert.Request{Device: "CT1", Password: "secret"})
	if err != nil || !strings.Contains(issued.Key, "PRIVATE KEY") || len(issued.PKCS12) == 0 {
		t.Fatal(err)
	}
	if _, err := c.Issue(ctx, sitecert.Request{}); err == nil || !strings.Contains(err.Error(), "1 to 64") {
		t.Error("no name:", err)
	}
	if err := errors.Join(c.Revoke(ctx, issued.Issued.Serial)); err != nil {
		t.Error(err)
	}
	if err := c.Revoke(ctx, "12"); !errors.Is(err, localapi.ErrNoCertificate) {
		t.Error(err)
	}
	file, err := c.BackupAuthority(ctx, "a long passphrase")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RestoreAuthority(ctx, file, "a long passphrase"); err != nil {
		t.Error(err)
	}
	if err := c.RestoreAuthority(ctx, file, "another one"); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Error(err)
	}
	if l, err = c.LAN(ctx); err != nil || len(l.Issued) != 1 || l.Issued[0].Revoked.IsZero() || l.Authority == "" {
		t.Errorf("%+v, %v", l, err)
	}
}
