package dicom_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

const commitInstance = "1.2.840.10008.1.20.1.1"

// outcome is what a device hears, or an archive is asked.
type outcome struct {
	Transaction string
	Good        []string
	Bad         map[string]uint16 // failure reasons
}

// readOutcome reads a data set of storage commitment in Implicit VR Little Endian.
func readOutcome(b []byte) outcome {
	o := outcome{Bad: map[string]uint16{}}
	bad, last := false, ""
	for len(b) >= 8 {
		tag := uint32(binary.LittleEndian.Uint16(b))<<16 | uint32(binary.LittleEndian.Uint16(b[2:]))
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if b = b[8:]; tag == 0xFFFEE000 {
			continue
		}
		switch tag {
		case 0x00081198, 0x00081199:
			bad = tag == 0x00081198
			continue
		case 0x00081195:
			o.Transaction = strings.Trim(string(b[:n]), "\x00")
		case 0x00081155:
			if last = strings.Trim(string(b[:n]), "\x00"); bad {
				o.Bad[last] = 0
			} else {
				o.Good = append(o.Good, last)
			}
		case 0x00081197:
			o.Bad[last] = binary.LittleEndian.Uint16(b)
		}
		b = b[n:]
	}
	return o
}

// commitData is the data set of a request or report.
func commitData(transaction string, good []string, bad map[string]uint16) []byte {
	var list, failed []byte
	for _, uid := range good {
		list = append(list, implicitEl(0xFFFE, 0xE000, append(implicitUI(0x0008, 0x1150, ctStorage), implicitUI(0x0008, 0x1155, uid)...))...)
	}
	for uid, reason := range bad {
		it := append(implicitUI(0x0008, 0x1150, ctStorage), implicitUI(0x0008, 0x1155, uid)...)
		failed = append(failed, implicitEl(0xFFFE, 0xE000, append(it, implicitEl(0x0008, 0x1197, binary.LittleEndian.AppendUint16(nil, reason))...))...)
	}
	b := implicitUI(0x0008, 0x1195, transaction)
	if failed != nil {
		b = append(b, implicitEl(0x0008, 0x1198, failed)...)
	}
	if list != nil {
		b = append(b, implicitEl(0x0008, 0x1199, list)...)
	}
	return b
}

// vault is an archive that commits to what it has.
type vault struct {
	mu     sync.Mutex
	has    map[string]bool
	offers bool
	down   bool
	asked  []outcome
	as     []string // calling AE titles
}

func (v *vault) with(f func(*vault)) { v.mu.Lock(); defer v.mu.Unlock(); f(v) }

func (v *vault) Serve(ctx context.Context, c net.Conn) proxy.Result {
	in, err := ul.Receive(ctx, c, ul.Config{})
	if err != nil {
		return proxy.Result{}
	}
	var offers, down bool
	v.with(func(v *vault) { offers, down = v.offers, v.down })
	if down {
		_ = in.Reject(ctx, pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourcePresentation, Reason: pdu.PresentationCongestion})
		return proxy.Result{}
	}
	var answer []pdu.AcceptedContext
	for _, pc := range in.RQ.Contexts {
		ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]}
		if pc.AbstractSyntax == dicom.StorageCommitment && !offers {
			ac.Result = pdu.ContextAbstractSyntax
		}
		answer = append(answer, ac)
	}
	a, err := in.Accept(ctx, answer)
	for err == nil {
		err = v.message(ctx, a)
	}
	return proxy.Result{}
}

