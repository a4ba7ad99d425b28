package dicom

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// StudyRootFind is the query by which an archive is asked for an object (PS3.4 annex C).
const StudyRootFind = "1.2.840.10008.5.1.4.1.2.2.1"

const (
	// maxAnswers is how many responses that do not match are read: some archives ignore keys they do not support.
	maxAnswers = 64
	// maxAnswer bounds one of them in bytes.
	maxAnswer = 64 << 10
	// reportPoll is how often a waiting asker looks at both places where a report may arrive.
	reportPoll = 50 * time.Millisecond
	// maxAsked is how many questions may fail on the way before an archive counts as one that cannot be asked.
	maxAsked = 5
)

// asker asks an archive whether it has an object: by storage commitment if it offers that, else by C-FIND at IMAGE level.
type asker struct {
	*user
	commitments *Commitments
	wait        time.Duration // for a report
	patience    time.Duration // for a report that arrives on an association of its own
	mute        bool          // a report did not come in time: C-FIND, where there is one, is quicker
}

var askKinds = []kind{
	{class: StorageCommitment, syntax: ImplicitLittleEndian}, {class: StudyRootFind, syntax: ImplicitLittleEndian},
}

// reference is what the archive is asked for.
type reference struct {
	class, instance string
	place           place
}

// ask returns evPresent, evAbsent, evUnaskable, or evSilent with the reason.
func (k *asker) ask(ctx context.Context, calling string, ref reference, d *doubt) (deliveryEvent, error) {
	ev, err := k.question(ctx, calling, ref, d)
	if ev != evSilent {
		k.commitments.forget(d.transaction)
		d.transaction = nil
	}
	return ev, err
}

func (k *asker) question(ctx context.Context, calling string, ref reference, d *doubt) (deliveryEvent, error) {
	if ev, ok := k.reported(d, ref); ok {
		return ev, nil
	}
	if err := k.associate(ctx, calling); err != nil {
		return k.failed(err, d)
	}
	_, cannotFind := k.accepted(askKinds[1])
	if id, err := k.accepted(askKinds[0]); err == nil && (!k.mute || cannotFind != nil) {
		if ev, err := k.commit(ctx, id, ref, d); err != nil || ev != evSilent {
			return k.judged(ev, err, d)
		}
		if err := k.associate(ctx, calling); err != nil { // waiting for the report may have cost the association
			return k.failed(err, d)
		}
	}
	if id, err := k.accepted(askKinds[1]); err == nil {
		if ev, err := k.find(ctx, id, ref); err != nil || ev != evUnaskable {
			return k.judged(ev, err, d)
		}
	}
	if d.transaction != nil && time.Since(d.since) < k.patience {
		return evSilent, fmt.Errorf("%s has not yet reported on a storage commitment", k.calledAE)
	}
	return evUnaskable, nil
}

// associate opens an association unless there is one that fits.
func (k *asker) associate(ctx context.Context, calling string) error {
	if k.a != nil && time.Since(k.used) > staleAfter && !k.a.Alive() {
		k.drop()
	}
	if k.a != nil && k.calling == calling {
		return nil
	}
	k.release(ctx)
	return k.open(ctx, calling, askKinds)
}

func (k *asker) judged(ev deliveryEvent, err error, d *doubt) (deliveryEvent, error) {
	if err != nil {
		return k.failed(err, d)
	}
	return ev, nil
}

// failed judges an error on the way. An archive that is away is waited for; one that does not let us ask, or breaks off again and
// again when asked, cannot be asked.
func (k *asker) failed(err error, d *doubt) (deliveryEvent, error) {
	if rejected, ok := errors.AsType[*ul.RejectedError](err); ok && rejected.RJ.Result == pdu.RejectedPermanent {
		return evUnaskable, nil
	}
	if !isA[*dialError](err) {
		d.asked++
	}
	if d.asked >= maxAsked {
		return evUnaskable, nil
	}
	return evSilent, fmt.Errorf("ask %s for an object that it may have: %w", k.calledAE, err)
}

