package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/clock"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/portmap"
	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/turn"
)

// minFree is what the queue always leaves free on its disk.
const minFree = 256 << 20

func gatewayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lan", Usage: "local `ADDRESS` where the clinic's devices connect; all addresses if not given"},
		&cli.StringSliceFlag{Name: "lan-net", Usage: "further network of the site as a `PREFIX`, where it has public addresses or is reached by the internet's side; more than once for several"},
		&cli.BoolFlag{Name: "no-firewall", Usage: "take away this machine's table of packet filter rules, and go without"},
		&cli.UintFlag{Name: "port", Usage: "WireGuard UDP `PORT`; chosen by the system if not given. A center needs a fixed one"},
		&cli.StringFlag{Name: "backend", Value: box.Auto, Usage: "tunnel `BACKEND`: auto, kernel (fastest, needs root and WireGuard in the kernel), userspace (network interface, needs root) or netstack (no privileges)"},
		&cli.StringFlag{Name: "interface", Value: box.Interface, Usage: "`NAME` of the tunnel's network interface, where the backend has one"},
		&cli.IntFlag{Name: "mtu", Usage: "inner MTU of the tunnel in `BYTES`; 1280 if not given"},
		&cli.BoolFlag{Name: "no-direct", Usage: "reach sites without an endpoint through the relay only, and look for no direct way"},
		&cli.BoolFlag{Name: "no-portmap", Usage: "ask the router for no port mapping (PCP, NAT-PMP)"},
		&cli.BoolFlag{Name: "no-transfer", Usage: "deliver queued objects straight to their service, without the center's gateway; give it on both sides"},
		&cli.StringFlag{Name: "folders", Usage: "`DIR` for the folders of HL7 services that are files; one of the state directory if not given"},
		&cli.Int64Flag{Name: "queue-max", Usage: "most `BYTES` the queue may hold; as much as the disk has, less 256 MiB, if not given"},
	}
}

func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name: "gateway", Usage: "run this machine's gateway, until it is stopped",
		Description: `Runs the tunnel, the DICOM and HL7 services that the coordinator planned for this site, and the queue. The box must be enrolled.
It keeps working from its last plan when the coordinator is away. When only the tunnel to the coordinator is silent, it asks on the web what is
wrong: directly and through the proxy, as enrolment does.`,
		OnUsageError: usageError,
		Flags:        append(append([]cli.Flag{stateFlag(), keyStoreFlag(), setClockFlag(), proxyFlag()}, gatewayFlags()...), logFlags()...),
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			cfg, err := gatewayConfig(c)
			if err != nil {
				return err
			}
			dir, err := openBox(c)
			if err != nil {
				return err
			}
			defer func() { _ = dir.Close() }()
			return runGateway(c.Context, dir, cfg, newLogger(c))
		},
	}
}

// gatewayOptions are what a person may choose for a gateway.
type gatewayOptions struct {
	LAN       netip.Addr
	LANAlso   []netip.Addr
	Port      uint16
	Backend   string
	Interface string
	MTU       int
	QueueMax  int64
	Folders   string
	// NoTransfer is gateway.Options.NoTransfer.
	NoTransfer bool
	Clock      machineClock
	Ways       control.Ways
	// Kind is what the state must be of; empty means a gateway.
	Kind wire.NodeKind
	// Dial says that the machine is a person's: its overlay routes and its firewall go when the program ends.
	Dial bool
	// LANNets are networks of the site wherever they are; NoFirewall takes the firewall away.
	LANNets    []netip.Prefix
	NoFirewall bool
	// Relay makes the machine a relay.
	Relay *relay.Relay
	// NoDirect leaves relayed peers on the relay.
	NoDirect bool
	// NoPortmap asks the router for nothing.
	NoPortmap bool
	// GiveWay and StandIn are those of gateway.Options, and Why is the reason for Backend if it is not a person's choice. They are set by lives.
	GiveWay, StandIn bool
	Why              string
}

func gatewayConfig(c *cli.Context) (gatewayOptions, error) {
	o := gatewayOptions{
		Backend: c.String("backend"), Interface: c.String("interface"), MTU: c.Int("mtu"), QueueMax: c.Int64("queue-max"), Folders: c.String("folders"), NoTransfer: c.Bool("no-transfer"), NoDirect: c.Bool("no-direct"),
		NoPortmap: c.Bool("no-portmap"),
		Clock:     clockOf(c), NoFirewall: c.Bool("no-firewall"),
	}
	var err error
	if o.LANNets, err = lanNets(c.StringSlice("lan-net")); err != nil {
		return o, err
	}
	if o.Ways, err = enrollWays(c); err != nil {
		return o, err
	}
	if s := c.String("lan"); s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return o, ui.Usagef("give an address of this machine, such as 192.168.1.10", "--lan %q is no IP address", s)
		}
		o.LAN = a
	}
	if p := c.Uint("port"); p > 65535 {
		return o, ui.Usagef("ports go up to 65535", "--port %d is no UDP port", p)
	}
	o.Port = uint16(c.Uint("port"))
	if o.MTU != 0 && (o.MTU < 576 || o.MTU > 1500) {
		return o, ui.Usagef("between 576 and 1500", "--mtu %d makes no sense", o.MTU)
	}
	if o.QueueMax < 0 {
		return o, ui.Usagef("give a number of bytes", "--queue-max %d makes no sense", o.QueueMax)
	}
	return o, nil
}