func (v *vault) message(ctx context.Context, a *ul.Association) error {
	id, command, err := a.Receive(ctx)
	if err != nil {
		return err
	}
	set, err := dimse.Decode(command)
	if err != nil || set.CommandField().IsResponse() {
		return err
	}
	b, err := io.ReadAll(a.Data(ctx, id))
	if err != nil {
		return err
	}
	answer := dimse.Respond(&set, dimse.Success, "").Set()
	if _, err := a.Send(ctx, id, answer.Encode(), nil); err != nil {
		return err
	}
	if set.CommandField() == dimse.CStoreRQ {
		v.with(func(v *vault) { v.has[set.Text(dimse.TagAffectedSOPInstance)] = true })
		return nil
	}
	q := readOutcome(b)
	var good []string
	bad := map[string]uint16{}
	v.with(func(v *vault) {
		v.asked, v.as = append(v.asked, q), append(v.as, a.Request().CallingAE)
		for _, uid := range q.Good {
			if v.has[uid] {
				good = append(good, uid)
			} else {
				bad[uid] = 0x0112
			}
		}
	})
	event := dimse.EventReportRQ{MessageID: 1, SOPClass: dicom.StorageCommitment, SOPInstance: commitInstance, Event: 1}.Set()
	_, err = a.Send(ctx, id, event.Encode(), bytes.NewReader(commitData(q.Transaction, good, bad)))
	return err
}

// committing is a queued route with a real queue and Pledges in front of a vault.
type committing struct {
	t       *testing.T
	n       *proxytest.Network
	vault   *vault
	spool   *spool.Spool
	dir     string
	pledges *dicom.Pledges
	address string
	archive string
	work    dicom.PledgeWork
	stop    func()
}

func newCommitting(t *testing.T, change func(*dicom.PledgeWork)) *committing {
	t.Helper()
	c := &committing{t: t, n: proxytest.NewNetwork(), vault: &vault{has: map[string]bool{}, offers: true}, dir: filepath.Join(t.TempDir(), "pledges")}
	var err error
	if c.spool, err = spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.spool.Close() })
	c.archive, _ = serve(t, c.n, c.vault)
	c.work = dicom.PledgeWork{
		Network: c.n, Target: c.archive, CalledAE: "PACS", Commitments: dicom.NewCommitments(), Devices: c.n,
		Items: func(limit int) ([]spool.Item, error) { return c.spool.List("q", limit) },
	}
	if change != nil {
		change(&c.work)
	}
	c.start()
	t.Cleanup(func() { c.stop() })
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: c.spool, Routes: []dicom.Route{{Service: "images", Mode: dicom.Queued, QueueName: "q", Pledges: c.pledges}},
		Limits: dicom.Limits{Close: 10 * time.Millisecond}, Commitments: c.work.Commitments,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.address, _ = serve(t, c.n, r)
	return c
}

// start opens the Pledges and works on them until stop.
func (c *committing) start() {
	c.t.Helper()
	var err error
	if c.pledges, err = dicom.OpenPledges(c.dir, nil); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.pledges.Work(ctx, func() dicom.PledgeWork { return c.work }) }()
	c.stop = sync.OnceFunc(func() { cancel(); <-done; _ = c.pledges.Close() })
}

// device is an association of a device, with objects stored and commitment asked for.
func (c *committing) device(transaction string, instances ...string) *ul.Association {
	c.t.Helper()
	a := associate(c.t, c.n, c.address, "ANY", context1(ctStorage, implicit), context1(dicom.StorageCommitment, implicit))
	for _, uid := range instances {
		if resp := call(c.t, a, 1, ctStore(uid), strings.NewReader(dataSet(uid, "DOE"))); resp.Status != dimse.Success {
			c.t.Fatalf("stored with %s", resp.Status)
		}
	}
	if status := c.ask(a, commitData(transaction, instances, nil)); status != dimse.Success {
		c.t.Fatalf("asked with %s", status)
	}
	return a
}

func (c *committing) ask(a *ul.Association, data []byte) dimse.Status {
	c.t.Helper()
	rq := dimse.ActionRQ{MessageID: 3, SOPClass: dicom.StorageCommitment, SOPInstance: commitInstance, Action: 1}
	return call(c.t, a, 3, rq.Set(), bytes.NewReader(data)).Status
}

