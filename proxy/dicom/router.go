package dicom

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// The keys of spool attributes that a Router writes and a Sink reads.
const (
	AttrSOPClass              = "sop_class"
	AttrSOPInstance           = "sop_instance"
	AttrTransferSyntax        = "transfer_syntax"
	AttrCallingAE             = "calling_ae"
	AttrCalledAE              = "called_ae"
	AttrMoveOriginatorAE      = "move_originator_ae"      // only if a C-MOVE caused the C-STORE
	AttrMoveOriginatorMessage = "move_originator_message" // decimal
	// AttrStudyInstance, and what follows, is for people and books of the gateways. It is missing where the object does not say it early enough.
	AttrStudyInstance = "study_instance"
	AttrSource        = "source"      // the address that the object came from
	AttrAssociation   = "association" // tells associations apart, no more
)

// associationText is how long an AttrAssociation is, in base32.
const associationText = 13

// DefaultHoldFor is how long a passed-through request waits for the far side: well below the 30 s that requestors usually wait.
const DefaultHoldFor = 8 * time.Second

// RouterConfig is what a Router works with.
type RouterConfig struct {
	Routes []Route
	// Queue takes the objects of Queued routes; it may be nil if there are none.
	Queue  spool.Queue
	Limits Limits
	// Commitments, if not nil, takes the storage commitment reports that archives send to queued routes.
	Commitments *Commitments
	// Admit, if not nil, is asked before an association is served, by the connection, the Service and the calling AE title. It returns ""
	// or why the association is rejected for good.
	Admit func(c net.Conn, service, calling string) string
	// Reports are called AE titles of our own, to which archives report storage commitments and nothing else.
	Reports []string
	// Devices, which may be nil, notes who calls, and knows who may.
	Devices *Devices
	// Orders, if not nil, hears what worklists that pass through say of studies.
	Orders *Orders
	// Log may be nil.
	Log *slog.Logger
	// HoldFor is how long a PassThrough route may take to connect and get its answer. 0 means DefaultHoldFor.
	HoldFor time.Duration
}

// Router is the proxy.Handler of a DICOM port: it reads the association request once and takes the Route of its called AE title.
type Router struct {
	cfg   RouterConfig
	known []string
}

// NewRouter checks the routes and returns a Router.
func NewRouter(cfg RouterConfig) (*Router, error) {
	if len(cfg.Routes) == 0 {
		return nil, errors.New("a DICOM router needs at least one route")
	}
	cfg.Routes = slices.Clone(cfg.Routes)
	r := &Router{cfg: cfg}
	for i, route := range cfg.Routes {
		if err := route.check(cfg.Queue); err != nil {
			return nil, fmt.Errorf("route %q: %w", route.Service, err)
		}
		if slices.ContainsFunc(cfg.Routes[:i], func(o Route) bool { return o.AETitle == route.AETitle }) {
			return nil, fmt.Errorf("route %q: AE title %q is used twice", route.Service, route.AETitle)
		}
		if route.AETitle != "" {
			r.known = append(r.known, route.AETitle)
		}
	}
	if r.cfg.HoldFor == 0 {
		r.cfg.HoldFor = DefaultHoldFor
	}
	r.cfg.Limits = cfg.Limits.withDefaults()
	r.cfg.Log = orDiscard(cfg.Log)
	return r, nil
}

