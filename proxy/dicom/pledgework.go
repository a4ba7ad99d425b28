package dicom

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

const (
	// pledgeEvery is how often what waits is looked through.
	pledgeEvery = time.Second
	// pledgeGiveUp is how long an archive may take to confirm what it has, pledgeReport how long its report is waited for before it is asked
	// again.
	pledgeGiveUp = 24 * time.Hour
	pledgeReport = time.Hour
	// The pauses between two tries.
	pledgePause    = 2 * time.Second
	pledgePauseMax = 10 * time.Minute
	// maxRefusals is how often a device may refuse to hear an outcome.
	maxRefusals = 5
	// listShare is how much of the time may be spent on looking what is in the queue: a 20th.
	listShare = 20
	// maxListed is how many items of the queue are looked at; in what is behind them, everything may be.
	maxListed = 20000
)

// PledgeWork says where the worker of a Pledges asks and tells.
type PledgeWork struct {
	// Network, Target and CalledAE are the archive's, as in SinkConfig.
	Network  proxy.Network
	Target   string
	CalledAE string
	// AskingAE is the calling AE title by which the archive is asked; empty means that of the device. To it the archive reports, if it does
	// so on an association of its own, which must then come to a Router that has the same Commitments.
	AskingAE    string
	Commitments *Commitments
	// Items lists the queue, oldest first.
	Items func(limit int) ([]spool.Item, error)
	// Devices is the network of the devices, and Address where a device listens for outcomes; empty for nobody knows.
	Devices proxy.Network
	Address func(calling string, from netip.Addr) string
	// Twin may be nil.
	Twin *Twin
	// ReportWait is how long a report is waited for on the association of the question. 0 means 10 s.
	ReportWait time.Duration
	Limits     Limits
}

// Work asks the archive for what was delivered and tells devices, until ctx is done. It calls config before each round, since archive and
// devices may move.
func (p *Pledges) Work(ctx context.Context, config func() PledgeWork) {
	w := &pledgeWorker{Pledges: p}
	tick := time.NewTicker(pledgeEvery)
	defer tick.Stop()
	for {
		w.PledgeWork = config()
		if w.ReportWait <= 0 {
			w.ReportWait = DefaultReportWait
		}
		w.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.changed:
		}
	}
}

type pledgeWorker struct {
	*Pledges
	PledgeWork
	listNext time.Time
	mute     bool // the last report did not come on the association of the question
}

func (w *pledgeWorker) round(ctx context.Context) {
	var queue map[string]spool.Item // by SOP instance UID
	var complete bool
	for _, g := range w.list() {
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case now.Sub(g.Received) > pledgeAge:
			w.log.Error("the outcome of a storage commitment was given up: its device did not hear it within a week", "calling", g.Calling, "problem", g.problem)
			w.Commitments.forget(g.report)
			w.forget(g, func(c *PledgeCounts) { c.Lost++ })
		case !g.Decided.IsZero():
			w.tell(ctx, g, now)
		case g.report != nil || !g.Asked.IsZero():
			w.await(g, now)
		case now.Before(g.next):
		default:
			if queue == nil {
				if now.Before(w.listNext) {
					continue
				}
				if queue, complete = w.listQueue(now); queue == nil {
					return
				}
			}
			if w.ready(g, queue, complete) {
				w.question(ctx, g, now)
			}
		}
	}
}

// listQueue returns what is in the queue, and whether that is all; nil if it cannot be read.
func (w *pledgeWorker) listQueue(began time.Time) (map[string]spool.Item, bool) {
	items, err := w.Items(maxListed)
	w.listNext = time.Now().Add(listShare * time.Since(began))
	if err != nil {
		w.log.Warn("the queue cannot be read for storage commitments", "error", err)
		return nil, false
	}
	out := make(map[string]spool.Item, len(items))
	for _, it := range items {
		uid := it.Meta.Attributes[AttrSOPInstance]
		if old, twice := out[uid]; !twice || old.State == spool.StateParked {
			out[uid] = it // one that is still to be delivered counts
		}
	}
	return out, len(items) < maxListed
}