// deliver empties the queue into the vault, with items refused for good by status.
func (c *committing) deliver(refuse map[string]string) {
	c.t.Helper()
	sink := dicom.NewSink(dicom.SinkConfig{Network: c.n, Target: c.archive, CalledAE: "PACS"})
	defer sink.Idle()
	for range c.spool.Stats()[0].Queued {
		l, err := c.spool.Next(c.t.Context(), "q")
		if err != nil {
			c.t.Fatal(err)
		}
		if why := refuse[l.Item().Meta.Attributes[dicom.AttrSOPInstance]]; why != "" {
			if err := l.Park(fmt.Errorf("PACS refused the object with status %s (so)", why)); err != nil {
				c.t.Fatal(err)
			}
			continue
		}
		f, err := l.Open()
		if err != nil {
			c.t.Fatal(err)
		}
		r, err := sink.Deliver(c.t.Context(), l.Item(), f)
		if err != nil || f.Close() != nil || l.Done(r) != nil {
			c.t.Fatal(err)
		}
	}
}

// hear waits for a report on an association and answers it.
func hear(t *testing.T, a *ul.Association) (uint16, outcome) {
	t.Helper()
	id, command, err := a.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := dimse.Decode(command)
	if err != nil || set.CommandField() != dimse.NEventReportRQ {
		t.Fatalf("%v, %v", set.CommandField(), err)
	}
	b, err := io.ReadAll(a.Data(t.Context(), id))
	if err != nil {
		t.Fatal(err)
	}
	answer := dimse.Respond(&set, dimse.Success, "").Set()
	if _, err := a.Send(t.Context(), id, answer.Encode(), nil); err != nil {
		t.Fatal(err)
	}
	event, _ := set.US(dimse.TagEventType)
	return event, readOutcome(b)
}

// listening is a device that hears reports on associations of the gateway.
func (c *committing) listening(status dimse.Status) (address string, heard <-chan outcome) {
	out := make(chan outcome, 10)
	address, _ = serve(c.t, c.n, proxy.HandlerFunc(func(ctx context.Context, conn net.Conn) proxy.Result {
		in, err := ul.Receive(ctx, conn, ul.Config{})
		if err != nil {
			return proxy.Result{}
		}
		roles := in.RQ.UserInfo.Roles
		if in.RQ.CalledAE != "CT1" || in.RQ.CallingAE != "ANY" || len(roles) != 1 || roles[0] != (pdu.Role{SOPClass: dicom.StorageCommitment, SCP: true}) {
			c.t.Errorf("%s calls %s with the roles %v", in.RQ.CallingAE, in.RQ.CalledAE, roles)
		}
		a, err := in.Accept(ctx, []pdu.AcceptedContext{{ID: 1, TransferSyntax: implicit}})
		if err != nil {
			return proxy.Result{}
		}
		id, command, err := a.Receive(ctx)
		if err != nil {
			return proxy.Result{}
		}
		set, _ := dimse.Decode(command)
		b, _ := io.ReadAll(a.Data(ctx, id))
		answer := dimse.Respond(&set, status, "").Set()
		_, _ = a.Send(ctx, id, answer.Encode(), nil)
		out <- readOutcome(b)
		_, _, _ = a.Receive(ctx)
		return proxy.Result{}
	}))
	return address, out
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if f() {
			tick.Stop()
			return
		}
		select {
		case <-deadline:
			t.Fatal("it never happened: " + what)
		case <-tick.C:
		}
	}
}

