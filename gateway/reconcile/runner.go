package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/transfer"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/filter"
)

// Condition codes raised by a Runner; each ends with the listener or service it is about.
const (
	CodeListener = "listener/"
	CodeService  = "service/"
	CodeTunnel   = "tunnel-config"
)

// RunnerConfig is what a Runner works on. All fields are required but Firewall, HL7, LANTLS, Twins and OnSession.
type RunnerConfig struct {
	Device tunnel.Device
	// Firewall is the third lock; nil where a Device has no interface that packets could leave by.
	Firewall filter.Firewall
	// LANNet and OverlayNet are the only two doors.
	LANNet, OverlayNet proxy.Network
	Queue              Queue
	HL7                HL7
	Transfer           TransferConfig
	LANTLS             LANTLS
	// Twins know what archives accept, and Devices who calls from the LAN; nil knows nothing.
	Devices *dicom.Devices
	Twins   *dicom.Twins
	Health  *health.Set
	Log     *slog.Logger
	// OnSession hears of every ended session.
	OnSession func(proxy.Session)
}

// Runner makes a Desired true. Its methods may be called by one goroutine at a time, but for Listeners and Rules.
type Runner struct {
	cfg RunnerConfig

	mu         sync.Mutex // guards listeners, deliveries, pledges and fence, for Listeners, DICOM, Commitments and Rules
	listeners  map[string]*running
	deliveries map[string]*delivery
	polls      map[string]*polling // by queue
	pledges    map[string]*pledging
	sendings   map[netip.AddrPort]*sending
	receiving  *receiving

	commitments *dicom.Commitments
	orders      *dicom.Orders
	// looks are what other gateways ask about.
	looks standby.LAN

	configured bool   // by the last Apply
	site       string // only Apply and what it calls use it
	folders    folders
	returns    *hl7.Returns
	// fence are the rules in force, zero before the first.
	fence filter.Ruleset
	// unfenced means that this machine has no firewall.
	unfenced bool
	door     lanDoor
}

// running is one listener with the specification it is up for.
type running struct {
	spec     Listener
	server   *proxy.Server
	listener net.Listener
	cancel   context.CancelFunc
	done     chan struct{}
}

// stop frees the address at once; it does not wait for sessions.
func (r *running) stop() {
	r.cancel()
	_ = r.listener.Close()
}

// NewRunner returns a Runner that runs nothing yet.
func NewRunner(cfg RunnerConfig) *Runner {
	r := &Runner{
		cfg: cfg, listeners: map[string]*running{}, deliveries: map[string]*delivery{}, polls: map[string]*polling{}, pledges: map[string]*pledging{},
		sendings: map[netip.AddrPort]*sending{}, receiving: &receiving{cfg: cfg},
		commitments: dicom.NewCommitments(), orders: dicom.NewOrders(),
		folders: folders{cfg: cfg, open: map[string]*hl7.Folder{}}, returns: hl7.NewReturns(cfg.Queue, cfg.HL7.Ledger),
	}
	r.door.LANTLS = cfg.LANTLS
	return r
}

// Apply makes d true as far as possible: first the firewall, tight, then the device, then what listens, then what delivers, and the firewall as
// it is meant. On failure the tight one stays. Things that run for a specification
// that did not change are left alone. The error joins all that failed; each is also a Condition.
func (r *Runner) Apply(ctx context.Context, d Desired) error {
	now := time.Now()
	r.configured = false
	var codes []string
	for _, p := range d.Problems {
		codes = append(codes, CodeService+p.Subject)
		r.cfg.Health.Raise(CodeService+p.Subject, health.Error, p.Message, now)
	}
	r.cfg.Health.Keep(CodeService, codes)

	if err := r.tighten(ctx, d.Firewall); err != nil {
		return &TunnelError{err}
	}
	if err := r.cfg.Device.Configure(ctx, d.Tunnel); err != nil {
		// Without the device nothing may start: a listener that accepts what cannot leave would promise too much.
		r.cfg.Health.Raise(CodeTunnel, health.Error, "the tunnel cannot be set up: "+err.Error(), now)
		return &TunnelError{fmt.Errorf("configure the tunnel: %w", err)}
	}
	r.cfg.Health.Clear(CodeTunnel)
	r.configured = true
	r.applyLANTLS(d)
	r.site = d.Site
	r.applyPledges(ctx, d.Deliveries)
	r.applyLimits(d.Deliveries)
	r.applyLooks(d.Looks)
	err := r.applyInbound(d.Inbound)
	err = errors.Join(err, r.applyListeners(ctx, r.wanted(d.Listeners)))
	r.applyHL7(d)
	r.applyDeliveries(ctx, d.Deliveries)
	r.applyPolls(ctx, d.Polls)
	return errors.Join(err, r.loosen(ctx, d.Firewall))
}