// runGateway runs the gateway role until ctx is done.
func runGateway(ctx context.Context, dir *state.Dir, o gatewayOptions, log *slog.Logger) error {
	return lives(ctx, o, log, func(o gatewayOptions) error {
		g, end, err := newGateway(ctx, dir, o, log)
		if err != nil {
			return err
		}
		defer end()
		return g.Run(ctx)
	})
}

// newGateway wires the gateway role: state, clock, queue, tunnel, daemon. The caller calls end after the daemon has ended.
func newGateway(ctx context.Context, dir *state.Dir, o gatewayOptions, log *slog.Logger) (_ *gateway.Gateway, end func(), err error) {
	id, err := dir.Identity()
	if errors.Is(err, state.ErrNotEnrolled) {
		return nil, nil, ui.Hint(err, "get a token from the operator, then run \"towpath enroll TOKEN\" with the same --state")
	}
	if err != nil {
		return nil, nil, explainKeyStore(err)
	}
	if err := checkKind(dir, id, o.Kind); err != nil {
		return nil, nil, err
	}
	log = log.With("site", id.Site)
	var closers []func() error
	closeAll := func() {
		for _, c := range slices.Backward(closers) {
			_ = c()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	keeper := clock.NewKeeper(o.Clock.Machine, dir, log)
	gateway.BootClock(ctx, keeper, dir, id, o.Ways, log)
	q, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{
		MaxBytes: o.QueueMax, MinFreeBytes: minFree, Ordered: reconcile.Ordered, Log: log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open the queue: %w", err)
	}
	closers = append(closers, q.Close)
	open := box.Device
	if o.Dial {
		open = box.DialDevice
	}
	if o.Relay != nil {
		open = relayDevice(o.Relay)
	}
	tap := &capture.Tap{}
	// One with a port of its own is called by others, so that UDP works there, and is to answer from the address that they called. A relay
	// has nobody to look for.
	ways := box.NewWays(o.Port == 0 && o.Relay == nil, !o.NoDirect && o.Relay == nil, log)
	dev, backend, err := open(o.Backend, o.Interface, tap, ways, log)
	if err != nil {
		return nil, nil, err
	}
	if o.Why != "" {
		backend = o.Backend + ", " + o.Why
	}
	if !box.Wrapped(dev) {
		ways = box.Ways{}
	}
	if !box.Tapped(dev) {
		tap = nil
	}
	guard, unguard, err := guardOf(ctx, dev, o)
	if err != nil {
		return nil, nil, err
	}
	closers = append(closers, unguard)
	turning := turn.NewStacked(dev, turn.Options{Log: log})
	closers = append(closers, turning.Close)
	opt := gateway.Options{
		Dir: dir, Identity: id, Device: turning, Spool: q, Backend: backend, LANAddress: o.LAN, LANAlso: o.LANAlso, ListenPort: o.Port, MTU: o.MTU,
		Folders: o.Folders, NoTransfer: o.NoTransfer, Version: version, Clock: keeper, Ways: o.Ways, Guard: guard, Tap: tap, Carrier: ways.Carrier, Steer: ways.Steer, GiveWay: o.GiveWay, StandIn: o.StandIn, Log: log,
		Addresses: func() []netip.Addr { return box.Addresses(box.Interface, o.Interface) },
		Look:      func() wire.Facts { return box.Facts(version, box.Interface, o.Interface) },
	}
	if !o.NoPortmap {
		opt.Router = portmap.DefaultRouter
	}
	if o.Relay != nil {
		opt.Relay = relaying{o.Relay}
		closers = append(closers, runRelay(o.Relay, turning, log))
	}
	g, err := gateway.New(opt)
	if err != nil {
		return nil, nil, err
	}
	return g, closeAll, nil
}

// checkKind refuses the state of another kind of member. A map that cannot be read is gateway.New's to report.
func checkKind(dir *state.Dir, id state.Identity, want wire.NodeKind) error {
	m, err := dir.NetMap(id.NetworkKey)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	return kindError("the state directory", cmp.Or(m.Self.Kind, wire.Gateway), cmp.Or(want, wire.Gateway))
}

// kindError says which command fits a member of another kind than the one wanted.
func kindError(what string, is, want wire.NodeKind) error {
	if is == want {
		return nil
	}
	hint := "ask the operator for a token of the right kind"
	switch is {
	case wire.Gateway:
		hint = "a site's box is run with \"towpath gateway\", and enrolled with \"towpath enroll TOKEN\""
	case wire.Workstation:
		hint = "a workstation is run with \"towpath up\""
	case wire.Relay:
		hint = "a relay is run with \"towpath relay\""
	case wire.Unmanaged:
	}
	return ui.Hint(fmt.Errorf("%s is a %s's, and not a %s's", what, is, want), "%s", hint)
}
