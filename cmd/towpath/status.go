package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show how this machine's gateway is doing",
		Description: `Exit code 0 means healthy, 3 that something needs attention, 1 that no gateway runs here.

With --watch it shows how the queues fill and empty until it is stopped: what waits, how fast it leaves, and when it will be gone at that speed. On
a terminal it refreshes in place, elsewhere it writes lines, and with --json one object a line.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			stateFlag(), jsonFlag(), &cli.BoolFlag{Name: "watch", Usage: "go on and show the progress of the queues"},
			&cli.DurationFlag{Name: "every", Value: time.Second, Usage: "with --watch: `TIME` between two looks, 1s to 1h"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			if c.Bool("watch") {
				return watchStatus(c)
			}
			s, err := localClient(c).Status(c.Context)
			if err != nil {
				return notRunning(c, err)
			}
			if err := show(c, s, func(w io.Writer) error { return printStatus(w, s) }); err != nil {
				return err
			}
			if !s.Healthy {
				return ui.Silent(ui.ExitUnhealthy)
			}
			return nil
		},
	}
}

func localClient(c *cli.Context) *localapi.Client {
	return localapi.NewClient(filepath.Join(c.String("state"), state.SocketFile))
}

func notRunning(c *cli.Context, err error) error {
	switch {
	case errors.Is(err, localapi.ErrNotRunning):
		return ui.Hint(fmt.Errorf("%w: %s", err, c.String("state")), "start it with \"towpath gateway\", or name its state directory with --state")
	case errors.Is(err, os.ErrPermission):
		return ui.Hint(err, "run as root or as the gateway's user")
	}
	return err
}

func printStatus(w io.Writer, s localapi.Status) error {
	now := time.Now()
	fmt.Fprintf(w, "Site %s (%s), node %s, address %s, towpath %s\n", s.Site, s.SiteKind, s.Node, s.Address, s.Version)
	var link string
	switch {
	case s.Coordinator.Since.IsZero():
		link = "not connected yet"
	case s.Coordinator.Connected:
		link = "connected for " + ui.For(s.Coordinator.Since, now)
	default:
		link = "not connected for " + ui.For(s.Coordinator.Since, now)
	}
	fmt.Fprintf(w, "Coordinator %s; plan generation %d, applied %d\n", link, s.Coordinator.Generation, s.Coordinator.Applied)
	if len(s.Conditions) == 0 {
		fmt.Fprintln(w, "Healthy.")
	}
	for _, c := range s.Conditions {
		fmt.Fprintf(w, "%s for %s: %s\n", c.Severity, ui.For(c.Since, now), c.Message)
	}
	fmt.Fprintln(w, spoolLine(s.Spool))
	if r := s.Relay; r != nil {
		fmt.Fprintf(w, "\nRelay: %d members, %d located, %d sessions; %d packets with %s carried\n", r.Members, r.Located, r.Sessions, r.Packets, ui.Bytes(int64(r.Bytes)))
		for _, why := range slices.Sorted(maps.Keys(r.Dropped)) {
			fmt.Fprintf(w, "  %d dropped: %s\n", r.Dropped[why], why)
		}
	}
	fmt.Fprintf(w, "\nTunnel (%s, UDP port %d, MTU %d)\n", s.Tunnel.Backend, s.Tunnel.ListenPort, s.Tunnel.MTU)
	if c := s.Carrier; c != nil && c.Carried {
		fmt.Fprintf(w, "UDP is blocked here: carried over %s since %s; %d packets dropped on the way out\n", c.How, c.Since.Local().Format(time.DateTime), c.Dropped)
	}
	if m := s.PortMapping; m != nil {
		fmt.Fprintln(w, mappingLine(*m))
	}
	var rows [][]string
	for _, p := range s.Tunnel.Peers {
		endpoint := ""
		if p.Endpoint.IsValid() {
			endpoint = p.Endpoint.String()
		}
		rows = append(rows, []string{p.Site, endpoint, wayOf(p.Path, now), ui.Ago(p.LastHandshake, now), ui.Bytes(int64(p.RxBytes)), ui.Bytes(int64(p.TxBytes)), p.PostQuantum})
	}
	if err := ui.Table(w, []string{"PEER", "ENDPOINT", "WAY", "HANDSHAKE", "RECEIVED", "SENT", "POST-QUANTUM"}, rows); err != nil {
		return err
	}
	if err := printStandby(w, s.Standby, now); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printFirewall(w, s.Firewall); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nServices")
	rows = nil
	for _, x := range s.Services {
		rows = append(rows, []string{x.Name, x.Side, x.Protocol, x.Address, x.AETitle + x.Receiver, x.Mode, strconv.Itoa(x.Live), counts(x.Totals)})
	}
	if err := ui.Table(w, []string{"SERVICE", "SIDE", "PROTOCOL", "LISTENS AT", "NAME THERE", "MODE", "LIVE", "ENDED"}, rows); err != nil {
		return err
	}
	if err := printArchivesOf(w, s, now); err != nil {
		return err
	}
	if err := printRefusals(w, s.Sessions, now); err != nil {
		return err
	}
	if err := printTransfers(w, s); err != nil {
		return err
	}
	if err := printPolls(w, s, now); err != nil || len(s.Queues) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nQueues")
	rows = nil
	for _, q := range s.Queues {
		rows = append(rows, []string{q.Queue, waiting(q), strconv.Itoa(q.Carried), strconv.Itoa(q.Parked), queueSize(q), strconv.FormatUint(q.Delivered, 10), q.LastError})
	}
	return ui.Table(w, []string{"QUEUE", "WAITING", "CARRIED", "PARKED", "SIZE", "DELIVERED", "LAST ERROR"}, rows)
}

// refusalsShown is how many sessions that did not end well a person gets to see; JSON has more.
const refusalsShown = 5

func printRefusals(w io.Writer, sessions []localapi.Session, now time.Time) error {
	var rows [][]string
	for _, s := range sessions {
		if s.Outcome != string(proxy.OutcomeDone) && len(rows) < refusalsShown {
			rows = append(rows, []string{ui.Ago(s.Ended, now), s.Remote.Addr().String(), s.Calling, s.Called, s.Outcome, s.Detail})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nLast sessions that did not end well")
	return ui.Table(w, []string{"ENDED", "FROM", "CALLING", "CALLED", "OUTCOME", "BECAUSE"}, rows)
}

func counts(t proxy.Totals) string {
	var out []string
	for _, o := range []proxy.Outcome{
		proxy.OutcomeDone, proxy.OutcomeRefused, proxy.OutcomeUnreachable, proxy.OutcomeAborted, proxy.OutcomeMalformed, proxy.OutcomeTimeout,
	} {
		if n := t.Outcomes[o]; n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(out, ", ")
}

func probeCommand() *cli.Command {
	return &cli.Command{
		Name: "probe", Usage: "try to open a connection inside the tunnel", ArgsUsage: "ADDRESS:PORT",
		Description: `Asks the running gateway to connect to an overlay address and tells what came of it. Useful to see a refusal: an address of