// Configured reports whether the last Apply has configured the device, whatever failed besides.
func (r *Runner) Configured() bool { return r.configured }

// wanted leaves out what this box does not do.
func (r *Runner) wanted(all []Listener) []Listener {
	return slices.DeleteFunc(slices.Clone(all), func(l Listener) bool { return l.Protocol == protocolTransfer && r.cfg.Transfer.Spool == nil })
}

func (r *Runner) applyListeners(ctx context.Context, want []Listener) error {
	specs := make(map[string]Listener, len(want))
	for _, l := range want {
		specs[key(l)] = l
	}
	r.mu.Lock()
	for k, run := range r.listeners {
		spec, ok := specs[k]
		if ok && !run.ended() && r.updateLocked(run, spec) {
			continue
		}
		run.stop() // sessions in flight are drained behind our back, within the server's grace
		delete(r.listeners, k)
	}
	r.mu.Unlock()

	var errs []error
	var codes []string
	for _, l := range want {
		k := key(l)
		if r.runs(k) {
			continue
		}
		if err := r.startListener(ctx, k, l); err != nil {
			errs = append(errs, err)
			codes = append(codes, CodeListener+k)
			r.cfg.Health.Raise(CodeListener+k, health.Error, err.Error(), time.Now())
		}
	}
	r.cfg.Health.Keep(CodeListener, codes)
	return errors.Join(errs...)
}

// updateLocked changes a running listener without disturbing its sessions, and reports whether that was possible: it is as long as
// nothing that its sessions rely on goes away.
func (r *Runner) updateLocked(run *running, spec Listener) bool {
	old := run.spec
	if reflect.DeepEqual(spec, old) {
		return true
	}
	if spec.Address != old.Address || spec.Protocol != old.Protocol || spec.TLS != old.TLS || (len(spec.Allow) == 0) != (len(old.Allow) == 0) {
		return false
	}
	for _, x := range old.Routes {
		if !slices.ContainsFunc(spec.Routes, x.serves) {
			return false
		}
	}
	h, err := r.handler(spec)
	if err != nil {
		return false // starting it anew will say why
	}
	run.server.Update(h, spec.Allow)
	run.spec = spec
	return true
}

// serves reports whether sessions of r may go on under next. Where a Service of another Site is may change: the old place works as long as
// the tunnel leads there, and the tunnel itself ends what goes to one that nobody has any more.
func (r Route) serves(next Route) bool {
	if r.Via == Overlay {
		next.Target = r.Target
	}
	next.DICOM = r.DICOM // an association ends by the options it began with
	return r == next
}

func (r *Runner) runs(k string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.listeners[k]
	return ok
}

func (r *Runner) startListener(ctx context.Context, k string, l Listener) error {
	h, err := r.handler(l)
	if err != nil {
		return fmt.Errorf("set up %s: %w", k, err)
	}
	ln, err := r.network(l.Side).Listen(ctx, "tcp", l.Address)
	if err != nil {
		return listenError(l, err)
	}
	srv := proxy.NewServer(proxy.ServerConfig{
		Name: k, Listener: ln, Handler: h, Allow: l.Allow, MaxConns: maxConns(l.Side), MaxPerSource: maxPerSource(l), Log: r.cfg.Log, OnSession: r.cfg.OnSession,
	})
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &running{spec: l, server: srv, listener: ln, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		if err := srv.Serve(runCtx); err != nil {
			r.cfg.Log.Error("listener ended", "listener", k, "error", err)
		}
	}()
	r.mu.Lock()
	r.listeners[k] = run
	r.mu.Unlock()
	r.cfg.Log.Info("listening", "side", l.Side, "address", l.Address, "protocol", l.Protocol, "service", l.Routes[0].Service)
	return nil
}