// find asks by C-FIND. It returns evUnaskable if the archive answers with a failure, or with everything.
func (k *asker) find(ctx context.Context, id uint8, ref reference) (deliveryEvent, error) {
	b := appendUI(nil, tagSOPInstance, ref.instance)
	b = appendElement(b, tagQueryLevel, []byte("IMAGE"), ' ')
	if ref.place.study != "" {
		b = appendUI(b, tagStudyInstance, ref.place.study)
	}
	if ref.place.series != "" {
		b = appendUI(b, tagSeriesInstance, ref.place.series)
	}
	set := dimse.FindRQ{MessageID: k.nextMessage(), SOPClass: StudyRootFind}.Set()
	if err := k.send(ctx, id, &set, b); err != nil {
		return 0, err
	}
	found := false
	for range maxAnswers {
		m, err := k.receive(ctx, maxAnswer)
		if err != nil {
			return 0, err
		}
		resp, err := k.responseTo(m)
		if err != nil {
			k.drop()
			return 0, err
		}
		switch resp.Status.Class() {
		case dimse.ClassPending:
			found = found || instanceOf(m.data, m.enc) == ref.instance
		case dimse.ClassSuccess:
			if found {
				return evPresent, nil
			}
			return evAbsent, nil
		default:
			return evUnaskable, nil
		}
	}
	k.drop()
	if found {
		return evPresent, nil
	}
	return evUnaskable, nil
}

func instanceOf(b []byte, enc encoding) string {
	for s := (elements{b: b, enc: enc}); ; {
		e, err := s.next()
		if err != nil || e.tag > tagSOPInstance {
			return ""
		}
		if e.tag == tagSOPInstance {
			return e.text()
		}
	}
}

// commit asks by storage commitment. It returns evSilent when no report came in time, or one that decides nothing.
func (k *asker) commit(ctx context.Context, id uint8, ref reference, d *doubt) (deliveryEvent, error) {
	if d.transaction == nil {
		uid, err := newUID()
		if err != nil {
			return 0, err
		}
		d.transaction = k.commitments.expect(uid)
		set := dimse.ActionRQ{
			MessageID: k.nextMessage(), SOPClass: StorageCommitment, SOPInstance: commitmentInstance, Action: requestCommitment,
		}.Set()
		if err := k.send(ctx, id, &set, commitmentRequest(uid, ref.class, ref.instance)); err != nil {
			return 0, err
		}
		if refused, err := k.actionAnswered(ctx, d.transaction); err != nil || refused {
			k.commitments.forget(d.transaction)
			d.transaction = nil
			return evSilent, err
		}
	}
	if err := k.await(ctx, d.transaction); err != nil {
		return 0, err
	}
	k.mute = len(d.transaction.report) == 0
	ev, _ := k.reported(d, ref)
	return ev, nil
}

// actionAnswered waits for the answer to the N-ACTION, before which the report itself may come.
func (k *asker) actionAnswered(ctx context.Context, t *transaction) (refused bool, err error) {
	for range maxAnswers {
		m, err := k.receive(ctx, maxReport)
		if err != nil {
			return false, err
		}
		if m.set.CommandField() == dimse.NEventReportRQ {
			if err := k.heard(ctx, m, t); err != nil {
				return false, err
			}
			continue
		}
		resp, err := k.responseTo(m)
		if err != nil {
			k.drop()
			return false, err
		}
		return resp.Status.Class() != dimse.ClassSuccess && resp.Status.Class() != dimse.ClassWarning, nil
	}
	k.drop()
	return false, errors.New("nothing but reports instead of an answer")
}

// await waits for the report, on this association or another one. That the archive ends this one is no error: then it reports on
// another.
func (k *asker) await(ctx context.Context, t *transaction) error {
	deadline := time.Now().Add(k.wait)
	poll := time.NewTicker(reportPoll)
	defer poll.Stop()
	for len(t.report) == 0 && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
		if k.a == nil || k.a.Alive() {
			continue
		}
		m, err := k.receive(ctx, maxReport)
		if err == nil && m.set.CommandField() == dimse.NEventReportRQ {
			err = k.heard(ctx, m, t)
		}
		if err != nil {
			k.drop()
		}
	}
	return nil
}

// heard confirms a report on this association.
func (k *asker) heard(ctx context.Context, m message, t *transaction) error {
	r := parseReport(m.data, m.enc)
	answer := dimse.Respond(&m.set, dimse.Success, "").Set()
	if r.transaction == t.uid {
		t.arrived(r)
	}
	return k.send(ctx, m.context, &answer, nil)
}

// reported looks whether a report has arrived and decides. One that decides nothing is forgotten, so that the next question is a new
// one.
func (k *asker) reported(d *doubt, ref reference) (deliveryEvent, bool) {
	if d.transaction == nil || len(d.transaction.report) == 0 {
		return evSilent, false
	}
	r := <-d.transaction.report
	k.commitments.forget(d.transaction)
	d.transaction = nil
	switch r.objects[ref.instance] {
	case committed:
		return evPresent, true
	case missing:
		return evAbsent, true
	default:
		return evSilent, false
	}
}

// newUID draws a UID from a random UUID (PS3.5 §B.2).
func newUID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw a UID: %w", err)
	}
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80 // version 4, RFC 9562 §5.4
	return "2.25." + new(big.Int).SetBytes(b[:]).String(), nil
}
