package dicom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// object is what is known of an object before its data set arrives.
type object struct {
	SOPClass, SOPInstance, TransferSyntax string
	CallingAE, CalledAE                   string
	MoveOriginatorAE                      string
	MoveOriginatorMessage                 uint16
	Source, Association                   string
}

// storeWriter takes one data set. Exactly one of Commit and Abort ends it; Commit returns when the object is safe.
type storeWriter interface {
	io.Writer
	Commit() error
	Abort()
}

// provider is the service class provider of verification and storage (PS3.4 annexes A and B) that queued routes and the Archive
// share. It is made for one association.
type provider struct {
	limits Limits
	log    *slog.Logger
	open   func(object) (storeWriter, error)
	// commitments, if not nil, takes the reports of storage commitments.
	commitments *Commitments
	admission   admission
	service     string // for messages
	// farEcho, if not nil, is what a C-ECHO is answered with.
	farEcho func(ctx context.Context, calling string) error
	// commits takes requests for storage commitment, if it has Pledges.
	commits commits

	a       *ul.Association
	res     proxy.Result
	refused int
	why     string // of the last refusal
	nothing bool   // no context for storage was accepted
}

// serve accepts the association and serves it to its end.
func (p *provider) serve(ctx context.Context, in *ul.Incoming, res proxy.Result) proxy.Result {
	if in.RQ.ApplicationContext != pdu.ApplicationContext {
		return refuse(ctx, in, res, pdu.UserApplicationContext, "the peer asked for an application context other than DICOM's")
	}
	p.res = res
	p.admission.reports, p.admission.pledges = p.commitments.mayReport(in.RQ.UserInfo.Roles), p.commits.pledges != nil
	in.Roles = p.admission.roles(in.RQ.UserInfo.Roles)
	contexts, refused, stored := p.admission.negotiate(in.RQ)
	a, err := in.Accept(ctx, contexts)
	if err != nil {
		return ended(res, err)
	}
	p.a = a
	if stored == 0 && p.admission.unlisted(in.RQ) {
		p.nothing = true
		p.refuse(fmt.Sprintf("%s offered only SOP classes that service %s is not for: set the device to what it is for, or run \"towpath service set %s --sop-class\"",
			res.Calling, p.service, p.service))
		p.log.Warn("nothing to store was accepted", "reason", p.why)
	} else if len(refused) > 0 && stored == 0 {
		p.nothing = true
		p.refuse(p.admission.twin.turnAway(in.RQ.CallingAE, refused))
		p.log.Warn("nothing to store was accepted", "reason", p.why)
	}
	defer p.commits.begin(a)()
	for err == nil {
		if err = p.commits.idle(ctx, a, p.limits.quiet()); err == nil {
			err = p.message(ctx)
		}
	}
	out := ended(p.res, err)
	if out.Outcome == proxy.OutcomeDone && p.refused > 0 {
		out.Outcome = proxy.OutcomeRefused
		out.Detail = p.why
		if !p.nothing || p.refused > 1 {
			out.Detail = fmt.Sprintf("%d messages were refused, the last one because: %s", p.refused, p.why)
		}
	}
	return out
}

// message serves one message.
func (p *provider) message(ctx context.Context) error {
	id, command, err := p.a.Receive(ctx)
	if err != nil {
		return err
	}
	set, err := dimse.Decode(command)
	if err != nil {
		p.a.Abort()
		return &ul.ProtocolError{Reason: pdu.ReasonNotSpecified, Message: err.Error()}
	}
	pc, _ := p.a.Context(id)
	switch c := set.CommandField(); {
	case c == dimse.CStoreRQ:
		return p.store(ctx, pc, &set)
	case c == dimse.CEchoRQ && pc.AbstractSyntax == Verification:
		if err := p.skip(ctx, id, &set); err != nil {
			return err
		}
		return p.echo(ctx, id, &set)
	case c == dimse.NActionRQ && pc.AbstractSyntax == StorageCommitment && p.admission.admits():
		return p.request(ctx, pc, &set)
	case p.commits.answered(&set):
		return nil
	case c == dimse.NEventReportRQ && pc.AbstractSyntax == StorageCommitment && p.admission.reports:
		return p.commitmentReport(ctx, pc, &set)
	case c == dimse.CCancelRQ:
		return p.skip(ctx, id, &set) // nothing of ours can be canceled, and a cancel has no response
	case c.IsResponse():
		p.a.Abort()
		return &ul.ProtocolError{Reason: pdu.ReasonNotSpecified, Message: c.String() + " to a request that we never sent"}
	default:
		if err := p.skip(ctx, id, &set); err != nil {
			return err
		}
		p.refuse("this AE title takes C-STORE and C-ECHO only, not " + c.String())
		return p.respond(ctx, id, dimse.Respond(&set, dimse.UnrecognizedOperation, "C-STORE and C-ECHO only"))
	}
}

