package dicom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// maxContexts is how many presentation contexts an association can have (PS3.8 §9.3.2.2).
const maxContexts = 128

// kind is what a presentation context is about. Each one gets a context of its own with this single transfer syntax: in a shared
// context the acceptor would choose, and we would have to decompress.
type kind struct{ class, syntax string }

// user is the service class user that Echo, Store and the Sink share: a caller that keeps at most one association open.
type user struct {
	network  proxy.Network
	target   string
	calledAE string
	limits   Limits
	log      *slog.Logger
	roles    []pdu.Role // asked for in open, besides that of the user

	conn     net.Conn
	a        *ul.Association
	calling  string
	proposed map[kind]uint8 // context IDs
	message  uint16         // ID of the last request
	used     time.Time      // end of the last exchange

	connectTime, associateTime time.Duration
}

// open associates as calling and proposes kinds, at most 128. Errors are sentences for a technician.
func (u *user) open(ctx context.Context, calling string, kinds []kind) error {
	proposed := make(map[kind]uint8, len(kinds))
	contexts := make([]pdu.ProposedContext, 0, len(kinds))
	for i, k := range kinds {
		id := uint8(2*i + 1)
		proposed[k] = id
		contexts = append(contexts, pdu.ProposedContext{ID: id, AbstractSyntax: k.class, TransferSyntaxes: []string{k.syntax}})
	}
	if err := u.openContexts(ctx, calling, contexts); err != nil {
		return err
	}
	u.proposed = proposed
	return nil
}

// openContexts is open for contexts of any form.
func (u *user) openContexts(ctx context.Context, calling string, contexts []pdu.ProposedContext) error {
	return u.openProposal(ctx, ul.Proposal{CallingAE: calling, CalledAE: u.calledAE, Contexts: contexts, Roles: u.roles})
}

func (u *user) openProposal(ctx context.Context, p ul.Proposal) error {
	began := time.Now()
	dial, cancel := context.WithTimeout(ctx, u.limits.Dial)
	defer cancel()
	conn, err := u.network.DialContext(dial, "tcp", u.target)
	if err != nil {
		return &dialError{target: u.target, err: err}
	}
	u.connectTime = time.Since(began)
	began = time.Now()
	a, err := ul.Request(ctx, conn, p, u.limits.upper(u.log))
	if err != nil {
		_ = conn.Close() // there is nothing left to lose on it
		return u.explain(err, p.CallingAE)
	}
	u.associateTime = time.Since(began)
	u.conn, u.a, u.calling, u.proposed, u.message, u.used = conn, a, p.CallingAE, nil, 0, time.Now()
	return nil
}

// dialError means that the device cannot be reached.
type dialError struct {
	target string
	err    error
}

func (e *dialError) Error() string {
	return fmt.Sprintf("cannot connect to %s: check that the device is on and that address and port are right: %v", e.target, e.err)
}

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.err }

// explain adds to an association error what to do about it.
func (u *user) explain(err error, calling string) error {
	rejected, ok := errors.AsType[*ul.RejectedError](err)
	if !ok {
		return fmt.Errorf("associate with %s at %s: %w", u.calledAE, u.target, err)
	}
	hint := "ask its administrator why"
	switch rj := rejected.RJ; {
	case rj.Source == pdu.SourceUser && rj.Reason == pdu.UserCallingAE:
		hint = fmt.Sprintf("it does not know our AE title %q: add it there", calling)
	case rj.Source == pdu.SourceUser && rj.Reason == pdu.UserCalledAE:
		hint = fmt.Sprintf("it has another AE title than %q: correct it here; upper and lower case count", u.calledAE)
	case rj.Source == pdu.SourcePresentation:
		hint = "it is busy or has too many associations open: try again later"
	case rj.Result == pdu.RejectedTransient:
		hint = "try again later"
	}
	return fmt.Errorf("%s at %s refuses: %s: %w", u.calledAE, u.target, hint, err)
}

// accepted returns the context for k, or why there is none. It needs an open association that has proposed k.
func (u *user) accepted(k kind) (uint8, error) {
	id := u.proposed[k]
	if got, ok := u.a.Context(id); ok && got.TransferSyntax == k.syntax {
		return id, nil
	}
	return 0, &notAcceptedError{kind: k, called: u.calledAE, result: u.resultOf(id)}
}