// Serve serves one association.
func (r *Router) Serve(ctx context.Context, c net.Conn) proxy.Result {
	in, err := ul.Receive(ctx, c, r.cfg.Limits.upper(r.cfg.Log))
	if err != nil {
		return ended(proxy.Result{}, err)
	}
	res := proxy.Result{Calling: printable(in.RQ.CallingAE), Called: printable(in.RQ.CalledAE)}
	if r.cfg.Commitments != nil && slices.Contains(r.cfg.Reports, in.RQ.CalledAE) {
		p := &provider{limits: r.cfg.Limits, log: r.cfg.Log, commitments: r.cfg.Commitments, admission: admission{nothing: true}}
		return p.serve(ctx, in, res)
	}
	route, ok := pick(r.cfg.Routes, in.RQ.CalledAE)
	from, now := addressOf(c), time.Now()
	if ok {
		r.cfg.Devices.saw(route.Service, in.RQ.CallingAE, from, now)
	}
	if no := route.Rules.judge(route.Service, in.RQ.CallingAE, from, r.cfg.Devices, now); ok && no.why != "" {
		r.cfg.Log.Warn("association rejected", "service", route.Service, "reason", no.why)
		return reject(ctx, in, res, no.rj, no.why)
	}
	switch {
	case !ok:
		return refuse(ctx, in, res, pdu.UserCalledAE, unknownAE(in.RQ.CalledAE, r.known))
	case r.cfg.Admit != nil:
		if why := r.cfg.Admit(c, route.Service, res.Calling); why != "" {
			return refuse(ctx, in, res, pdu.UserNoReason, why)
		}
	}
	switch {
	case route.Mode == PassThrough && route.Twin != nil && asksTwin(in.RQ):
		return r.answerTwin(ctx, in, route.Twin, res)
	case route.Mode == PassThrough:
		return r.passThrough(ctx, c, in, route, res)
	}
	p := &provider{
		limits: r.cfg.Limits, log: r.cfg.Log, commitments: r.cfg.Commitments, admission: admission{twin: route.Twin, hold: route.Hold, classes: route.Rules.Classes},
		farEcho: route.FarEcho, service: route.Service,
		commits: commits{pledges: route.Pledges, from: from},
		open:    r.enqueue(route, from),
	}
	return p.serve(ctx, in, res)
}

// addressOf is where a connection comes from; the zero value if that has no address.
func addressOf(c net.Conn) netip.Addr {
	if a := c.RemoteAddr(); a != nil {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			return ap.Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// enqueue puts the objects of one association into the queue of a Route.
func (r *Router) enqueue(route Route, from netip.Addr) func(object) (storeWriter, error) {
	association := rand.Text()[:associationText]
	var buffer []byte
	return func(o object) (storeWriter, error) {
		if buffer == nil {
			buffer = make([]byte, 0, studyPrefix)
		}
		o.Source, o.Association = source(from), association
		return arrive(route.Urgent.Queue(r.cfg.Queue), route.QueueName, o, buffer), nil
	}
}

// attributes is what the Sink will need.
func (o object) attributes() map[string]string {
	m := map[string]string{
		AttrSOPClass: o.SOPClass, AttrSOPInstance: o.SOPInstance, AttrTransferSyntax: o.TransferSyntax,
		AttrCallingAE: o.CallingAE, AttrCalledAE: o.CalledAE,
	}
	if o.Source != "" {
		m[AttrSource] = o.Source
	}
	if o.Association != "" {
		m[AttrAssociation] = o.Association
	}
	if o.MoveOriginatorAE != "" {
		m[AttrMoveOriginatorAE] = o.MoveOriginatorAE
		m[AttrMoveOriginatorMessage] = strconv.Itoa(int(o.MoveOriginatorMessage))
	}
	return m
}

// refuse answers with a permanent A-ASSOCIATE-RJ by the user.
func refuse(ctx context.Context, in *ul.Incoming, res proxy.Result, reason uint8, detail string) proxy.Result {
	return reject(ctx, in, res, pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceUser, Reason: reason}, detail)
}

func reject(ctx context.Context, in *ul.Incoming, res proxy.Result, rj pdu.AssociateRJ, detail string) proxy.Result {
	if err := in.Reject(ctx, rj); err != nil {
		return ended(res, err)
	}
	res.Outcome, res.Detail = proxy.OutcomeRefused, detail
	return res
}

// ended says in a Result how an association came to its end.
func ended(res proxy.Result, err error) proxy.Result {
	if errors.Is(err, ul.ErrReleased) {
		res.Outcome = proxy.OutcomeDone
		return res
	}
	res.Outcome, res.Detail = proxy.OutcomeAborted, err.Error()
	switch {
	case isA[*ul.ProtocolError](err):
		res.Outcome = proxy.OutcomeMalformed
	case isA[*ul.TimeoutError](err):
		res.Outcome = proxy.OutcomeTimeout
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		res.Detail = "the association was aborted because the service is stopping"
	}
	return res
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
