package gateway

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
)

// serveDICOM serves a handler on the loopback interface.
func serveDICOM(t *testing.T, h proxy.Handler) (address string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	srv := proxy.NewServer(proxy.ServerConfig{Name: "test", Listener: l, Handler: h})
	go func() { defer close(done); _ = srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l.Addr().String()
}

// conditionsOf are the codes and severities under a prefix.
func (b *box) conditionsOf(prefix string) map[string]health.Severity {
	out := map[string]health.Severity{}
	for _, c := range b.health.List() {
		if strings.HasPrefix(c.Code, prefix) {
			out[c.Code] = c.Severity
		}
	}
	return out
}

// TestTwinsFromArchiveToClinic has the center's box ask an archive and the clinic's box ask the center's.
func TestTwinsFromArchiveToClinic(t *testing.T) {
	archive, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: t.TempDir(), AETitle: "PACS"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }()
	target := serveDICOM(t, archive)

	center := newBox(t)
	center.plan.Offers = []wire.Offer{{Service: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Port: 11112, Target: target}}
	center.twins.round(t.Context())
	own := center.twins.all.Of("pacs").Status()
	if own.Classes < 100 || own.CallingAE != "TOWPATH" || own.Failure.Reason != "" {
		t.Fatalf("%+v", own)
	}
	if f := center.twins.facts(); len(f) != 1 || f[0].Classes != own.Classes || !f[0].Probed.Equal(own.Probed) {
		t.Errorf("the coordinator hears %+v", f)
	}
	center.twins.round(t.Context())
	if again := center.twins.all.Of("pacs").Status(); !again.Probed.Equal(own.Probed) {
		t.Error("the archive was asked twice within a moment")
	}
	if s, err := center.ProbeService(t.Context(), "pacs"); err != nil || !s.Probed.After(own.Probed) {
		t.Errorf("a person's question: %+v, %v", s, err)
	}
	if _, err := center.ProbeService(t.Context(), "other"); err == nil {
		t.Error("a service that is not there was asked")
	}

	// The door of the center's box on the overlay.
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{{
		Service: "pacs", AETitle: "PACS", Mode: dicom.PassThrough, Network: center.lan, Target: target, Twin: center.twins.all.Of("pacs"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	door := serveDICOM(t, r)
	clinic := newBox(t)
	clinic.dev.dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", door)
	}
	clinic.plan.Uses = []wire.Use{{
		Service: "pacs", Protocol: wire.DICOM, Mode: wire.Queued, AETitle: "PACS", LANPort: 11112, Address: netip.MustParseAddrPort("10.201.0.2:11112"),
	}}
	clinic.started = time.Now().Add(-time.Hour)
	clinic.observeTwins(clinic.plan, time.Now())
	if got := clinic.conditionsOf(codeArchive); len(got) != 1 || got["archive/pacs"] != health.Info {
		t.Errorf("before anything is known: %v", got)
	}
	clinic.twins.round(t.Context())
	here, there := clinic.twins.all.Of("pacs").Capabilities(), center.twins.all.Of("pacs").Capabilities()
	if here == nil || !here.Same(there) || !here.Probed.Equal(there.Probed) {
		t.Fatalf("the clinic knows %+v", clinic.twins.all.Of("pacs").Status())
	}
	clinic.observeTwins(clinic.plan, time.Now())
	if got := clinic.conditionsOf(codeArchive); len(got) != 0 {
		t.Errorf("all is known: %v", got)
	}
	if st := clinic.Status(t.Context()); len(st.Archives) != 1 || !st.Archives[0].Probed.Equal(there.Probed) {
		t.Errorf("status %+v", st.Archives)
	}

	// What is known outlives a restart without a line, and has an age.
	clinic.dev.dial = nil
	restarted := newTwins(clinic.Gateway)
	if c := restarted.all.Of("pacs").Capabilities(); c == nil || !c.Same(there) {
		t.Error("a restart has forgotten what the archive accepts")
	}
	restarted.round(t.Context())
	if s := restarted.all.Of("pacs").Status(); s.Failure.Reason == "" || !s.Probed.Equal(there.Probed) {
		t.Errorf("without a line: %+v", s)
	}
	clinic.Gateway.twins = restarted
	clinic.observeTwins(clinic.plan, there.Probed.Add(archiveStale+time.Hour))
	if got := clinic.conditionsOf(codeArchive); got["archive/pacs"] != health.Info {
		t.Errorf("days later: %v", got)
	}
}

// TestTwinsTellOfTrouble is an archive that is off, and one that has lost a kind.
func TestTwinsTellOfTrouble(t *testing.T) {
	b := newBox(t)
	b.started = time.Now().Add(-time.Hour)
	b.plan.Offers = []wire.Offer{{Service: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Port: 11112, Target: "127.0.0.1:1"}}
	b.twins.round(t.Context())
	b.observeTwins(b.plan, time.Now())
	if got := b.conditionsOf(codeArchive); len(got) != 1 || got["archive/pacs"] != health.Warning {
		t.Errorf("an archive that is off: %v", got)
	}
	twin := b.twins.all.Of("pacs")
	caps := func(class uint64) *dicom.Capabilities {
		return &dicom.Capabilities{
			Probed: time.Now(), Syntaxes: []string{dicom.ImplicitLittleEndian, dicom.ExplicitLittleEndian},
			Classes: map[string]uint64{"1.2.840.10008.5.1.4.1.1.2": class},
		}
	}
	twin.Set(caps(3))
	twin.Set(caps(1))
	b.observeTwins(b.plan, time.Now())
	if got := b.conditionsOf(codeArchive); len(got) != 1 || got["archive/changed/pacs"] != health.Warning {
		t.Errorf("an archive that takes less: %v", got)
	}
	b.observeTwins(b.plan, time.Now().Add(25*time.Hour))
	if got := b.conditionsOf(codeArchive); len(got) != 0 {
		t.Errorf("a day later: %v", got)
	}
}

// TestTwinsWait is when the next question is due.
func TestTwinsWait(t *testing.T) {
	b := newBox(t)
	now := time.Now()
	own, used := archive{service: "own", own: true}, archive{service: "used"}
	known := func(service string, age time.Duration) *dicom.Twin {
		twin := b.twins.all.Of(service)
		twin.Set(&dicom.Capabilities{Probed: now.Add(-age), Syntaxes: []string{dicom.ImplicitLittleEndian}, Classes: map[string]uint64{}})
		b.twins.asked[service] = now.Add(-age)
		return twin
	}
	for _, tc := range []struct {
		a    archive
		age  time.Duration
		fail int
		due  bool
	}{
		{own, time.Hour, 0, false},
		{own, 25 * time.Hour, 0, true},
		{used, 5 * time.Minute, 0, false},
		{used, 11 * time.Minute, 0, true},
		{own, 30 * time.Second, 1, false},
		{own, 90 * time.Second, 1, true},
		{own, 90 * time.Second, 3, false},
		{own, 50 * time.Minute, 99, false},
		{own, 61 * time.Minute, 99, true},
	} {
		twin := known(tc.a.service, tc.age)
		for range tc.fail {
			twin.Fail(errNoRoute, now)
		}
		if got := b.twins.due(tc.a, now); got != tc.due {
			t.Errorf("%+v: due is %v", tc, got)
		}
	}
	// After a restart the daily round goes on from when the archive was asked.
	known("own", 2*time.Hour)
	delete(b.twins.asked, "own")
	if b.twins.due(own, now) || !b.twins.due(own, now.Add(23*time.Hour)) {
		t.Error("a restart asks at once, or never")
	}
}
