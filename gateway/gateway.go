package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/gateway/clock"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/portmap"
	"github.com/towpath/towpath/tunnel/steer"
)

// Condition codes of this package.
const (
	codeCoordinator = "coordinator"
	codeClock       = "clock"
	codeSkew        = "clock-skew"
	codeRepaired    = "clock-repaired"
	codeExpiry      = "netmap-expiry"
	codeEndpoint    = "endpoint/"
	codePeer        = "peer/"
	codeQueue       = "queue/"
	codeLANInPool   = "lan-in-pool"
	codeRotation    = "key-rotation"
	codeUnsigned    = "unsigned/"
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
	// LAN reaches the Site's devices; nil stands for this machine's own networks.
	LAN proxy.Network
	// LANAddress is where LAN listeners bind; the zero value means everywhere. LANAlso are further addresses, where there is one.
	LANAddress netip.Addr
	LANAlso    []netip.Addr
	// Folders is where HL7 Services that are files have their folders; empty means a directory of Dir.
	Folders string
	// ListenPort is the WireGuard UDP port; 0 lets the system choose.
	ListenPort uint16
	MTU        int
	// NoTransfer delivers queued objects straight to their service, and takes none from other gateways.
	NoTransfer bool
	Version    string
	// Look learns the Facts that are told to the coordinator. It is called at start and about every half minute, by one goroutine, and
	// may be nil.
	Look func() wire.Facts
	// Clock looks after the clock; nil stands for one that may not be set.
	Clock *clock.Keeper
	// Relay is told every map, before it is applied, and is what a Node of kind relay does besides; it may be nil.
	Relay Relay
	// Carrier takes packets over TCP where UDP is blocked. It is the one that Device was made with; nil if that has none.
	Carrier *carrier.Client
	// Steer is the Bind that Device was made with and that finds direct ways to relayed peers; nil if it has none. Addresses are those of the
	// machine's interfaces; it may be nil.
	Steer     *steer.Bind
	Addresses func() []netip.Addr
	// Router says which router is asked for a port mapping (portmap.DefaultRouter), for Steer; nil asks none.
	Router func() netip.AddrPort
	// GiveWay has Run end with ErrBlocked where another Device could be carried. StandIn says that Device is that one, and has Run end with
	// ErrUnblocked.
	GiveWay, StandIn bool
	// Ways are how the coordinator is asked when its hub is silent.
	Ways control.Ways
	// Guard is the firewall, where Device has an interface.
	Guard Guard
	// Standby are the times of the choice between the gateways of a center; zero fields are the defaults.
	Standby standby.Options
	// Tap is the one that Device was made with; nil if it has none.
	Tap *capture.Tap
	Log *slog.Logger
}

// Gateway is the running daemon.
type Gateway struct {
	opt      Options
	coord    *control.HTTP
	lan      *lan.Network
	health   health.Set
	runner   *reconcile.Runner
	sessions ring
	clock    *clock.Keeper
	// instance tells this process from all others.
	instance string
	started  time.Time
	hl7      reconcile.HL7
	lanTLS   *lanTLS

	making  making
	twins   *twins
	portmap *portmap.Keeper // nil if no router is asked
	devices *dicom.Devices

	devicesSaving sync.Mutex // guards what follows, of devices
	devicesSaved  int
	devicesAt     time.Time
	receipts      *receipts.Journal
	tracker       *tracker
	// spoolKeys are what the queue is encrypted with.
	spoolKeys *spoolKeys
	// pairing agrees on preshared keys with peers.
	pairing *pairing
	// pairMail is set when there may be messages for it.
	pairMail atomic.Bool

	changed chan struct{} // a new map is in place
	up      chan struct{} // closed when the first map was applied, as far as possible

	mu      sync.Mutex // guards the fields below
	id      state.Identity
	keys    keys
	netMap  wire.NetMap      // as it was signed
	plan    wire.NetMap      // what of netMap is to be believed
	hash    wire.ContentHash // of netMap
	applied uint64
	problem string // why the newest map is not applied
	newest  uint64 // generation for which netMap is true, as the coordinator says
	facts   wire.Facts
	from    netip.Addr // what the box dials comes from there
	lowered int        // the MTU in bytes, if it is not the one that was asked for
	link    localapi.Coordinator
}