func TestCommitmentOnTheSameAssociation(t *testing.T) {
	c := newCommitting(t, nil)
	a := c.device("1.2.9.1", "1.2.1", "1.2.2")
	if !a.Silent(1200 * time.Millisecond) {
		t.Error("the device heard something before its objects were delivered")
	}
	c.vault.with(func(v *vault) {
		if len(v.asked) != 0 {
			t.Errorf("the archive was asked before it had the objects: %v", v.asked)
		}
	})
	if n := c.pledges.Counts(); n.Waiting != 1 || n.Untold != 0 {
		t.Errorf("%+v", n)
	}
	c.deliver(nil)
	event, got := hear(t, a)
	want := outcome{Transaction: "1.2.9.1", Good: []string{"1.2.1", "1.2.2"}, Bad: map[string]uint16{}}
	if diff := cmp.Diff(want, got); diff != "" || event != 1 {
		t.Errorf("event %d (-want +got):\n%s", event, diff)
	}
	eventually(t, "the request has ended", func() bool { n := c.pledges.Counts(); return n.Told == 1 && n.Waiting+n.Untold == 0 })
	if files, err := os.ReadDir(c.dir); err != nil || len(files) != 0 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
	// The whole request is asked in the device's name, under its own number.
	c.vault.with(func(v *vault) {
		if len(v.asked) != 1 || v.asked[0].Transaction != "1.2.9.1" || v.as[0] != "CT1" {
			t.Errorf("asked %v as %v", v.asked, v.as)
		}
	})
	// The association is still good for other things.
	if resp := call(t, a, 1, ctStore("1.2.3"), strings.NewReader("more")); resp.Status != dimse.Success {
		t.Errorf("stored with %s", resp.Status)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A restart between request and outcome, a device that has left, an object that the archive refused, one that it does not have, and one that
// nobody has ever seen.
func TestCommitmentOutlivesARestart(t *testing.T) {
	var address string
	c := newCommitting(t, func(w *dicom.PledgeWork) {
		w.AskingAE = "BOX"
		w.Address = func(calling string, from netip.Addr) string {
			if calling != "CT1" {
				t.Errorf("the address of %s is looked for", calling)
			}
			return address
		}
	})
	address, heard := c.listening(dimse.Success)
	a := c.device("1.2.9.1", "1.2.1", "1.2.2", "1.2.3", "1.2.4")
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.stop()
	c.start()
	c.deliver(map[string]string{"1.2.2": "0122", "1.2.3": "A700"})
	c.vault.with(func(v *vault) { delete(v.has, "1.2.4") })
	want := outcome{Transaction: "1.2.9.1", Good: []string{"1.2.1"}, Bad: map[string]uint16{"1.2.2": 0x0122, "1.2.3": 0x0213, "1.2.4": 0x0112}}
	if diff := cmp.Diff(want, <-heard); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.vault.with(func(v *vault) {
		if len(v.asked) != 1 || v.asked[0].Transaction == "1.2.9.1" || v.as[0] != "BOX" || len(v.asked[0].Good) != 2 {
			t.Errorf("asked %v as %v", v.asked, v.as)
		}
	})
	eventually(t, "the request has ended", func() bool { n := c.pledges.Counts(); return n.Told == 1 && n.Failures == 1 && n.Waiting+n.Untold == 0 })
}

func TestCommitmentWithoutTheArchive(t *testing.T) {
	// Who is asked is not who stores, so that the one can be down while the other is not.
	asked := &vault{has: map[string]bool{}, down: true}
	c := newCommitting(t, func(w *dicom.PledgeWork) { w.Target, _ = serve(t, w.Network, asked) })
	a := c.device("1.2.9.1", "1.2.1")
	c.deliver(nil)
	eventually(t, "the trouble is told", func() bool { return strings.Contains(c.pledges.Counts().Problem, "busy") })
	asked.with(func(v *vault) { v.down = false })
	_, got := hear(t, a)
	if diff := cmp.Diff(map[string]uint16{"1.2.1": 0x0122}, got.Bad); diff != "" || len(got.Good) != 0 {
		t.Errorf("an archive without storage commitment: %+v", got)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// Nobody knows where the device listens: the outcome waits for its next association.
func TestCommitmentOnTheNextAssociation(t *testing.T) {
	c := newCommitting(t, nil)
	a := c.device("1.2.9.1", "1.2.1")
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.deliver(nil)
	eventually(t, "the trouble is told", func() bool { return strings.Contains(c.pledges.Counts().Problem, "--report-port") })
	if n := c.pledges.Counts(); n.Untold != 1 || n.Told != 0 {
		t.Errorf("%+v", n)
	}
	next := associate(t, c.n, c.address, "ANY", context1(dicom.StorageCommitment, implicit))
	if _, got := hear(t, next); got.Transaction != "1.2.9.1" || len(got.Good) != 1 {
		t.Errorf("%+v", got)
	}
	if err := next.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCommitmentRequestsThatAreRefused(t *testing.T) {
	c := newCommitting(t, nil)
	a := c.device("1.2.9.1", "1.2.1")
	good := commitData("1.2.9.2", []string{"1.2.1"}, nil)
	for name, tc := range map[string]struct {
		rq   dimse.ActionRQ
		data []byte
		want dimse.Status
	}{
		"again":         {dimse.ActionRQ{SOPInstance: commitInstance, Action: 1}, commitData("1.2.9.1", []string{"1.2.1"}, nil), dimse.Success},
		"other objects": {dimse.ActionRQ{SOPInstance: commitInstance, Action: 1}, commitData("1.2.9.1", []string{"1.2.2"}, nil), dimse.ProcessingFailure},
		"other action":  {dimse.ActionRQ{SOPInstance: commitInstance, Action: 2}, good, dimse.NoSuchAction},
		"other object":  {dimse.ActionRQ{SOPInstance: "1.2.3", Action: 1}, good, dimse.NoSuchInstance},
		"no objects":    {dimse.ActionRQ{SOPInstance: commitInstance, Action: 1}, commitData("1.2.9.2", nil, nil), dimse.InvalidArgument},
		"no number":     {dimse.ActionRQ{SOPInstance: commitInstance, Action: 1}, commitData("", []string{"1.2.1"}, nil), dimse.InvalidArgument},
		"nonsense":      {dimse.ActionRQ{SOPInstance: commitInstance, Action: 1}, append(good, 1, 2, 3), dimse.InvalidArgument},
	} {
		tc.rq.MessageID, tc.rq.SOPClass = 7, dicom.StorageCommitment
		if got := call(t, a, 3, tc.rq.Set(), bytes.NewReader(tc.data)).Status; got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	if files, err := os.ReadDir(c.dir); err != nil || len(files) != 1 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for i := 0; ; i++ {
		status := c.ask(a, commitData(fmt.Sprintf("1.2.10.%d", i), []string{"1.2.1"}, nil))
		if status == dimse.Success && i < 1100 {
			continue
		}
		if status != dimse.ResourceLimitation || i != 1023 {
			t.Errorf("after %d more: %s", i, status)
		}
		break
	}
	a.Abort()
}

// An archive that is known to offer no commitment is not promised for.
func TestCommitmentAsTheTwinSays(t *testing.T) {
	pledges, err := dicom.OpenPledges(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pledges.Close() }()
	for _, tc := range []struct {
		caps *dicom.Capabilities
		want pdu.ContextResult
	}{
		{nil, pdu.ContextAccepted},
		{knows("V1", append(askedClasses, dicom.StorageCommitment), smallKinds...), pdu.ContextAbstractSyntax},
		{knows("V1", askedClasses, dicom.StorageCommitment+" "+implicit), pdu.ContextAccepted},
	} {
		n := proxytest.NewNetwork()
		twin := dicom.NewTwins(nil).Of("images")
		if tc.caps != nil {
			twin.Set(tc.caps)
		}
		r, err := dicom.NewRouter(dicom.RouterConfig{
			Queue: &memoryQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q", Twin: twin, Pledges: pledges}},
			Limits: dicom.Limits{Close: 10 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		address, results := serve(t, n, r)
		a := associate(t, n, address, "ANY", context1(dicom.StorageCommitment, explicit, implicit))
		if got := a.Accepted().Contexts[0]; got.Result != tc.want || got.Result == 0 && got.TransferSyntax != implicit {
			t.Errorf("%+v: %+v", tc.caps, got)
		}
		release(t, a, results)
	}
}
