package ul

import (
	"context"
	"net"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// Proposal is what a requestor asks for.
type Proposal struct {
	CallingAE, CalledAE string
	// Contexts are at most 128, with different odd IDs.
	Contexts []pdu.ProposedContext
	// Roles are proposed for SOP classes of which we are not the user alone (PS3.7 §D.3.3.4).
	Roles []pdu.Role
}

// Request asks for an association on a connection that we have opened. It returns a *RejectedError if the peer says no. An accept
// without a single accepted context is no error here: the caller knows better what to say.
func Request(ctx context.Context, conn net.Conn, p Proposal, cfg Config) (*Association, error) {
	for _, title := range []string{p.CallingAE, p.CalledAE} {
		if err := pdu.CheckAETitle(title); err != nil {
			return nil, err
		}
	}
	a := newAssociation(conn, cfg, Requestor)
	rq := &pdu.AssociateRQ{
		ProtocolVersion: pdu.ProtocolVersion, CalledAE: p.CalledAE, CallingAE: p.CallingAE,
		ApplicationContext: pdu.ApplicationContext, Contexts: p.Contexts,
		UserInfo: pdu.UserInfo{
			MaxLength: a.cfg.Limits.MaxData, ImplementationClass: ImplementationClass, ImplementationVersion: ImplementationVersion,
			Roles: p.Roles,
		},
	}
	b, err := rq.Encode()
	if err != nil {
		return nil, err
	}
	defer a.conn.use(ctx)()
	a.state = Sta5 // AE-1 and AE-2: the transport connection is there already
	if _, err := a.conn.Write(b); err != nil {
		return nil, a.fail(err)
	}
	a.conn.within("waiting for the answer to the association request", a.cfg.Associate)
	action, raw, err := a.next()
	if err != nil {
		return nil, err
	}
	if action == AE4 {
		rj, err := pdu.DecodeAssociateRJ(raw)
		if err != nil {
			return nil, err
		}
		return nil, &RejectedError{RJ: rj}
	}
	ac, err := pdu.DecodeAssociateAC(raw, a.cfg.Limits)
	if err != nil {
		return nil, a.fail(err)
	}
	a.establish(rq, ac, ac.UserInfo.MaxLength)
	a.log.Debug("association established", "calling", p.CallingAE, "called", p.CalledAE,
		"contexts", len(a.contexts), "of", len(p.Contexts))
	return a, nil
}

// Release ends the association in order and waits for the peer's confirmation, also through a release collision (both sides ask
// at the same time). Data that still arrives is dropped.
func (a *Association) Release(ctx context.Context) error {
	if _, err := a.step(EvtRelease); err != nil {
		return err
	}
	defer a.conn.use(ctx)()
	if _, err := a.conn.Write(pdu.EncodeReleaseRQ()); err != nil {
		return a.fail(err)
	}
	a.conn.within("waiting for the release to be confirmed", a.cfg.Associate)
	for {
		action, _, err := a.next()
		if err != nil {
			return err
		}
		switch action {
		case AR3: // Sta7 or Sta11: confirmed
			return nil
		case AR6: // data before the confirmation
			if err := a.skipData(); err != nil {
				return err
			}
		case AR8: // collision; the acceptor waits for the requestor's confirmation first (Sta10)
			if a.role == Requestor {
				if err := a.reply(); err != nil {
					return err
				}
			}
		case AR10: // collision, acceptor: the requestor has confirmed, now we do
			if err := a.reply(); err != nil {
				return err
			}
			a.awaitClose()
			return nil
		default:
		}
	}
}

// reply sends the A-RELEASE-RP (AR-4 or AR-9).
func (a *Association) reply() error {
	if _, err := a.step(EvtReleaseReply); err != nil {
		return err
	}
	if _, err := a.conn.Write(pdu.EncodeReleaseRP()); err != nil {
		return a.fail(err)
	}
	return nil
}
