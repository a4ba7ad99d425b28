package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
)

// minFree is what the queue always leaves free on its disk.
const minFree = 256 << 20

func gatewayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lan", Usage: "local `ADDRESS` where the clinic's devices connect; all addresses if not given"},
		&cli.UintFlag{Name: "port", Usage: "WireGuard UDP `PORT`; chosen by the system if not given. A center needs a fixed one"},
		&cli.StringFlag{Name: "backend", Value: box.Auto, Usage: "tunnel `BACKEND`: auto, userspace (network interface, needs root) or netstack (no privileges)"},
		&cli.StringFlag{Name: "interface", Value: box.Interface, Usage: "`NAME` of the tunnel's network interface, where the backend has one"},
		&cli.IntFlag{Name: "mtu", Usage: "inner MTU of the tunnel in `BYTES`; 1280 if not given"},
		&cli.StringFlag{Name: "folders", Usage: "`DIR` for the folders of HL7 services that are files; one of the state directory if not given"},
		&cli.Int64Flag{Name: "queue-max", Usage: "most `BYTES` the queue may hold; as much as the disk has, less 256 MiB, if not given"},
	}
}

func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name: "gateway", Usage: "run this machine's gateway, until it is stopped",
		Description: `Runs the tunnel, the DICOM and HL7 services that the coordinator planned for this site, and the queue. The box must be enrolled.
It keeps working from its last plan when the coordinator is away.`,
		OnUsageError: usageError,
		Flags:        append(append([]cli.Flag{stateFlag(), setClockFlag()}, gatewayFlags()...), logFlags()...),
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			dir, err := openState(c.String("state"))
			if err != nil {
				return err
			}
			defer func() { _ = dir.Close() }()
			cfg, err := gatewayConfig(c)
			if err != nil {
				return err
			}
			return runGateway(c.Context, dir, cfg, newLogger(c))
		},
	}
}

// gatewayOptions are what a person may choose for a gateway.
type gatewayOptions struct {
	LAN       netip.Addr
	Port      uint16
	Backend   string
	Interface string
	MTU       int
	QueueMax  int64
	Folders   string
	Clock     machineClock
}

func gatewayConfig(c *cli.Context) (gatewayOptions, error) {
	o := gatewayOptions{
		Backend: c.String("backend"), Interface: c.String("interface"), MTU: c.Int("mtu"), QueueMax: c.Int64("queue-max"), Folders: c.String("folders"),
		Clock: clockOf(c),
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

// runGateway wires the gateway role: state, queue, tunnel, daemon.
func runGateway(ctx context.Context, dir *state.Dir, o gatewayOptions, log *slog.Logger) error {
	id, err := dir.Identity()
	if errors.Is(err, state.ErrNotEnrolled) {
		return ui.Hint(err, "get a token from the operator, then run \"towpath enroll TOKEN\" with the same --state")
	}
	if err != nil {
		return err
	}
	log = log.With("site", id.Site)
	defer o.Clock.guard(dir, log)()
	q, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{
		MaxBytes: o.QueueMax, MinFreeBytes: minFree, Ordered: reconcile.Ordered, Log: log,
	})
	if err != nil {
		return fmt.Errorf("open the queue: %w", err)
	}
	defer func() { _ = q.Close() }()
	dev, backend, err := box.Device(o.Backend, o.Interface, log)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }()
	g, err := gateway.New(gateway.Options{
		Dir: dir, Identity: id, Device: dev, Spool: q, Backend: backend, LANAddress: o.LAN, ListenPort: o.Port, MTU: o.MTU,
		Folders: o.Folders, Version: version, Log: log,
		Look: func() wire.Facts { return box.Facts(version, box.Interface, o.Interface) },
	})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}
