package dicom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/spool"
)

// DefaultCallingAE is our own AE title where none is known.
const DefaultCallingAE = "TOWPATH"

// maxCallers bounds the calling AE titles whose kinds of objects a Sink remembers.
const maxCallers = 64

// staleAfter is how long an association may rest before it is looked at for a goodbye of the peer.
const staleAfter = time.Second

// SinkConfig says where a Sink delivers.
type SinkConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CalledAE is the AE title of the far side.
	CalledAE string
	// CallingAE is used for items that do not say who sent them. Empty means DefaultCallingAE.
	CallingAE string
	Limits    Limits
	// Log may be nil.
	Log *slog.Logger
}

// sink delivers spool items by C-STORE.
type sink struct {
	*user
	fallback string
	seen     map[string]*recent // kinds of objects by calling AE title
}

// NewSink returns a Sink that delivers to one archive. It associates as the modality that sent the item, keeps the association
// for the items that follow, and sends data sets as the bytes that they are. A broken association is never used again.
func NewSink(cfg SinkConfig) spool.Sink {
	return &sink{
		user:     newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log),
		fallback: callingOr(cfg.CallingAE), seen: map[string]*recent{},
	}
}

// Deliver sends one object. It is in doubt, and reported as an error to be retried, when the association breaks between the last
// byte and the answer.
func (s *sink) Deliver(ctx context.Context, item spool.Item, payload io.Reader) (spool.Receipt, error) {
	attrs := item.Meta.Attributes
	k := kind{class: attrs[AttrSOPClass], syntax: attrs[AttrTransferSyntax]}
	rq := dimse.StoreRQ{SOPClass: k.class, SOPInstance: attrs[AttrSOPInstance], MoveOriginatorAE: attrs[AttrMoveOriginatorAE]}
	if !ValidUID(k.class) || !ValidUID(k.syntax) || !ValidUID(rq.SOPInstance) {
		return spool.Receipt{}, spool.Permanent(errors.New("the queue item does not say what kind of object it is: remove it"))
	}
	if rq.MoveOriginatorAE != "" {
		n, err := strconv.ParseUint(attrs[AttrMoveOriginatorMessage], 10, 16)
		if err != nil {
			return spool.Receipt{}, spool.Permanent(errors.New("the queue item has a wrong move originator: remove it"))
		}
		rq.MoveOriginatorMessage = uint16(n)
	}
	calling := attrs[AttrCallingAE]
	if calling == "" {
		calling = s.fallback
	}
	id, err := s.prepare(ctx, calling, k)
	if err != nil {
		if isA[*notAcceptedError](err) {
			err = spool.Permanent(err)
		}
		return spool.Receipt{}, err
	}
	resp, err := s.store(ctx, id, rq, payload)
	if err != nil {
		return spool.Receipt{}, err
	}
	return s.receipt(resp)
}

// receipt judges the answer to a C-STORE. The far side's comment is not repeated: it may name the patient.
func (s *sink) receipt(resp dimse.Response) (spool.Receipt, error) {
	switch resp.Status.Class() {
	case dimse.ClassSuccess, dimse.ClassWarning:
		return spool.Receipt{At: time.Now(), Code: resp.Status.Code(), Peer: s.calledAE}, nil
	case dimse.ClassTransient:
		if resp.Status == dimse.NotAuthorized {
			return spool.Receipt{}, fmt.Errorf("%s answered %s: have its administrator permit AE title %q to store",
				s.calledAE, resp.Status, s.calling)
		}
		return spool.Receipt{}, fmt.Errorf("%s answered %s: check its disk and its log if this goes on", s.calledAE, resp.Status)
	case dimse.ClassPermanent:
		return spool.Receipt{}, spool.Permanent(fmt.Errorf("%s refused the object with status %s: look up the reason in its log, "+
			"then send the object again or remove it", s.calledAE, resp.Status))
	default:
	}
	return spool.Receipt{}, spool.Permanent(fmt.Errorf("%s answered a C-STORE with status %s, which has no meaning there: "+
		"report it to its maker", s.calledAE, resp.Status))
}

// prepare returns the context for k on an association as calling, opening one if need be. A refusal is believed only of a new
// association: the far side's configuration may have been repaired since an old one was negotiated.
func (s *sink) prepare(ctx context.Context, calling string, k kind) (uint8, error) {
	if s.a != nil && time.Since(s.used) > staleAfter && !s.a.Alive() {
		s.drop()
	}
	if s.a != nil && s.calling == calling {
		if _, asked := s.proposed[k]; asked {
			if id, err := s.accepted(k); err == nil {
				return id, nil
			}
		}
	}
	s.release(ctx)
	kinds := s.kinds(calling)
	kinds.add(k)
	if err := s.open(ctx, calling, *kinds); err != nil {
		return 0, err
	}
	return s.accepted(k)
}

// kinds returns what calling has sent so far. When too many AE titles have been seen, all but this one are forgotten.
func (s *sink) kinds(calling string) *recent {
	r, ok := s.seen[calling]
	if !ok {
		if len(s.seen) >= maxCallers {
			clear(s.seen)
		}
		r = &recent{}
		s.seen[calling] = r
	}
	return r
}

// Idle releases the association.
func (s *sink) Idle() { s.release(context.Background()) }
