package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
)

// Condition codes of this package.
const (
	codeCoordinator = "coordinator"
	codeClock       = "clock"
	codeExpiry      = "netmap-expiry"
	codeEndpoint    = "endpoint/"
	codePeer        = "peer/"
	codeQueue       = "queue/"
	codeLANInPool   = "lan-in-pool"
)

// Times of the daemon's rounds.
const (
	retryEvery   = 10 * time.Second // what could not be applied is tried again
	observeEvery = 5 * time.Second
	reportSoon   = time.Second
	reportEvery  = time.Minute
	floorEvery   = time.Minute
	lookEvery    = 30 * time.Second
)

// Device is a tunnel whose inside this process can reach.
type Device interface {
	tunnel.Device
	tunnel.Stack
}

// Options are what a Gateway is made of. Dir, Identity, Device, Spool and Log are required.
type Options struct {
	Dir      *state.Dir
	Identity state.Identity
	Device   Device
	Spool    *spool.Spool
	// Backend says which tunnel backend Device is, and why.
	Backend string
	// LANAddress is where LAN listeners bind; the zero value means everywhere.
	LANAddress netip.Addr
	// Folders is where HL7 Services that are files have their folders; empty means a directory of Dir.
	Folders string
	// ListenPort is the WireGuard UDP port; 0 lets the system choose.
	ListenPort uint16
	MTU        int
	Version    string
	// Facts are told to the coordinator: what Look last said, or these if there is no Look.
	Facts wire.Facts
	// Look learns the Facts anew. It is called at start and about every half minute, by one goroutine, and may be nil.
	Look func() wire.Facts
	Log  *slog.Logger
}

// Gateway is the running daemon.
type Gateway struct {
	opt      Options
	coord    *control.HTTP
	lan      *lan.Network
	health   health.Set
	runner   *reconcile.Runner
	sessions ring
	hl7      reconcile.HL7

	changed chan struct{} // a new map is in place
	up      chan struct{} // closed when the first map was applied, as far as possible

	mu      sync.Mutex // guards the fields below
	netMap  wire.NetMap
	hash    wire.ContentHash // of netMap
	applied uint64
	problem string // why the newest map is not applied
	newest  uint64 // generation for which netMap is true, as the coordinator says
	facts   wire.Facts
	from    netip.Addr // what the box dials comes from there
	link    localapi.Coordinator
}

// New reads the last good map. Without one the box has nothing to do, which only a damaged state directory can bring about.
func New(opt Options) (*Gateway, error) {
	m, err := opt.Dir.NetMap(opt.Identity.NetworkKey)
	if err != nil {
		return nil, fmt.Errorf("start from the saved NetMap: %w", err)
	}
	g := &Gateway{
		opt: opt, lan: &lan.Network{}, netMap: m, newest: m.Generation, facts: opt.Facts,
		changed: make(chan struct{}, 1), up: make(chan struct{}),
	}
	// The hub's address is fixed for the life of a network: the plan gives it to the coordinator once.
	g.coord = control.NewHTTP(opt.Device.DialContext, netip.AddrPortFrom(m.Hub.Address, m.Hub.ControlPort).String())
	if g.hl7, err = openHL7(opt); err != nil {
		return nil, err
	}
	g.runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: opt.Device, LANNet: g.lan, OverlayNet: opt.Device, Queue: opt.Spool, HL7: g.hl7, Health: &g.health,
		Log: opt.Log, OnSession: g.sessions.add,
	})
	held, err := wire.NewHeld(m)
	if err != nil {
		return nil, fmt.Errorf("start from the saved NetMap: %w", err)
	}
	g.hash = held.Hash
	return g, nil
}