// New reads the last good map. Without one the box has nothing to do, which only a damaged state directory can bring about.
func New(opt Options) (*Gateway, error) {
	m, err := opt.Dir.NetMap(opt.Identity.NetworkKey)
	if err != nil {
		return nil, fmt.Errorf("start from the saved NetMap: %w", err)
	}
	g := &Gateway{
		opt: opt, lan: &lan.Network{Mark: opt.Guard.mark()}, netMap: m, newest: m.Generation, clock: opt.Clock, instance: rand.Text(), started: time.Now(),
		changed: make(chan struct{}, 1), up: make(chan struct{}),
	}
	g.portmap = g.newPortmap()
	if g.clock == nil {
		g.clock = clock.NewKeeper(clock.Machine{}, opt.Dir, opt.Log)
	}
	if err := g.useIdentity(opt.Identity); err != nil {
		return nil, err
	}
	if g.plan, err = g.believe(m); err != nil {
		return nil, fmt.Errorf("start from the saved NetMap: %w", err)
	}
	// The hub's address is fixed for the life of a network: the plan gives it to the coordinator once.
	g.coord = control.NewHTTP(opt.Device.DialContext, netip.AddrPortFrom(m.Hub.Address, m.Hub.ControlPort).String())
	if g.spoolKeys, err = openSpoolKeys(opt, g.coord); err != nil {
		return nil, err
	}
	if g.pairing, err = openPairing(opt.Dir, g.coord, &g.health, opt.Log); err != nil {
		return nil, err
	}
	g.pairing.meet(g.pairView(), time.Now())
	if g.hl7, err = openHL7(opt); err != nil {
		return nil, err
	}
	g.twins, g.devices = newTwins(g), openDevices(opt)
	g.openStandby(opt.Standby)
	if g.lanTLS, err = openLANTLS(opt); err != nil {
		return nil, err
	}
	if g.receipts, err = openReceipts(opt); err != nil {
		return nil, err
	}
	opt.Spool.OnDelivered(g.keepReceipt)
	if g.tracker, err = openTracker(opt); err != nil {
		return nil, err
	}
	opt.Spool.OnChange(g.keepStep)
	var move reconcile.TransferConfig
	if !opt.NoTransfer {
		if move, err = g.transferConfig(); err != nil {
			return nil, err
		}
	}
	g.runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: opt.Device, Firewall: opt.Guard.Firewall, LANNet: g.devicesNet(), OverlayNet: opt.Device, Queue: opt.Spool, HL7: g.hl7, Transfer: move, Twins: g.twins.all, Devices: g.devices, Health: &g.health,
		LANTLS: reconcile.LANTLS{Book: g.lanTLS.book, Certificates: g.lanTLS},
		Log:    opt.Log, OnSession: g.sessions.add,
	})
	held, err := wire.NewHeld(m)
	if err != nil {
		return nil, fmt.Errorf("start from the saved NetMap: %w", err)
	}
	g.hash = held.Hash
	return g, nil
}

// devicesNet is how the Site's devices are reached.
func (g *Gateway) devicesNet() proxy.Network {
	if g.opt.LAN != nil {
		return g.opt.LAN
	}
	return g.lan
}

// Run works until ctx is done, then ends sessions in order and returns nil.
func (g *Gateway) Run(ctx context.Context) error {
	g.checkClock()
	defer g.coord.Close()
	defer func() { _ = g.hl7.Ledger.Close() }()
	defer g.saveLANBook()
	defer func() { _ = g.receipts.Close() }()
	defer func() { _ = g.tracker.history.Close() }()
	follower := control.Follower{Coordinator: g.coord, Have: g.have, Beat: g.beat, Frame: g.frame, State: g.connection, Log: g.opt.Log}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The loop stops the runner itself, after everything that could still change it.
	var group errgroup.Group
	group.Go(func() error { return g.loop(ctx) })
	group.Go(func() error {
		// Not before there is a tunnel: a first attempt that must fail would cost the pause after it.
		<-g.up
		return follower.Run(ctx)
	})
	group.Go(func() error { return g.reportLoop(ctx, g.coord) })
	var gaveWay error
	group.Go(func() error {
		if gaveWay = g.standingLoop(ctx); gaveWay != nil {
			stop()
		}
		return nil
	})
	group.Go(func() error { return g.twins.loop(ctx) })
	group.Go(func() error { return g.pathLoop(ctx) })
	if g.portmap != nil {
		group.Go(func() error {
			<-g.up
			g.portmap.Run(ctx)
			return nil
		})
	}
	group.Go(func() error {
		<-g.up
		return g.mtuLoop(ctx)
	})
	if g.opt.Carrier != nil {
		group.Go(func() error {
			g.opt.Carrier.Run(ctx)
			return nil
		})
	}
	group.Go(func() error { return g.spoolKeyLoop(ctx) })
	group.Go(func() error { return g.pairLoop(ctx) })
	group.Go(func() error {
		g.making.keeper.Run(ctx)
		return nil
	})
	group.Go(func() error {
		return localapi.Serve(ctx, g.opt.Dir.Path(state.SocketFile), g, localapi.QueuesOf(g.opt.Spool).Telling(g.runner.Reorder))
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(gaveWay, err)
}

// loop owns the desired state.
func (g *Gateway) loop(ctx context.Context) error {
	defer g.stopRunner()
	retry, observe := time.NewTicker(retryEvery), time.NewTicker(observeEvery)
	floor, look := time.NewTicker(floorEvery), time.NewTicker(lookEvery)
	defer retry.Stop()
	defer observe.Stop()
	defer floor.Stop()
	defer look.Stop()
	g.look()
	ok := g.applyAndTurn(ctx)
	close(g.up)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
			ok = g.applyAndTurn(ctx)
		case <-g.pairing.rekey:
			ok = g.rekeyPairs(ctx) && ok
		case <-retry.C:
			if !ok {
				ok = g.apply(ctx)
			}
		case <-observe.C:
			ok = g.observe(ctx) && ok
			g.guard(ctx)
			if g.turnKeys(ctx) {
				ok = g.apply(ctx)
			}
		case <-floor.C:
			g.checkClock()
			g.saveLANBook()
		case <-look.C:
			g.look()
		}
	}
}

// apply makes the newest map true as far as possible and reports whether nothing is left to try again.
func (g *Gateway) apply(ctx context.Context) bool {
	m, key := g.current()
	g.devices.Decide(decisionsOf(m))
	g.lan.Bar(m.Overlay)
	g.checkNetworks(m.Overlay)
	g.admit(m)
	endpoints, complete := g.resolve(ctx, m)
	g.aim(m, endpoints)
	err := g.make(ctx, m, reconcile.Local{
		PrivateKey: key, ListenPort: g.opt.ListenPort, MTU: g.mtu(),
		LANAddress: g.opt.LANAddress, LANAlso: g.opt.LANAlso, Endpoints: endpoints,
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys.configured(time.Now())
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
	names := endpointNames(m)
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