// ready reports whether all objects have left the queue, or are parked, which is an outcome.
func (w *pledgeWorker) ready(g *pledge, queue map[string]spool.Item, complete bool) bool {
	wait := !complete
	for _, o := range g.Objects {
		if it, there := queue[o.Instance]; there && it.State != spool.StateParked && !o.decided() {
			wait = true
		}
	}
	if wait {
		return false
	}
	for i := range g.Objects {
		o := &g.Objects[i]
		if it, there := queue[o.Instance]; there && !o.decided() {
			k := kind{class: o.Class, syntax: it.Meta.Attributes[AttrTransferSyntax]}
			o.Reason = parkedReason(it.LastError, w.Twin.refuses(k) != "")
		}
	}
	return true
}

// decide ends the wait for the archive.
func (w *pledgeWorker) decide(g *pledge, now time.Time, change func()) {
	w.Commitments.forget(g.report)
	w.keep(g, func() {
		change()
		g.Decided, g.report, g.problem, g.tries, g.next = now, nil, "", 0, time.Time{}
	})
}

// later puts the next try off.
func (w *pledgeWorker) later(g *pledge, now time.Time, problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g.next = now.Add(min(pledgePause<<min(g.tries, 12), pledgePauseMax))
	g.tries++
	g.problem = problem
}

// question asks the archive for all objects that have no outcome.
func (w *pledgeWorker) question(ctx context.Context, g *pledge, now time.Time) {
	objects := g.undecided()
	if len(objects) == 0 {
		w.decide(g, now, func() {})
		return
	}
	calling := w.AskingAE
	uid := g.Transaction
	if calling == "" {
		calling = g.Calling
	}
	if calling != g.Calling || len(objects) < len(g.Objects) {
		// Only a whole request of the device itself may reach it under its own number from elsewhere.
		var err error
		if uid, err = newUID(); err != nil {
			w.later(g, now, err.Error())
			return
		}
	}
	k := &asker{user: newUser(w.Network, w.Target, w.CalledAE, w.Limits, w.log), commitments: w.Commitments, wait: w.ReportWait}
	if w.mute {
		k.wait = min(k.wait, time.Second)
	}
	err := w.ask(ctx, k, g, calling, uid, objects)
	k.release(context.WithoutCancel(ctx))
	switch {
	case ctx.Err() != nil:
	case isA[*notAcceptedError](err):
		w.log.Warn("the archive offers no storage commitment", "called", w.CalledAE)
		w.decide(g, now, func() { g.failRest(reasonNoClass) })
	case err != nil && now.Sub(g.Received) > pledgeGiveUp:
		w.decide(g, now, func() { g.failRest(reasonProcessing) })
	case err != nil:
		w.later(g, now, err.Error())
	default:
		w.await(g, time.Now())
	}
}

// ask sends the request and waits a while for the report on the same association.
func (w *pledgeWorker) ask(ctx context.Context, k *asker, g *pledge, calling, uid string, objects []promise) error {
	if err := k.open(ctx, calling, askKinds[:1]); err != nil {
		return err
	}
	id, err := k.accepted(askKinds[0])
	if err != nil {
		return err
	}
	t := w.Commitments.expect(uid)
	set := dimse.ActionRQ{
		MessageID: k.nextMessage(), SOPClass: StorageCommitment, SOPInstance: commitmentInstance, Action: requestCommitment,
	}.Set()
	err = k.send(ctx, id, &set, requestFor(uid, objects))
	refused := false
	if err == nil {
		refused, err = k.actionAnswered(ctx, t)
	}
	if err == nil && refused {
		err = fmt.Errorf("%s refused to take the request for storage commitment: look for the reason in its log", w.CalledAE)
	}
	if err != nil {
		w.Commitments.forget(t)
		return err
	}
	w.keep(g, func() { g.Asked, g.AskedUID, g.report, g.problem = time.Now(), uid, t, "" })
	err = k.await(ctx, t)
	w.mute = len(t.report) == 0
	return err
}

