package dicom_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

// knows makes Capabilities of an archive that was asked for the classes and takes the kinds.
func knows(version string, classes []string, kinds ...string) *dicom.Capabilities {
	c := &dicom.Capabilities{
		Probed: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), CallingAE: "TOWPATH", ImplementationClass: "1.2.3", ImplementationVersion: version,
		Syntaxes: []string{implicit, explicit, bigEndian, jpeg2000, jpegLossless, mpeg4}, Classes: map[string]uint64{},
	}
	for _, class := range classes {
		c.Classes[class] = 0
	}
	for _, k := range kinds {
		class, syntax, _ := strings.Cut(k, " ")
		for i, s := range c.Syntaxes {
			if s == syntax {
				c.Classes[class] |= 1 << i
			}
		}
	}
	return c
}

var askedClasses = []string{ctStorage, mrStorage, usStorage}

// newTwinned is newQueued in front of an archive that is known.
func newTwinned(t *testing.T, hold bool, c *dicom.Capabilities) (*queued, *dicom.Twin) {
	t.Helper()
	q := &queued{queue: &memoryQueue{}, network: proxytest.NewNetwork()}
	twin := dicom.NewTwins(nil).Of("images")
	if c != nil {
		twin.Set(c)
	}
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Routes: []dicom.Route{{Service: "images", Mode: dicom.Queued, QueueName: "to-center", Twin: twin, Hold: hold}}, Queue: q.queue,
		Limits: dicom.Limits{Close: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	q.address, q.results = serve(t, q.network, r)
	return q, twin
}

func TestTwinAnswersAsTheArchive(t *testing.T) {
	accepted, noClass, noSyntax := pdu.ContextAccepted, pdu.ContextAbstractSyntax, pdu.ContextTransferSyntaxes
	const odd = "1.2.840.10008.5.1.4.1.1.999.7"
	strict, strictTwin := newTwinned(t, false, knows("V1", askedClasses, smallKinds...))
	hold, _ := newTwinned(t, true, knows("V1", askedClasses, smallKinds...))
	unknown, _ := newTwinned(t, false, nil)
	for _, tc := range []struct {
		abstract string
		offered  []string
		result   pdu.ContextResult
		chosen   string
		held     string // what is chosen where everything is accepted
	}{
		{ctStorage, []string{jpeg2000, implicit, explicit}, accepted, explicit, explicit},
		{mrStorage, []string{explicit, implicit}, accepted, implicit, explicit},
		{mrStorage, []string{explicit}, noSyntax, "", explicit},
		{mrStorage, []string{jpeg2000, explicit}, noSyntax, "", explicit},
		{usStorage, []string{implicit, explicit, mpeg4}, accepted, mpeg4, explicit},
		{"1.2.840.10008.5.1.4.1.1.128", []string{explicit}, accepted, explicit, explicit}, // nobody asked for it
		{odd, []string{explicit}, accepted, explicit, explicit},                           // nor for this
		{dicom.Verification, []string{implicit}, accepted, implicit, implicit},
		{findStudy, []string{implicit}, noClass, "", ""},
	} {
		for name, q := range map[string]*queued{"strict": strict, "hold": hold, "unknown": unknown} {
			result, chosen := tc.result, tc.chosen
			if name != "strict" && tc.held != "" {
				result, chosen = accepted, tc.held
			}
			a := associate(t, q.network, q.address, "ANY", context1(tc.abstract, tc.offered...))
			if got := a.Accepted().Contexts[0]; got.Result != result || result == accepted && got.TransferSyntax != chosen {
				t.Errorf("%s: %s in %v: %s, %s", name, tc.abstract, tc.offered, got.Result, got.TransferSyntax)
			}
			release(t, a, q.results)
		}
	}
	if diff := cmp.Diff([]string{"1.2.840.10008.5.1.4.1.1.128", odd}, strictTwin.Wanted()); diff != "" {
		t.Errorf("what is to be asked for (-want +got):\n%s", diff)
	}
	// A class that the archive was asked for and takes nothing of.
	strictTwin.Set(knows("V1", askedClasses, ctStorage+" "+explicit))
	a := associate(t, strict.network, strict.address, "ANY", context1(mrStorage, explicit, implicit))
	if got := a.Accepted().Contexts[0].Result; got != noClass {
		t.Errorf("a refused SOP class gets %s", got)
	}
	res := release(t, a, strict.results)
	if res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, mrStorage) || !strings.Contains(res.Detail, "as of 2026-11-22T10:00:00Z") {
		t.Errorf("%s: %s", res.Outcome, res.Detail)
	}
	if s := strictTwin.Status(); s.TurnedAway.Calling != "CT1" || s.TurnedAway.Reason != res.Detail || s.TurnedAway.Count == 0 {
		t.Errorf("%+v", s.TurnedAway)
	}
}

