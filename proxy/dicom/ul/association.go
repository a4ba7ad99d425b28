package ul

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Context is an accepted presentation context.
type Context struct {
	ID             uint8
	AbstractSyntax string
	TransferSyntax string
}

// Association is an open association. All methods are for one goroutine; each call that waits takes a context whose end aborts the
// association. After any error it has ended: the peer has been told, where possible, and the caller closes the connection.
type Association struct {
	cfg   Config
	log   *slog.Logger
	conn  *timedConn
	r     *pdu.Reader
	role  Role
	state State

	rq       *pdu.AssociateRQ
	ac       *pdu.AssociateAC
	contexts map[uint8]Context
	sendMax  int // largest fragment the peer takes

	inData bool   // the reader is inside a P-DATA-TF
	out    []byte // built up to one write
}

func newAssociation(conn net.Conn, cfg Config, role Role) *Association {
	cfg = cfg.withDefaults()
	tc := &timedConn{Conn: conn, writeSpan: cfg.Progress, minBytes: cfg.MinProgress}
	return &Association{cfg: cfg, log: cfg.Log, conn: tc, r: pdu.NewReader(tc, cfg.Limits), role: role, state: Sta1}
}

// Request returns the A-ASSOCIATE-RQ of this association, sent or received.
func (a *Association) Request() *pdu.AssociateRQ { return a.rq }

// Accepted returns the A-ASSOCIATE-AC of this association, sent or received.
func (a *Association) Accepted() *pdu.AssociateAC { return a.ac }

// Context returns an accepted presentation context, or false if id is not one.
func (a *Association) Context(id uint8) (Context, bool) {
	c, ok := a.contexts[id]
	return c, ok
}

// establish notes what was agreed.
func (a *Association) establish(rq *pdu.AssociateRQ, ac *pdu.AssociateAC, peerMax uint32) {
	a.rq, a.ac = rq, ac
	a.contexts = make(map[uint8]Context, len(ac.Contexts))
	for _, got := range ac.Contexts {
		if got.Result != pdu.ContextAccepted {
			continue
		}
		for _, asked := range rq.Contexts {
			if asked.ID == got.ID {
				a.contexts[got.ID] = Context{ID: got.ID, AbstractSyntax: asked.AbstractSyntax, TransferSyntax: got.TransferSyntax}
			}
		}
	}
	a.sendMax = pdu.MaxFragment(peerMax, a.cfg.Limits.MaxData)
}

// step moves the state machine. It returns ErrEnded where the standard's table is blank: the caller asked at the wrong time.
func (a *Association) step(e Event) (Action, error) {
	cell, ok := Step(a.state, e, a.role)
	if !ok {
		return 0, ErrEnded
	}
	a.state = cell.Next
	return cell.Action, nil
}

// arrival is the event that the arrival of a PDU is.
func arrival(t pdu.Type) Event {
	switch t {
	case pdu.TypeAssociateRQ:
		return EvtRequestPDU
	case pdu.TypeAssociateAC:
		return EvtAcceptPDU
	case pdu.TypeAssociateRJ:
		return EvtRejectPDU
	case pdu.TypeData:
		return EvtDataPDU
	case pdu.TypeReleaseRQ:
		return EvtReleaseRQPDU
	case pdu.TypeReleaseRP:
		return EvtReleaseRPPDU
	case pdu.TypeAbort:
		return EvtAbortPDU
	}
	return EvtInvalidPDU
}

// next reads the next PDU up to its header, or wholly if it is not P-DATA-TF, and moves the state machine. All actions that end the
// association are performed here and come back as an error; the others are for the caller.
func (a *Association) next() (Action, []byte, error) {
	h, err := a.r.Next()
	var body []byte
	if err == nil && h.Type != pdu.TypeData {
		body, err = a.r.Whole()
	}
	if err != nil {
		return 0, nil, a.fail(foreign(h, a.state, err))
	}
	action, err := a.step(arrival(h.Type))
	if err != nil {
		return 0, nil, err
	}
	switch action {
	case AA1, AA7, AA8:
		return 0, nil, a.abortFor(&ProtocolError{Reason: pdu.ReasonUnexpectedPDU, Message: h.Type.String() + " at the wrong time"})
	case AA2, AA3:
		abort, err := pdu.DecodeAbort(body)
		if err != nil {
			return 0, nil, err
		}
		return 0, nil, &AbortedError{Abort: abort}
	default:
	}
	a.inData = h.Type == pdu.TypeData
	return action, body, nil
}