// await looks for the report of the archive.
func (w *pledgeWorker) await(g *pledge, now time.Time) {
	if g.report == nil {
		g.report = w.Commitments.expect(g.AskedUID) // asked before a restart
	}
	select {
	case r := <-g.report.report:
		w.decide(g, now, func() { g.settle(r); g.failRest(reasonProcessing) })
		return
	default:
	}
	if now.Sub(g.Asked) < pledgeReport {
		return
	}
	w.Commitments.forget(g.report)
	if g.AskedUID == g.Transaction {
		// The archive may have told the device itself, since it was asked in its name.
		w.log.Warn("the archive has not reported on a storage commitment here: it may have reported to the device", "calling", g.Calling, "called", w.CalledAE)
		w.forget(g, func(c *PledgeCounts) { c.Lost++ })
		return
	}
	w.keep(g, func() { g.Asked, g.AskedUID, g.report = time.Time{}, "", nil })
	if now.Sub(g.Received) > pledgeGiveUp {
		w.decide(g, now, func() { g.failRest(reasonProcessing) })
		return
	}
	w.later(g, now, fmt.Sprintf("%s has taken the request for storage commitment and has not reported within %v", w.CalledAE, pledgeReport))
}

// tell tells a device the outcome on an association of our own.
func (w *pledgeWorker) tell(ctx context.Context, g *pledge, now time.Time) {
	if !w.tellable(g, now) {
		return
	}
	err := w.report(ctx, g)
	switch refused, isRefusal := errors.AsType[*refusalError](err); {
	case err == nil:
		w.told(g)
		return
	case ctx.Err() != nil:
		w.release(g, "")
		return
	case isRefusal:
		if g.refused++; g.refused >= maxRefusals || refused.status.Class() == dimse.ClassPermanent {
			w.log.Warn("a device did not want to hear the outcome of its storage commitment", "calling", g.Calling, "status", refused.status.Code())
			w.told(g)
			return
		}
	}
	w.release(g, "")
	w.later(g, now, err.Error())
}

// refusalError is a device's answer to a report.
type refusalError struct{ status dimse.Status }

func (e *refusalError) Error() string {
	return "the device answered the report of its storage commitment with status " + e.status.String()
}

// report associates with the device in the archive's role (PS3.4 §J.3.3).
func (w *pledgeWorker) report(ctx context.Context, g *pledge) error {
	target := ""
	if w.Address != nil {
		target = w.Address(g.Calling, g.From)
	}
	if target == "" {
		return fmt.Errorf("nobody knows where %s listens for the outcome of its storage commitment: set --report-port of the service, "+
			"or let the device keep its association open", printable(g.Calling))
	}
	u := newUser(w.Devices, target, g.Calling, w.Limits, w.log)
	if err := u.openProposal(ctx, ul.Proposal{
		CallingAE: g.Called, CalledAE: g.Calling,
		Contexts: []pdu.ProposedContext{{ID: 1, AbstractSyntax: StorageCommitment, TransferSyntaxes: []string{ImplicitLittleEndian}}},
		Roles:    []pdu.Role{{SOPClass: StorageCommitment, SCP: true}},
	}); err != nil {
		return fmt.Errorf("tell %s the outcome of its storage commitment at %s: %w", printable(g.Calling), target, err)
	}
	defer u.release(context.WithoutCancel(ctx))
	if _, ok := u.a.Context(1); !ok {
		return fmt.Errorf("%s at %s does not accept reports of storage commitments", printable(g.Calling), target)
	}
	event, data := g.event(encoding{order: binary.LittleEndian})
	k := &asker{user: u}
	set := dimse.EventReportRQ{
		MessageID: u.nextMessage(), SOPClass: StorageCommitment, SOPInstance: commitmentInstance, Event: event,
	}.Set()
	if err := k.send(ctx, 1, &set, data); err != nil {
		return err
	}
	m, err := k.receive(ctx, maxAnswer)
	if err != nil {
		return err
	}
	resp, err := k.responseTo(m)
	if err != nil {
		k.drop()
		return err
	}
	if c := resp.Status.Class(); c != dimse.ClassSuccess && c != dimse.ClassWarning {
		return &refusalError{resp.Status}
	}
	return nil
}

// ReportAddress is the usual Address: the address that the device called from, with one port for all.
func ReportAddress(port int) func(string, netip.Addr) string {
	return func(_ string, from netip.Addr) string {
		if port == 0 || !from.IsValid() {
			return ""
		}
		return net.JoinHostPort(from.Unmap().String(), fmt.Sprint(port))
	}
}