func ctStore(instance string) dimse.Set {
	return dimse.StoreRQ{MessageID: 1, SOPClass: ctStorage, SOPInstance: instance, HasDataSet: true}.Set()
}

// What an archive refuses is not taken for it, even where the context was accepted when it still took it.
func TestTwinStatus0122(t *testing.T) {
	for _, hold := range []bool{false, true} {
		want := map[bool]dimse.Status{false: dimse.SOPClassNotSupported, true: dimse.Success}[hold]
		q, twin := newTwinned(t, hold, knows("V1", askedClasses, smallKinds...))
		a := associate(t, q.network, q.address, "ANY", context1(ctStorage, explicit))
		if resp := call(t, a, 1, ctStore("1.2.1"), strings.NewReader("x1")); resp.Status != dimse.Success {
			t.Fatalf("before: %s", resp.Status)
		}
		twin.Set(knows("V2", askedClasses, ctStorage+" "+jpeg2000))
		if resp := call(t, a, 1, ctStore("1.2.2"), strings.NewReader("x2")); resp.Status != want {
			t.Errorf("hold %v, after a change: %s", hold, resp.Status)
		}
		twin.Set(knows("V2", askedClasses, smallKinds...))
		if resp := call(t, a, 1, ctStore("1.2.3"), strings.NewReader("x3")); resp.Status != dimse.Success {
			t.Errorf("hold %v, after the next change: %s", hold, resp.Status)
		}
		release(t, a, q.results)
		if ch := twin.Status().Change; ch.Gained == 0 || ch.Lost != 0 {
			t.Errorf("the last change was %+v", ch)
		}
	}
}

// An archive that accepts a context and answers 0122 to the object is believed for its SOP class, until it takes one or has other software.
func TestArchiveThatAnswers0122(t *testing.T) {
	pacs := &fakePACS{status: dimse.SOPClassNotSupported}
	q, twin := newTwinned(t, false, knows("V1", askedClasses, smallKinds...))
	target, _ := serve(t, q.network, pacs)
	sink := dicom.NewSink(dicom.SinkConfig{Network: q.network, Target: target, CalledAE: "PACS", Twin: twin})
	deliver := func(instance string) error {
		_, err := sink.Deliver(t.Context(), item("CT1", ctStorage, explicit, instance), strings.NewReader("x"))
		return err
	}
	if err := deliver("1.2.1"); !isPermanent(err) {
		t.Fatalf("delivered with %v", err)
	}
	store := func() dimse.Status {
		a := associate(t, q.network, q.address, "ANY", context1(ctStorage, explicit))
		defer release(t, a, q.results)
		return call(t, a, 1, ctStore("1.2.9"), strings.NewReader("x")).Status
	}
	if got := store(); got != dimse.SOPClassNotSupported {
		t.Errorf("a device hears %s", got)
	}
	if diff := cmp.Diff([]string{ctStorage}, twin.Status().Refused); diff != "" {
		t.Error(diff)
	}
	pacs.with(func(p *fakePACS) { p.status = dimse.Success })
	if err := deliver("1.2.2"); err != nil {
		t.Fatal(err)
	}
	if got := store(); got != dimse.Success {
		t.Errorf("after the archive has taken one, a device hears %s", got)
	}
	sink.Idle()
}

