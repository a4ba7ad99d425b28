package dicom_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// ruled is a queued route on the loopback interface, where sources have addresses.
func ruled(t *testing.T, rules dicom.Rules, book *dicom.Devices, echo func(context.Context, string) error) (address string, results <-chan proxy.Result) {
	t.Helper()
	rules.Site = "north"
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: &memoryQueue{}, Devices: book, Limits: dicom.Limits{Close: 10 * time.Millisecond},
		Routes: []dicom.Route{{Service: "pacs", AETitle: "PACS", Mode: dicom.Queued, QueueName: "q", Rules: rules, FarEcho: echo}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, loopback{}, r)
}

// request associates as calling and returns the rejection; nil for none.
func request(t *testing.T, address, calling, class string) *pdu.AssociateRJ {
	t.Helper()
	c, err := loopback{}.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	a, err := ul.Request(t.Context(), c, ul.Proposal{
		CallingAE: calling, CalledAE: "PACS",
		Contexts: []pdu.ProposedContext{{ID: 1, AbstractSyntax: class, TransferSyntaxes: []string{implicit}}},
	}, ul.Config{})
	if rejected, ok := errors.AsType[*ul.RejectedError](err); ok {
		return &rejected.RJ
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	return nil
}

func TestRulesExplainThemselves(t *testing.T) {
	byUser := func(reason uint8) *pdu.AssociateRJ {
		return &pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: reason}
	}
	here, elsewhere := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.168.1.7")
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	caller := byUser(pdu.UserCallingAE)
	for name, tc := range map[string]struct {
		rules     dicom.Rules
		decisions []dicom.Decision
		calling   string
		want      *pdu.AssociateRJ
		says      []string
	}{
		"no rules":        {dicom.Rules{}, nil, "CT1", nil, nil},
		"listed":          {dicom.Rules{Callers: []string{"MR1", "CT1"}}, nil, "CT1", nil, nil},
		"other case":      {dicom.Rules{Callers: []string{"CT1"}}, nil, "ct1", caller, []string{`"ct1"`, `"CT1" may`, "upper and lower case", "--caller"}},
		"other blanks":    {dicom.Rules{Callers: []string{"CT_1"}}, nil, "CT 1", caller, []string{`"CT_1" may`, "blanks, hyphens"}},
		"not listed":      {dicom.Rules{Callers: []string{"CT1"}}, nil, "MR1", caller, []string{`"MR1"`, "towpath service set pacs --caller"}},
		"from here":       {dicom.Rules{Sources: prefix("127.0.0.0/8")}, nil, "CT1", nil, nil},
		"from elsewhere":  {dicom.Rules{Sources: prefix("10.0.0.0/8")}, nil, "CT1", byUser(pdu.UserNoReason), []string{"127.0.0.1", "10.0.0.0/8", "--source"}},
		"denied":          {dicom.Rules{}, []dicom.Decision{{AETitle: "CT1", Denied: true}}, "CT1", caller, []string{"denied", "device approve --site north CT1"}},
		"denied there":    {dicom.Rules{}, []dicom.Decision{{AETitle: "CT1", Denied: true, Address: elsewhere}}, "CT1", nil, nil},
		"approved":        {dicom.Rules{Approved: true}, []dicom.Decision{{AETitle: "CT1"}}, "CT1", nil, nil},
		"approved here":   {dicom.Rules{Approved: true}, []dicom.Decision{{AETitle: "CT1", Denied: true}, {AETitle: "CT1", Address: here}}, "CT1", nil, nil},
		"approved there":  {dicom.Rules{Approved: true}, []dicom.Decision{{AETitle: "CT1", Address: elsewhere}}, "CT1", caller, []string{"not at 127.0.0.1", "moved"}},
		"nobody knows it": {dicom.Rules{Approved: true}, nil, "CT 1", caller, []string{"nobody has approved", "device approve --site north 'CT 1'"}},
		"nearly approved": {dicom.Rules{Approved: true}, []dicom.Decision{{AETitle: "CT1"}}, "Ct1", caller, []string{`"CT1" may`, "upper and lower case"}},
		"unknown, open":   {dicom.Rules{}, []dicom.Decision{{AETitle: "CT1"}}, "MR1", nil, nil},
	} {
		book := dicom.NewDevices(nil)
		book.Decide(tc.decisions)
		address, results := ruled(t, tc.rules, book, nil)
		if diff := cmp.Diff(tc.want, request(t, address, tc.calling, ctStorage)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		res := <-results
		for _, s := range tc.says {
			if !strings.Contains(res.Detail, s) {
				t.Errorf("%s: %q does not say %q", name, res.Detail, s)
			}
		}
		if (res.Outcome == proxy.OutcomeRefused) != (tc.want != nil) {
			t.Errorf("%s: %s", name, res.Outcome)
		}
		// Who is turned away is noted, too: that is what an operator looks for.
		if l := book.List(); len(l) != 1 || l[0].AETitle != tc.calling || l[0].Address != here || len(l[0].Services) != 1 {
			t.Errorf("%s: the book says %+v", name, l)
		}
	}
}

func TestRateOfADevice(t *testing.T) {
	address, results := ruled(t, dicom.Rules{Rate: 3}, dicom.NewDevices(nil), nil)
	for i := range 5 {
		rj := request(t, address, "CT1", ctStorage)
		res := <-results
		switch {
		case i < 3 && rj != nil:
			t.Errorf("association %d: %s", i, rj)
		case i >= 3 && (rj == nil || *rj != pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourcePresentation, Reason: pdu.PresentationLocalLimit}):
			t.Errorf("association %d: %v", i, rj)
		case i >= 3 && !strings.Contains(res.Detail, "more than 3 associations"):
			t.Errorf("association %d: %s", i, res.Detail)
		}
	}
	if rj := request(t, address, "MR1", ctStorage); rj != nil {
		t.Errorf("another device: %s", rj)
	}
}