// Run works until ctx is done, then ends sessions in order and returns nil.
func (g *Gateway) Run(ctx context.Context) error {
	g.checkClock()
	defer g.coord.Close()
	defer func() { _ = g.hl7.Ledger.Close() }()
	follower := control.Follower{Coordinator: g.coord, Have: g.have, Beat: g.beat, Frame: g.frame, State: g.connection, Log: g.opt.Log}

	// The loop stops the runner itself, after everything that could still change it.
	var group errgroup.Group
	group.Go(func() error { return g.loop(ctx) })
	group.Go(func() error {
		// Not before there is a tunnel: a first attempt that must fail would cost the pause after it.
		<-g.up
		return follower.Run(ctx)
	})
	group.Go(func() error { return g.reportLoop(ctx, g.coord) })
	group.Go(func() error {
		return localapi.Serve(ctx, g.opt.Dir.Path(state.SocketFile), g, localapi.QueuesOf(g.opt.Spool))
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// loop owns the desired state.
func (g *Gateway) loop(ctx context.Context) error {
	defer g.runner.Stop()
	retry, observe := time.NewTicker(retryEvery), time.NewTicker(observeEvery)
	floor, look := time.NewTicker(floorEvery), time.NewTicker(lookEvery)
	defer retry.Stop()
	defer observe.Stop()
	defer floor.Stop()
	defer look.Stop()
	g.look()
	ok := g.apply(ctx)
	close(g.up)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
			ok = g.apply(ctx)
		case <-retry.C:
			if !ok {
				ok = g.apply(ctx)
			}
		case <-observe.C:
			g.observe(ctx)
		case <-floor.C:
			g.checkClock()
		case <-look.C:
			g.look()
		}
	}
}

// apply makes the newest map true as far as possible and reports whether nothing is left to try again.
func (g *Gateway) apply(ctx context.Context) bool {
	m := g.currentMap()
	g.lan.Bar(m.Overlay)
	g.checkNetworks(m.Overlay)
	endpoints, complete := g.resolve(ctx, m)
	d, err := reconcile.Compile(m, reconcile.Local{
		PrivateKey: g.opt.Identity.PrivateKey, ListenPort: g.opt.ListenPort, MTU: g.opt.MTU,
		LANAddress: g.opt.LANAddress, Endpoints: endpoints,
	})
	if err == nil {
		err = g.runner.Apply(ctx, d)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.problem = err.Error()
		g.opt.Log.Warn("the NetMap is not fully applied", "generation", m.Generation, "error", err)
		return false
	}
	if g.applied != m.Generation {
		g.opt.Log.Info("map applied", "generation", m.Generation)
	}
	if g.from.IsValid() && g.from != m.Self.Address {
		g.opt.Log.Info("this box has another address", "address", m.Self.Address, "former", m.Self.Former)
		g.coord.Move()
	}
	g.applied, g.problem, g.from = m.Generation, "", m.Self.Address
	return complete
}

// resolve looks up the endpoints that are names. What cannot be resolved is a Condition, and reason to try again.
func (g *Gateway) resolve(ctx context.Context, m wire.NetMap) (map[string]netip.AddrPort, bool) {
	names := append([]string(nil), m.Hub.Endpoints...)
	for _, p := range m.Peers {
		names = append(names, p.Endpoints...)
	}
	found, complete := make(map[string]netip.AddrPort, len(names)), true
	var codes []string
	for _, n := range names {
		ap, err := resolveOne(ctx, n)
		if err != nil {
			complete = false
			codes = append(codes, codeEndpoint+n)
			g.health.Raise(codeEndpoint+n, health.Warning, fmt.Sprintf("the name in %s cannot be resolved: check DNS on this network", n), time.Now())
			continue
		}
		found[n] = ap
	}
	g.health.Keep(codeEndpoint, codes)
	return found, complete
}

func resolveOne(ctx context.Context, hostport string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(hostport); err == nil {
		return ap, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("split %s: %w", hostport, err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", p)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up port %s: %w", p, err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up %s: %w", h, err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil
}

func (g *Gateway) currentMap() wire.NetMap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.netMap
}

func (g *Gateway) have() wire.Have { return g.held().Have() }

// frame takes one message from the coordinator: a map is verified and saved before anybody acts on it.
func (g *Gateway) frame(f wire.Frame) error {
	g.noteClock(f.Now)
	next, stored, err := g.held().Take(g.opt.Identity.NetworkKey, f)
	if err != nil {
		return fmt.Errorf("refuse the NetMap: %w", err)
	}
	if stored != nil {
		if pub, err := g.opt.Identity.PrivateKey.Public(); err != nil || next.NetMap.Self.PublicKey != pub {
			return errors.New("refuse the NetMap: it is for another box")
		}
		if err := g.opt.Dir.SaveNetMap(*stored); err != nil {
			return err
		}
	}
	g.mu.Lock()
	g.netMap, g.hash, g.newest = next.NetMap, next.Hash, next.Generation
	g.link.Generation = g.newest
	g.mu.Unlock()
	if stored == nil {
		return nil
	}
	select {
	case g.changed <- struct{}{}:
	default: // one is waiting already, and will find the newest map
	}
	return nil
}

func (g *Gateway) connection(err error) {
	now := time.Now()
	g.mu.Lock()
	if connected := err == nil; connected != g.link.Connected || g.link.Since.IsZero() {
		g.link.Connected, g.link.Since = connected, now
	}
	g.link.LastError = ""
	if err != nil {
		g.link.LastError = err.Error()
	}
	since := g.link.Since
	g.mu.Unlock()
	switch {
	case err == nil:
		if g.health.Clear(codeCoordinator) {
			g.opt.Log.Info("coordinator reached again")
		}
	case errors.Is(err, control.ErrRemoved):
		g.health.Raise(codeCoordinator, health.Error, err.Error(), now)
	case now.Sub(since) > time.Minute:
		g.health.Raise(codeCoordinator, health.Info,
			"the coordinator has not been reached since "+since.UTC().Format(time.RFC3339)+"; this box goes on with its last good plan", now)
	}
}