// maxOverlayConns lets a center serve a few thousand clinics at once; each clinic alone is bounded per source.
const maxOverlayConns = 4096

func maxConns(s Side) int {
	if s == Overlay {
		return maxOverlayConns
	}
	return 0 // the server's own default
}

// maxPerSource lets a gateway that comes back open its lanes while the former ones are not gone yet.
func maxPerSource(l Listener) int {
	if l.Protocol == protocolTransfer {
		return 2 * transfer.MaxLanes
	}
	return 0 // the server's own default
}

func listenError(l Listener, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program on this box: stop it, or move the service with \"towpath allow --port\"", l.Address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s may not be opened: ports below 1024 need the right CAP_NET_BIND_SERVICE", l.Address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this box: correct --lan", l.Address)
	}
	return fmt.Errorf("listen on %s: %w", l.Address, err)
}

func (r *Runner) handler(l Listener) (proxy.Handler, error) {
	h, err := r.plainHandler(l)
	if err != nil {
		return nil, err
	}
	return r.door.wrap(l, h)
}

func (r *Runner) plainHandler(l Listener) (proxy.Handler, error) {
	switch l.Protocol {
	case wire.DICOM:
		return r.dicomRouter(l)
	case wire.HL7:
		return r.hl7Router(l)
	case protocolTransfer:
		return r.receiving.handler()
	case protocolStandby:
		return standby.Answerer{LAN: &r.looks}, nil
	}
	return nil, fmt.Errorf("protocol %q is not known to this build", l.Protocol)
}

func (r *Runner) network(s Side) proxy.Network {
	if s == Overlay {
		return r.cfg.OverlayNet
	}
	return r.cfg.LANNet
}

// way is the Network by which a Route's target is dialed.
func (r *Runner) way(x Route) proxy.Network {
	if x.Via == LAN {
		return r.reach(x.TLS)
	}
	return r.network(x.Via)
}

// ListenerStatus is one running listener and what goes on there.
type ListenerStatus struct {
	Spec   Listener
	Live   []proxy.Session
	Totals proxy.Totals
}

// Listeners returns a snapshot of what listens. It may be called at any time.
func (r *Runner) Listeners() []ListenerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]ListenerStatus, 0, len(r.listeners))
	for _, run := range r.listeners {
		out = append(out, ListenerStatus{Spec: run.spec, Live: run.server.Sessions(), Totals: run.server.Totals()})
	}
	return out
}

// Stop ends everything: listeners close at once, sessions and deliveries in flight get the server's grace.
func (r *Runner) Stop() {
	r.mu.Lock()
	listeners := r.listeners
	r.listeners = map[string]*running{}
	r.mu.Unlock()
	for _, run := range listeners {
		run.stop()
	}
	for _, d := range r.deliveries {
		d.cancel()
	}
	for _, p := range r.polls {
		p.cancel()
	}
	for _, s := range r.sendings {
		s.cancel()
	}
	for _, run := range listeners {
		<-run.done
	}
	for _, d := range r.deliveries {
		<-d.done
	}
	for _, p := range r.polls {
		<-p.done
	}
	for _, s := range r.sendings {
		<-s.done
	}
	r.receiving.close()
	clear(r.sendings)
	clear(r.deliveries)
	clear(r.polls)
	r.stopPledges()
	r.looks.Close()
}

func (r *running) ended() bool { return isClosed(r.done) }

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// key names a listener: what has the same one is changed in place.
func key(l Listener) string { return string(l.Side) + ":" + l.Address }