func (u *user) resultOf(id uint8) pdu.ContextResult {
	for _, pc := range u.a.Accepted().Contexts {
		if pc.ID == id {
			return pc.Result
		}
	}
	return pdu.ContextNoReason
}

// notAcceptedError means that the peer did not accept the presentation context that an object needs. SOP class and transfer
// syntax are kinds of objects, not objects, and may be shown.
type notAcceptedError struct {
	kind   kind
	called string
	result pdu.ContextResult
}

func (e *notAcceptedError) Error() string {
	if e.result == pdu.ContextAbstractSyntax {
		return fmt.Sprintf("%s does not accept objects of SOP class %s: have its administrator enable it", e.called, e.kind.class)
	}
	return fmt.Sprintf("%s does not accept SOP class %s in transfer syntax %s (%s): have its administrator enable it, "+
		"or set the sending device to another compression", e.called, e.kind.class, e.kind.syntax, e.result)
}

// exchange sends a request and returns its response. After an error the association is gone.
func (u *user) exchange(ctx context.Context, id uint8, command []byte, data io.Reader) (dimse.Response, error) {
	resp, err := u.tryExchange(ctx, id, command, data)
	if err != nil {
		u.drop()
	}
	u.used = time.Now()
	return resp, err
}

func (u *user) tryExchange(ctx context.Context, id uint8, command []byte, data io.Reader) (dimse.Response, error) {
	if _, err := u.a.Send(ctx, id, command, data); err != nil {
		return dimse.Response{}, fmt.Errorf("send to %s: %w", u.calledAE, err)
	}
	_, answer, err := u.a.Receive(ctx)
	if err != nil {
		return dimse.Response{}, fmt.Errorf("wait for the answer of %s: %w", u.calledAE, err)
	}
	set, err := dimse.Decode(answer)
	if err != nil {
		return dimse.Response{}, fmt.Errorf("answer of %s: %w", u.calledAE, err)
	}
	resp, err := dimse.ParseResponse(&set)
	switch {
	case err != nil:
		return dimse.Response{}, fmt.Errorf("answer of %s: %w", u.calledAE, err)
	case resp.MessageID != u.message:
		return dimse.Response{}, fmt.Errorf("%s answered message %d instead of %d", u.calledAE, resp.MessageID, u.message)
	case set.HasDataSet():
		return dimse.Response{}, fmt.Errorf("%s sent a data set that nobody asked for", u.calledAE)
	}
	return resp, nil
}

// store sends one object in context id.
func (u *user) store(ctx context.Context, id uint8, rq dimse.StoreRQ, data io.Reader) (dimse.Response, error) {
	rq.MessageID, rq.HasDataSet = u.nextMessage(), true
	set := rq.Set()
	return u.exchange(ctx, id, set.Encode(), data)
}

// nextMessage numbers requests from 1 and wraps.
func (u *user) nextMessage() uint16 {
	if u.message++; u.message == 0 {
		u.message = 1
	}
	return u.message
}

// release ends the association in order, whatever that takes within a few seconds.
func (u *user) release(ctx context.Context) {
	if u.a == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	if err := u.a.Release(ctx); err != nil {
		u.log.Debug("association not released in order", "called", u.calledAE, "error", err)
	}
	u.forget()
}

// drop breaks the association off.
func (u *user) drop() {
	if u.a != nil {
		u.a.Abort()
	}
	u.forget()
}

func (u *user) forget() {
	if u.conn != nil {
		_ = u.conn.Close() // the association has ended either way
	}
	u.conn, u.a, u.proposed = nil, nil, nil
}

// recent keeps the kinds that were used last, at most as many as fit one association.
type recent []kind

// add puts k in front and drops the oldest if there are too many.
func (r *recent) add(k kind) {
	if i := slices.Index(*r, k); i >= 0 {
		*r = slices.Delete(*r, i, i+1)
	}
	*r = slices.Insert(*r, 0, k)
	if len(*r) > maxContexts {
		*r = (*r)[:maxContexts]
	}
}