// foreign improves the message for what often arrives on a DICOM port and is not DICOM.
func foreign(h pdu.Header, s State, err error) error {
	if s != Sta2 && s != Sta5 || !errors.As(err, new(*pdu.Error)) {
		return err
	}
	var said string
	switch h.Type {
	case 0x16:
		said = "it speaks TLS to a port that does not; switch TLS off there or use the TLS port"
	case 'G', 'P', 'H', 'O', 'C':
		said = "it speaks HTTP to a DICOM port"
	case 0x0B:
		said = "it speaks HL7 (MLLP) to a DICOM port"
	default:
		return err
	}
	return &pdu.Error{Reason: pdu.ReasonUnrecognizedPDU, Message: said}
}

// fail ends the association because of err: it tells the peer what the state table asks for and returns what the caller shall see.
func (a *Association) fail(err error) error {
	if a.state == Sta1 || a.state == Sta13 {
		return err
	}
	if bad, ok := errors.AsType[*pdu.Error](err); ok {
		if _, stepErr := a.step(EvtInvalidPDU); stepErr != nil {
			return stepErr
		}
		return a.abortFor(&ProtocolError{Reason: bad.Reason, Message: bad.Message})
	}
	_, slow := errors.AsType[*TimeoutError](err)
	interrupted, ended := errors.AsType[*interruptedError](err)
	if ended {
		err = interrupted.cause
	}
	if slow || ended {
		// Our own decision to give up. Sta2 has no cell for it: there the ARTIM timer's cell (close, say nothing) is the one.
		if action, stepErr := a.step(EvtAbort); stepErr != nil {
			a.state = Sta1
		} else if action == AA1 {
			a.sayAbort(pdu.Abort{Source: pdu.AbortUser})
		}
		return err
	}
	if _, stepErr := a.step(EvtClosed); stepErr != nil {
		return stepErr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return ErrLost
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// abortFor sends the A-ABORT that a broken protocol deserves and returns e. In Sta2 the table's AA-1 says "service-user source"; we
// name the provider and its reason there too, because it is the truth and helps whoever reads the peer's log.
func (a *Association) abortFor(e *ProtocolError) error {
	a.sayAbort(pdu.Abort{Source: pdu.AbortProvider, Reason: e.Reason})
	return e
}

func (a *Association) sayAbort(abort pdu.Abort) {
	a.conn.goodbye(a.cfg.Close)
	if _, err := a.conn.Write(abort.Encode()); err != nil {
		a.log.Debug("a-abort not sent", "error", err)
	}
	a.awaitClose()
}

// awaitClose is Sta13: it waits for the peer to close, up to the ARTIM timer or 1 MiB of whatever still arrives. Closing at once
// with unread bytes would make the network stack throw away our goodbye before the peer has read it.
func (a *Association) awaitClose() {
	a.conn.goodbye(a.cfg.Close)
	if closer, ok := a.conn.Conn.(interface{ CloseWrite() error }); ok {
		if err := closer.CloseWrite(); err != nil {
			a.log.Debug("half-close", "error", err)
		}
	}
	if _, err := io.CopyN(io.Discard, a.r.Rest(), 1<<20); !errors.Is(err, io.EOF) {
		a.log.Debug("peer did not close", "error", err)
	}
	a.state = Sta1 // AR-5 or AA-2
}

// Alive looks whether the peer has left or spoken unasked since the last message, which costs a millisecond. A requestor that has
// not used an association for a while asks before it sends something that could be half sent.
func (a *Association) Alive() bool { return a.Silent(time.Millisecond) }

// Silent is Alive with another time: it returns false as soon as the peer speaks or has left, and true when it has not for that long.
func (a *Association) Silent(d time.Duration) bool {
	if a.state != Sta6 {
		return false
	}
	a.conn.within("looking for a goodbye", d)
	err := a.r.Peek()
	_, silent := errors.AsType[*TimeoutError](err)
	return silent
}

func unexpected(format string, args ...any) error {
	return &pdu.Error{Reason: pdu.ReasonUnexpectedPDU, Message: fmt.Sprintf(format, args...)}
}

// Abort breaks the association off on behalf of the application. It does nothing on an association that has ended.
func (a *Association) Abort() {
	if action, err := a.step(EvtAbort); err == nil && action == AA1 {
		a.sayAbort(pdu.Abort{Source: pdu.AbortUser})
	}
}