func TestRuleOfSOPClasses(t *testing.T) {
	address, results := ruled(t, dicom.Rules{Classes: []string{mrStorage}}, nil, nil)
	if rj := request(t, address, "CT1", mrStorage); rj != nil {
		t.Errorf("rejected with %s", rj)
	}
	if res := <-results; res.Outcome != proxy.OutcomeDone {
		t.Errorf("%+v", res)
	}
	if rj := request(t, address, "CT1", ctStorage); rj != nil {
		t.Errorf("rejected with %s", rj)
	}
	if res := <-results; res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, "service set pacs --sop-class") {
		t.Errorf("%+v", res)
	}
}

func TestEchoOfTheArchive(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{{nil, ""}, {errors.New("PACS is off"), "0110"}} {
		asked := ""
		address, results := ruled(t, dicom.Rules{}, nil, func(_ context.Context, calling string) error { asked = calling; return tc.err })
		_, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: loopback{}, Target: address, CallingAE: "CT1", CalledAE: "PACS"})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || asked != "CT1" {
			t.Errorf("the echo says %v, asked as %q", err, asked)
		}
		if res := <-results; (tc.err != nil) != strings.Contains(res.Detail, "PACS is off") {
			t.Errorf("%+v", res)
		}
	}
}

func TestDevicesAreBounded(t *testing.T) {
	var saved []dicom.Device
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i := range 600 {
		at := start.Add(time.Duration(i) * time.Minute)
		saved = append(saved, dicom.Device{AETitle: fmt.Sprintf("D%d", i), Address: netip.MustParseAddr("127.0.0.2"), First: at, Last: at, State: "approved"})
	}
	book := dicom.NewDevices(saved)
	l := book.List()
	if len(l) != 512 || l[0].State != "unknown" {
		t.Fatalf("%d devices, the first %+v", len(l), l[0])
	}
	address, results := ruled(t, dicom.Rules{}, book, nil)
	if rj := request(t, address, "NEW", ctStorage); rj != nil {
		t.Fatal(rj)
	}
	<-results
	names := map[string]bool{}
	for _, d := range book.List() {
		names[d.AETitle] = true
	}
	if len(names) != 512 || !names["NEW"] || names["D0"] || !names["D1"] {
		t.Errorf("%d devices are kept, the new one %v, the oldest %v", len(names), names["NEW"], names["D0"])
	}
}

func TestReportAddressOfADevice(t *testing.T) {
	here := netip.MustParseAddr("192.168.1.7")
	book := dicom.NewDevices(nil)
	book.Decide([]dicom.Decision{{AETitle: "CT1", Report: "ct1.lan:104"}, {AETitle: "CT1", Address: here, Report: "192.168.1.9:105"}, {AETitle: "MR1"}})
	for _, tc := range []struct {
		ae   string
		from netip.Addr
		want string
	}{{"CT1", here, "192.168.1.9:105"}, {"CT1", netip.MustParseAddr("192.168.1.8"), "ct1.lan:104"}, {"MR1", here, ""}, {"XX", here, ""}} {
		if got := book.Report(tc.ae, tc.from); got != tc.want {
			t.Errorf("%s at %v reports to %q, want %q", tc.ae, tc.from, got, tc.want)
		}
	}
	usual := dicom.ReportAddress(104)
	if got := usual("CT1", here); got != net.JoinHostPort("192.168.1.7", "104") {
		t.Errorf("usually at %q", got)
	}
	if got := dicom.ReportAddress(0)("CT1", here) + usual("CT1", netip.Addr{}); got != "" {
		t.Errorf("nobody knows, and yet at %q", got)
	}
}