// skip reads a data set that nobody wants.
func (p *provider) skip(ctx context.Context, id uint8, set *dimse.Set) error {
	if !set.HasDataSet() {
		return nil
	}
	return p.drain(ctx, id, &guarded{limit: p.limits.MaxObject, err: errors.New("unwanted")})
}

// drain reads a data set into g, and aborts the association if g has had too much.
func (p *provider) drain(ctx context.Context, id uint8, g *guarded) error {
	_, err := p.a.Data(ctx, id).WriteTo(g)
	if errors.Is(err, errEndless) {
		p.a.Abort()
	}
	return err
}

// store serves a C-STORE (PS3.4 §B.2.3): whatever happens, the data set is read to its end, and success is only said of an object
// that is safe.
func (p *provider) store(ctx context.Context, pc ul.Context, set *dimse.Set) error {
	rq := dimse.ParseStoreRQ(set)
	status, comment := check(rq, pc)
	if status == dimse.Success {
		status, comment = p.admission.check(kind{class: rq.SOPClass, syntax: pc.TransferSyntax})
	}
	g := &guarded{limit: p.limits.MaxObject}
	if status == dimse.Success {
		w, err := p.open(object{
			SOPClass: rq.SOPClass, SOPInstance: rq.SOPInstance, TransferSyntax: pc.TransferSyntax,
			CallingAE: p.a.Request().CallingAE, CalledAE: p.a.Request().CalledAE,
			MoveOriginatorAE: rq.MoveOriginatorAE, MoveOriginatorMessage: rq.MoveOriginatorMessage,
		})
		if err != nil {
			g.err = err
		} else {
			g.w = w
			defer g.abort() // does nothing after a commit
		}
	} else {
		g.err = errors.New(comment)
	}
	if rq.HasDataSet {
		if err := p.drain(ctx, pc.ID, g); err != nil {
			return err
		}
	}
	if status == dimse.Success && g.err == nil && g.n == 0 {
		status, comment = dimse.CannotProcess, "the data set is missing"
	}
	if status == dimse.Success {
		if err := g.commit(); err != nil {
			status, comment = storageFailure(err)
			p.log.Warn("object refused", "status", status.Code(), "error", err)
		}
	}
	if status == dimse.Success {
		p.res.Items++
	} else {
		g.abort() // before the sender hears of it: its next try must find the room
		p.refuse(comment)
	}
	return p.respond(ctx, pc.ID, dimse.Respond(set, status, comment))
}

// check judges a C-STORE request by what is known before its data set.
func check(rq dimse.StoreRQ, pc ul.Context) (dimse.Status, string) {
	switch {
	case rq.SOPClass != pc.AbstractSyntax, pc.AbstractSyntax == Verification, pc.AbstractSyntax == StorageCommitment:
		return dimse.SOPClassNotSupported, "SOP class differs from the presentation context's"
	case !ValidUID(rq.SOPInstance):
		return dimse.InvalidInstance, "the SOP instance UID is not a valid UID"
	case !rq.HasDataSet:
		return dimse.CannotProcess, "the data set is missing"
	}
	return dimse.Success, ""
}

// storageFailure says in DICOM's words why an object could not be made safe. Both statuses make a sender try again later.
func storageFailure(err error) (dimse.Status, string) {
	switch {
	case errors.Is(err, spool.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return dimse.OutOfResources, "storage is full, send again later"
	case errors.Is(err, spool.ErrClosed):
		return dimse.OutOfResources, "the service is stopping, send again later"
	case errors.Is(err, errTooLarge):
		return dimse.OutOfResources, "the object is larger than the configured limit"
	}
	return dimse.ProcessingFailure, "the object could not be stored, send again later"
}

func (p *provider) refuse(why string) { p.refused, p.why = p.refused+1, why }

func (p *provider) respond(ctx context.Context, id uint8, m dimse.Response) error {
	set := m.Set()
	_, err := p.a.Send(ctx, id, set.Encode(), nil)
	return err
}

var (
	errTooLarge = errors.New("the object is larger than the configured limit")
	errEndless  = errors.New("the data set does not end within twice the configured limit")
)

// guarded passes a data set on until something is wrong, and from then on swallows it, so that the peer can be told in an answer
// rather than by an abort. It holds no memory.
type guarded struct {
	w     storeWriter
	limit int64
	n     int64
	err   error // why nothing is passed on anymore
}

func (g *guarded) Write(b []byte) (int, error) {
	g.n += int64(len(b))
	switch {
	case g.n > 2*g.limit:
		return 0, errEndless
	case g.n > g.limit && g.err == nil:
		g.fail(errTooLarge)
	case g.err == nil:
		if _, err := g.w.Write(b); err != nil {
			g.fail(err)
		}
	}
	return len(b), nil
}

func (g *guarded) fail(err error) {
	g.err = err
	g.abort()
}

func (g *guarded) abort() {
	if g.w != nil {
		g.w.Abort()
		g.w = nil
	}
}

func (g *guarded) commit() error {
	if g.err != nil {
		return g.err
	}
	w := g.w
	g.w = nil
	return w.Commit()
}