// Whatever contradicts what is known is reason to ask again.
func TestContradictionsAreDoubt(t *testing.T) {
	for name, tc := range map[string]struct {
		caps   *dicom.Capabilities
		refuse map[string]bool
		doubt  string
	}{
		"as known":         {knows("TOWPATH_1", askedClasses, smallKinds...), nil, ""},
		"other software":   {knows("V0", askedClasses, smallKinds...), nil, "software"},
		"refused now":      {knows("TOWPATH_1", askedClasses, smallKinds...), map[string]bool{explicit: true}, "refused"},
		"refused before":   {knows("TOWPATH_1", askedClasses, ctStorage+" "+implicit), nil, "accepted"},
		"never asked for":  {knows("TOWPATH_1", []string{mrStorage}, mrStorage+" "+explicit), nil, "was not asked for"},
		"nothing is known": {nil, nil, ""},
	} {
		n := proxytest.NewNetwork()
		target, _ := serve(t, n, &fakePACS{refuse: tc.refuse})
		twins := dicom.NewTwins(nil)
		twin := twins.Of("images")
		if tc.caps != nil {
			tc.caps.ImplementationClass = ul.ImplementationClass
			twin.Set(tc.caps)
		}
		sink := dicom.NewSink(dicom.SinkConfig{Network: n, Target: target, CalledAE: "PACS", Twin: twin})
		_, _ = sink.Deliver(t.Context(), item("CT1", ctStorage, explicit, "1.2.1"), strings.NewReader("x"))
		sink.Idle()
		if got := twin.Status().Doubt; (got == "") != (tc.doubt == "") || !strings.Contains(got, tc.doubt) {
			t.Errorf("%s: the doubt is %q", name, got)
		}
		if woken := len(twins.Doubted()) == 1; woken != (tc.doubt != "") {
			t.Errorf("%s: somebody is woken: %v", name, woken)
		}
	}
}

// behind is a gateway in front of an archive, as another gateway sees it.
func behind(t *testing.T, n proxy.Network, twin *dicom.Twin, target string) string {
	t.Helper()
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{{
		Service: "images", AETitle: "PACS", Mode: dicom.PassThrough, Network: n, Target: target, Twin: twin,
	}}, Limits: dicom.Limits{Close: 10 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, n, r)
	return address
}

