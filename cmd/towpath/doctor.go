package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/doctor"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
)

// handshakeWait is enough for two initiations, of which the first may be lost (REKEY_TIMEOUT is 5 s, WireGuard paper §6.1).
const handshakeWait = 12 * time.Second

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "explain the way from this box to its network: what works, what does not, what to do",
		Description: `Asks each part by itself: the way out of the box, names, the coordinator on the web and by UDP, the clock, each site. While a gateway runs it is
asked; otherwise a tunnel to the coordinator is tried for a few seconds. Nothing is changed. Exit code 0 means that all is well, 3 that something
needs attention.`,
		OnUsageError: usageError,
		Flags:        []cli.Flag{stateFlag(), keyStoreFlag(), proxyFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			r, err := localClient(c).Doctor(c.Context)
			if errors.Is(err, localapi.ErrNotRunning) {
				r, err = examineStopped(c)
			} else if err != nil {
				return notRunning(c, err)
			}
			if err != nil {
				return err
			}
			if err := show(c, r, func(w io.Writer) error { return printReport(w, r) }); err != nil {
				return err
			}
			if !r.Healthy() {
				return ui.Silent(ui.ExitUnhealthy)
			}
			return nil
		},
	}
}

func printReport(w io.Writer, r doctor.Report) error {
	for _, f := range r {
		if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", f.Verdict, f.Check, f.Says); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if f.Do != "" {
			fmt.Fprintf(w, "%-8s -> %s\n", "", f.Do)
		}
	}
	return nil
}

// examineStopped examines a box whose gateway does not run.
func examineStopped(c *cli.Context) (doctor.Report, error) {
	ways, err := enrollWays(c)
	if err != nil {
		return nil, err
	}
	dir, err := openBox(c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	id, err := dir.Identity()
	if errors.Is(err, state.ErrNotEnrolled) {
		return nil, ui.Hint(err, "get a token from the operator, then run \"towpath enroll TOKEN\" with the same --state: it says what is in the way")
	}
	if err != nil {
		return nil, explainKeyStore(err)
	}
	m, err := dir.NetMap(id.NetworkKey)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	own, err := id.PrivateKey.Public()
	if err != nil {
		return nil, fmt.Errorf("read this box's key: %w", err)
	}
	r := gateway.Examine(c.Context, m, own, ways, func(ctx context.Context) (doctor.Tunnel, error) { return tryTunnel(ctx, m, id) })
	return append(doctor.Report{{
		Check: "gateway", Verdict: doctor.Warning, Says: "no gateway runs here", Do: `start it with "towpath gateway", or "systemctl start towpath-gateway"`,
	}}, r...), nil
}

// tryTunnel sees whether the coordinator answers by WireGuard. The box's key is used by nobody else meanwhile: its state is locked.
func tryTunnel(ctx context.Context, m wire.NetMap, id state.Identity) (doctor.Tunnel, error) {
	d, err := netstack.New(netstack.Options{FwMark: tunnel.MarkOuter})
	if err != nil {
		return doctor.Tunnel{}, fmt.Errorf("try a tunnel: %w", err)
	}
	defer func() { _ = d.Close() }()

	hub := tunnel.Peer{PublicKey: m.Hub.PublicKey, AllowedIPs: []netip.Prefix{hostOf(m.Hub.Address)}, PersistentKeepalive: time.Second}
	cfg := tunnel.Config{PrivateKey: id.PrivateKey, Addresses: []netip.Prefix{hostOf(m.Self.Address)}, Peers: []tunnel.Peer{hub}}
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	var st tunnel.Status
	each := handshakeWait / time.Duration(max(1, len(m.Hub.Endpoints)))
	for _, e := range m.Hub.Endpoints {
		at, err := net.DefaultResolver.LookupNetIP(ctx, "ip", endpointHost(e))
		if err != nil || len(at) == 0 {
			continue
		}
		cfg.Peers[0].Endpoint = netip.AddrPortFrom(at[0].Unmap(), endpointPort(e))
		if err := d.Configure(ctx, cfg); err != nil {
			return doctor.Tunnel{}, fmt.Errorf("try a tunnel: %w", err)
		}
		if st, err = answered(ctx, d, each); err != nil || !st.Peers[0].LastHandshake.IsZero() {
			break
		}
	}
	t := gateway.DoctorTunnel("netstack, for this question", 0, st)
	t.Trial = true
	return t, nil
}

func endpointHost(endpoint string) string {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint
	}
	return host
}

func endpointPort(endpoint string) uint16 {
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// answered waits for a handshake with the only peer.
func answered(ctx context.Context, d *netstack.Device, wait time.Duration) (tunnel.Status, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(wait)
	for {
		st, err := d.Status(ctx)
		if err != nil || !st.Peers[0].LastHandshake.IsZero() {
			return st, err
		}
		select {
		case <-tick.C:
		case <-end:
			return st, nil
		}
	}
}
