package ul

import (
	"context"
	"net"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Incoming is an association request that waits for our decision (Sta3). Accept or Reject ends it.
type Incoming struct {
	a *Association
	// RQ is the request, with its own bytes in RQ.Raw.
	RQ *pdu.AssociateRQ
	// Roles are granted by Accept. What is not in it is the standard's default: the requestor is the user (PS3.7 §D.3.3.4).
	Roles []pdu.Role
}

// Receive waits for the association request on a connection that a peer has opened. A request for another version of the protocol
// is rejected here, by the provider (AE-6).
func Receive(ctx context.Context, conn net.Conn, cfg Config) (*Incoming, error) {
	a := newAssociation(conn, cfg, Acceptor)
	defer a.conn.use(ctx)()
	a.state = Sta2 // AE-5: the transport connection is there already
	a.conn.within("waiting for the association request", a.cfg.Associate)
	_, raw, err := a.next()
	if err != nil {
		return nil, err
	}
	rq, err := pdu.DecodeAssociateRQ(raw, a.cfg.Limits)
	if err != nil {
		return nil, a.fail(err)
	}
	if rq.ProtocolVersion&pdu.ProtocolVersion == 0 {
		rj := pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceACSE, Reason: pdu.ACSEProtocolVersion}
		a.state = Sta13
		if _, err := a.conn.Write(rj.Encode()); err != nil {
			return nil, a.fail(err)
		}
		a.awaitClose()
		return nil, &ProtocolError{Reason: pdu.ReasonInvalidParameter, Message: "it does not speak version 1 of the protocol"}
	}
	return &Incoming{a: a, RQ: rq}, nil
}

// Accept answers with an A-ASSOCIATE-AC holding contexts, one for each that was proposed.
func (in *Incoming) Accept(ctx context.Context, contexts []pdu.AcceptedContext) (*Association, error) {
	a := in.a
	ac := &pdu.AssociateAC{
		ProtocolVersion: pdu.ProtocolVersion, CalledAE: in.RQ.CalledAE, CallingAE: in.RQ.CallingAE,
		ApplicationContext: pdu.ApplicationContext, Contexts: contexts,
		UserInfo: pdu.UserInfo{
			MaxLength: a.cfg.Limits.MaxData, ImplementationClass: ImplementationClass, ImplementationVersion: ImplementationVersion,
			Roles: in.Roles,
		},
	}
	b, err := ac.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := a.step(EvtAccept); err != nil {
		return nil, err
	}
	defer a.conn.use(ctx)()
	if _, err := a.conn.Write(b); err != nil {
		return nil, a.fail(err)
	}
	a.establish(in.RQ, ac, in.RQ.UserInfo.MaxLength)
	a.log.Debug("association accepted", "calling", in.RQ.CallingAE, "called", in.RQ.CalledAE,
		"contexts", len(a.contexts), "of", len(in.RQ.Contexts))
	return a, nil
}

// Reject answers with an A-ASSOCIATE-RJ and waits a moment for the peer to close.
func (in *Incoming) Reject(ctx context.Context, rj pdu.AssociateRJ) error {
	a := in.a
	if _, err := a.step(EvtReject); err != nil {
		return err
	}
	defer a.conn.use(ctx)()
	if _, err := a.conn.Write(rj.Encode()); err != nil {
		return a.fail(err)
	}
	a.awaitClose()
	return nil
}

// Buffered ends the Incoming for a caller that forwards the association as bytes: it returns what was read ahead of the request's
// end, after which the caller reads the connection itself, without any deadline of ours. Reject may still be called if nothing
// was read.
func (in *Incoming) Buffered() []byte {
	in.a.conn.release()
	return in.a.r.Buffered()
}