another clinic has no peer here, so nothing is even sent. Exit code 4 means not reached.`,
		OnUsageError: usageError,
		Flags:        []cli.Flag{stateFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "ADDRESS:PORT")
			if err != nil {
				return err
			}
			ap, err := netip.ParseAddrPort(a[0])
			if err != nil {
				return ui.Usagef("such as 10.201.0.17:11112", "%q is no address with a port", a[0])
			}
			r, err := localClient(c).Probe(c.Context, localapi.ProbeRequest{Address: ap})
			if err != nil {
				return notRunning(c, err)
			}
			err = show(c, r, func(w io.Writer) error {
				if r.Reached {
					fmt.Fprintf(w, "%s answered in %s\n", ap, r.Took.Round(time.Microsecond))
					return nil
				}
				fmt.Fprintf(w, "%s was not reached: %s\n", ap, r.Error)
				return nil
			})
			if err != nil {
				return err
			}
			if !r.Reached {
				return ui.Silent(ui.ExitDenied)
			}
			return nil
		},
	}
}

// wayOf says how a relayed peer is reached; "-" for others, which have one way only.
func wayOf(p *localapi.Path, now time.Time) string {
	switch {
	case p == nil:
		return "-"
	case p.Direct.IsValid():
		s := fmt.Sprintf("direct for %s, %s", ui.For(p.Since, now), p.RTT.Round(100*time.Microsecond))
		if p.Loss > 0 {
			s += fmt.Sprintf(", %.0f %% lost", 100*p.Loss)
		}
		return s
	}
	return "relay, " + p.State + " for " + ui.For(p.Since, now)
}

// mappingLine says what the router has agreed to.
func mappingLine(m localapi.PortMapping) string {
	switch {
	case m.External.IsValid() && m.Public:
		return fmt.Sprintf("Port mapping: %s (%s)", m.External, m.Protocol)
	case m.External.IsValid():
		return fmt.Sprintf("Port mapping: %s (%s), not used: no address of the internet", m.External, m.Protocol)
	case m.Problem != "":
		return "Port mapping: none, " + m.Problem
	}
	return "Port mapping: not asked for yet"
}
