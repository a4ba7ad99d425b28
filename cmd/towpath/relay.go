package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// relayFile is where a relay keeps its table, in the directory of its role.
const relayFile = "relay.json"

func relayCommand() *cli.Command {
	return &cli.Command{
		Name: "relay", Usage: "run a relay on this machine, until it is stopped",
		Description: `Carries sealed WireGuard packets between boxes that cannot reach each other, on one UDP port. It cannot open them. The coordinator is
a relay itself; this is for one at another place, or for more traffic. It needs a public address, and a site of its own without a gateway:

  towpath site add relay-1 --kind center --endpoint relay-1.example.org:51820
  towpath token new --site relay-1 --kind relay

Enroll the machine with that token, then run this. It goes on when the coordinator is away, and from the table in its state directory when it
was restarted.`,
		OnUsageError: usageError,
		Flags: append([]cli.Flag{
			stateFlag(), keyStoreFlag(), setClockFlag(), proxyFlag(),
			&cli.UintFlag{Name: "port", Value: defaultHub, Usage: "UDP `PORT`, as in the endpoint of its site"},
			&cli.Int64Flag{Name: "max-rate", Usage: "most `BYTES` a second that it carries in all; 125000000 if not given"},
			&cli.Int64Flag{Name: "max-pair-rate", Usage: "most `BYTES` a second that it carries between two boxes; 25000000 if not given"},
		}, logFlags()...),
		Action: runRelayCommand,
	}
}

func runRelayCommand(c *cli.Context) error {
	if _, err := args(c); err != nil {
		return err
	}
	port := c.Uint("port")
	if port == 0 || port > 65535 {
		return ui.Usagef("ports are 1 to 65535", "--port %d is no UDP port", port)
	}
	limits := relay.Limits{TotalBytes: c.Int64("max-rate"), PairBytes: c.Int64("max-pair-rate")}
	if limits.TotalBytes < 0 || limits.PairBytes < 0 {
		return ui.Usagef("give a number of bytes", "a rate below 0 makes no sense")
	}
	ways, err := enrollWays(c)
	if err != nil {
		return err
	}
	dir, err := openBox(c)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	log := newLogger(c)
	o := gatewayOptions{
		Port: uint16(port), Backend: box.Netstack, Interface: box.Interface, Clock: clockOf(c), Ways: ways, Kind: wire.Relay,
		Relay: relay.New(relay.Options{File: dir.Path(relayFile), Limits: limits, Log: log}),
	}
	return runGateway(c.Context, dir, o, log)
}

// relayDevice makes the tunnel of a relay, which shares its port with it.
func relayDevice(r *relay.Relay) func(backend, iface string, tap *capture.Tap, w box.Ways, log *slog.Logger) (gateway.Device, string, error) {
	return func(_, iface string, tap *capture.Tap, _ box.Ways, log *slog.Logger) (gateway.Device, string, error) {
		d, err := netstack.New(netstack.Options{Log: log, Name: iface, Bind: r.Bind(nil), FwMark: tunnel.MarkOuter, Tap: tap})
		return d, box.Netstack + ", because a relay needs no interface", err
	}
}

// runRelay runs a relay until the function that it returns is called.
func runRelay(r *relay.Relay, dev tunnel.Device, log *slog.Logger) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, dev) }()
	return func() error {
		cancel()
		err := <-ended
		if err != nil {
			log.Warn("the relay's table is not saved", "error", err)
		}
		return err
	}
}

// hubRelay is that of the coordinator. Without one it admits nobody and costs nothing.
func hubRelay(dir string, cfg coordinatorConfig, log *slog.Logger) *relay.Relay {
	o := relay.Options{Log: log}
	if !cfg.NoRelay {
		o.File = filepath.Join(dir, relayFile)
	}
	return relay.New(o)
}

// admitTo tells a relay who may meet, in the words of the contract.
func admitTo(r *relay.Relay, own ...wgkey.PublicKey) func(wire.RelayTable) error {
	return func(t wire.RelayTable) error {
		a := relay.Admission{Own: own, Pairs: t.Pairs}
		for _, m := range t.Members {
			a.Members = append(a.Members, relay.Member{Key: m.PublicKey, Next: m.NextKey, Unmanaged: m.Unmanaged})
		}
		return r.Admit(a)
	}
}

// relaying is a relay as the daemon knows it.
type relaying struct{ *relay.Relay }

// Admit implements gateway.Relay.
func (r relaying) Admit(self wire.Self, t wire.RelayTable) error {
	own := []wgkey.PublicKey{self.PublicKey}
	if !self.NextKey.IsZero() {
		own = append(own, self.NextKey)
	}
	return admitTo(r.Relay, own...)(t)
}

// Status implements gateway.Relay.
func (r relaying) Status() localapi.Relay {
	c := r.Counters()
	out := localapi.Relay{Members: c.Members, Located: c.Located, Sessions: c.Sessions, Packets: c.Packets, Bytes: c.Bytes, Dropped: map[string]uint64{}}
	for why, n := range c.Dropped {
		out.Dropped[string(why)] = n
	}
	return out
}