func TestTwinTravels(t *testing.T) {
	n := proxytest.NewNetwork()
	target, _ := serve(t, n, &fakePACS{})
	probes := 0
	var problem error
	var next *dicom.Capabilities
	var there *dicom.Twins
	there = dicom.NewTwins(func(_ context.Context, service string) error {
		probes++
		if problem == nil {
			there.Of(service).Set(next)
		}
		return problem
	})
	address := behind(t, n, there.Of("images"), target)
	here := dicom.NewTwins(nil).Of("images")
	fetch := func(fresh bool) error {
		return here.Fetch(t.Context(), dicom.FetchConfig{Network: n, Target: address, CalledAE: "PACS", Fresh: fresh})
	}
	check := func(step string, wantProbes int, want *dicom.Capabilities) {
		t.Helper()
		if probes != wantProbes {
			t.Errorf("%s: the archive was asked %d times, want %d", step, probes, wantProbes)
		}
		if diff := cmp.Diff(want, here.Capabilities()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	problem = errors.New("the archive is off")
	if err := fetch(false); err == nil || err.Error() != problem.Error() {
		t.Errorf("the error says %v", err)
	}
	check("archive off", 1, nil)
	problem, next = nil, knows("V1", askedClasses, smallKinds...)
	if err := fetch(false); err != nil {
		t.Fatal(err)
	}
	check("first", 2, next)
	if err := fetch(false); err != nil {
		t.Fatal(err)
	}
	check("known", 2, next)
	old := next
	next = knows("V2", askedClasses, smallKinds[1:]...)
	next.Probed = old.Probed.Add(time.Hour)
	if err := fetch(false); err != nil {
		t.Fatal(err)
	}
	check("nobody asked", 2, old)
	if err := fetch(true); err != nil {
		t.Fatal(err)
	}
	check("fresh", 3, next)
	want := dicom.TwinChange{At: next.Probed, From: "V1", To: "V2", Lost: 1}
	if diff := cmp.Diff(want, here.Status().Change); diff != "" {
		t.Error(diff)
	}
}

// Who else uses the service goes on through the gateway, and is known as one whom the archive accepts.
func TestTwinDoesNotDisturb(t *testing.T) {
	n := proxytest.NewNetwork()
	target, _ := serve(t, n, &fakePACS{})
	twin := dicom.NewTwins(nil).Of("images")
	a := associate(t, n, behind(t, n, twin, target), "PACS", context1(ctStorage, explicit))
	if resp := call(t, a, 1, ctStore("1.2.1"), strings.NewReader("x1")); resp.Status != dimse.Success {
		t.Errorf("status %s", resp.Status)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"CT1"}, twin.Callers()); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyTellsOfTheArchive(t *testing.T) {
	n := proxytest.NewNetwork()
	knowsNothing := &pickyArchive{takes: func(string, string) bool { return false }}
	target, _ := serve(t, n, knowsNothing)
	rejects, _ := serve(t, n, &pickyArchive{caller: "CT1"})
	for name, address := range map[string]string{
		"no gateway": target, "older gateway": behind(t, n, nil, target), "archive that rejects": rejects,
	} {
		here := dicom.NewTwins(nil).Of("images")
		err := here.Fetch(t.Context(), dicom.FetchConfig{Network: n, Target: address, CalledAE: "PACS"})
		if !errors.Is(err, dicom.ErrNoTwin) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := dicom.NewTwins(nil).Of("images").Fetch(t.Context(), dicom.FetchConfig{Network: n, Target: "127.0.0.1:1", CalledAE: "PACS"})
	if errors.Is(err, dicom.ErrNoTwin) || err == nil {
		t.Errorf("unreachable: %v", err)
	}
}

// The same presentation contexts are put to storescp with a profile of its own and to the gateway that stands for it.
func TestDcmtkTwinIsTheArchive(t *testing.T) {
	address := restricted(t)
	q, _ := newTwinned(t, false, probe(t, address, "ANY"))
	for _, class := range []string{ctStorage, mrStorage, usStorage, "1.2.840.10008.5.1.4.1.1.7"} {
		var contexts []pdu.ProposedContext
		for _, s := range []string{implicit, explicit, bigEndian, jpeg2000, jpegLossless, mpeg4, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"} {
			contexts = append(contexts, context1(class, s))
		}
		there := associate(t, loopback{}, address, "ANY", contexts...)
		here := associate(t, q.network, q.address, "ANY", contexts...)
		for i := range contexts {
			want, got := there.Accepted().Contexts[i].Result, here.Accepted().Contexts[i].Result
			if (want == pdu.ContextAccepted) != (got == pdu.ContextAccepted) {
				t.Errorf("%s in %v: the archive says %s, the gateway %s", class, contexts[i].TransferSyntaxes, want, got)
			}
		}
		release(t, here, q.results)
		if err := there.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// storescu with two transfer syntaxes in one context: the gateway chooses what the archive takes, and the archive gets it so.
func TestDcmtkStoresThroughTwin(t *testing.T) {
	address := restricted(t)
	q := &queued{queue: &memoryQueue{}}
	twin := dicom.NewTwins(nil).Of("images")
	twin.Set(probe(t, address, "ANY"))
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Routes: []dicom.Route{{Service: "images", Mode: dicom.Queued, QueueName: "to-center", Twin: twin}}, Queue: q.queue,
	})
	if err != nil {
		t.Fatal(err)
	}
	near, results := serve(t, loopback{}, r)
	file := samples(t)[0] // CT image, explicit
	host, p, _ := net.SplitHostPort(near)
	out, err := run(t, "storescu", "-aec", "ANY", host, p, file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if res := <-results; res.Items != 1 {
		t.Fatalf("%+v", res)
	}
	items, _ := q.queue.state()
	sink := dicom.NewSink(dicom.SinkConfig{Network: loopback{}, Target: address, CalledAE: "ANY", Twin: twin})
	defer sink.Idle()
	if _, err := sink.Deliver(t.Context(), items[0].Item, strings.NewReader(string(items[0].payload))); err != nil {
		t.Error(err)
	}
	if s := twin.Status(); s.Doubt != "" {
		t.Errorf("the archive did otherwise than known: %s", s.Doubt)
	}
}
