package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
)

// upLook is how often "towpath up" looks for something new to show.
const upLook = 250 * time.Millisecond

func upCommand() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "connect this computer to the services that its site may use, until it is stopped", ArgsUsage: "[TOKEN]",
		Description: `For a person's computer, with a token of "towpath token new --site SITE --kind workstation". The first time it takes the token ("-" reads
it from standard input); afterwards it goes on without one. It shows what is reachable where: set the viewer or the sender to those
addresses, which are of this computer alone. All other traffic of the computer goes where it always went. Ctrl-C ends it, and nothing of it is left in
the way.

With root and /dev/net/tun there is a network interface, and the services are also reachable at their overlay addresses; without, only
at the local ones.`,
		OnUsageError: usageError,
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name: "state", EnvVars: []string{"TOWPATH_STATE"}, DefaultText: "$XDG_STATE_HOME/towpath or ~/.local/state/towpath",
				Usage: "state `DIRECTORY`: this computer's key, its plan and its queue",
			},
			keyStoreFlag(), proxyFlag(),
			&cli.StringFlag{Name: "backend", Value: box.Auto, Usage: "tunnel `BACKEND`: auto, kernel (fastest, needs root and WireGuard in the kernel), userspace (network interface, needs root) or netstack (no privileges)"},
			&cli.BoolFlag{Name: "no-direct", Usage: "reach sites without an endpoint through the relay only, and look for no direct way"},
			&cli.BoolFlag{Name: "json", Usage: "write one line of JSON at each change instead of a table"},
		}, logFlags()...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return ui.Usagef("see \"towpath up --help\"", "%q is one argument too many", c.Args().Get(1))
			}
			if c.String("state") == "" {
				path, err := personalState()
				if err != nil {
					return err
				}
				if err := c.Set("state", path); err != nil {
					return fmt.Errorf("choose the state directory: %w", err)
				}
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
			if err := upEnroll(c, dir, enrollOptions{Ways: ways, Wait: &waiter{w: os.Stderr}, Kind: wire.Workstation}); err != nil {
				return err
			}
			log := slog.New(slog.DiscardHandler)
			if c.Bool("verbose") || c.Bool("log-json") {
				log = newLogger(c)
			}
			return up(c.Context, dir, gatewayOptions{
				LAN: netip.AddrFrom4([4]byte{127, 0, 0, 1}), LANAlso: loopback6(c.Context), Backend: c.String("backend"), Interface: box.Interface,
				Ways: ways, Kind: wire.Workstation, Dial: true,
			}, &upView{w: c.App.Writer, json: c.Bool("json")}, log)
		},
	}
}

// personalState is where a person's programs keep what must outlive them (XDG Base Directory Specification 0.8).
func personalState() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "towpath"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", ui.Hint(fmt.Errorf("find a place for the state: %w", err), "name one with --state")
	}
	return filepath.Join(home, ".local", "state", "towpath"), nil
}

// loopback6 is ::1 where this computer has it.
func loopback6(ctx context.Context) []netip.Addr {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp6", "[::1]:0")
	if err != nil {
		return nil
	}
	_ = l.Close()
	return []netip.Addr{netip.IPv6Loopback()}
}

// upEnroll enrolls with the token of the command line, if there is one and it is needed.
func upEnroll(c *cli.Context, dir *state.Dir, o enrollOptions) error {
	_, err := dir.Identity()
	switch {
	case err == nil && c.NArg() == 0:
		return nil
	case err == nil:
		return ui.Hint(state.ErrEnrolled, "leave the token away: \"towpath up\"; for another network or site, use another --state")
	case !errors.Is(err, state.ErrNotEnrolled):
		return explainKeyStore(err)
	case c.NArg() == 0:
		return ui.Hint(fmt.Errorf("%w: %s", err, c.String("state")), "get a token from the operator (kind workstation), then run \"towpath up TOKEN\"")
	}
	text := c.Args().First()
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(os.Stdin, 16<<10))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		text = string(b)
	}
	e, err := enroll(c.Context, dir, text, o)
	if err != nil {
		return err
	}
	e.tellClock(os.Stderr)
	return nil
}

// up runs until ctx is done, and shows what changes.
func up(ctx context.Context, dir *state.Dir, o gatewayOptions, v *upView, log *slog.Logger) error {
	return lives(ctx, o, log, func(o gatewayOptions) error { return upLife(ctx, dir, o, v, log) })
}

func upLife(ctx context.Context, dir *state.Dir, o gatewayOptions, v *upView, log *slog.Logger) error {
	g, end, err := newGateway(ctx, dir, o, log)
	if err != nil {
		return err
	}
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	tick := time.NewTicker(upLook)
	defer tick.Stop()
	for {
		select {
		case err := <-ran:
			return err
		case <-tick.C:
		}
		if s := g.Status(ctx); ctx.Err() == nil && (s.Coordinator.Applied > 0 || !s.Healthy) {
			if err := v.show(s); err != nil {
				return err
			}
		}
	}
}

// upState is what a person sees of a connected computer.
type upState struct {
	Site     string      `json:"site"`
	Node     string      `json:"node"`
	Services []upService `json:"services"`
	// Problems are Conditions of severity warning and error.
	Problems []upProblem `json:"problems"`
}

type upService struct {
	Service  string   `json:"service"`
	At       []string `json:"at"`
	Protocol string   `json:"protocol"`
	// Name is the called AE title, or the receiving application.
	Name string `json:"name,omitempty"`
	Mode string `json:"mode"`
}

type upProblem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func upStateOf(s localapi.Status) upState {
	out := upState{Site: s.Site, Node: s.Node, Services: []upService{}, Problems: []upProblem{}}
	for _, x := range s.Services {
		i := slices.IndexFunc(out.Services, func(u upService) bool { return u.Service == x.Name })
		if i >= 0 {
			out.Services[i].At = append(out.Services[i].At, x.Address)
			continue
		}
		out.Services = append(out.Services, upService{Service: x.Name, At: []string{x.Address}, Protocol: x.Protocol, Name: x.AETitle + x.Receiver, Mode: x.Mode})
	}
	for _, u := range out.Services {
		slices.Sort(u.At)
	}
	for _, c := range s.Conditions {
		if c.Severity != health.Info {
			out.Problems = append(out.Problems, upProblem{c.Code, c.Message})
		}
	}
	return out
}

// upView shows a state when it is another than before.
type upView struct {
	w    io.Writer
	json bool
	last upState
	any  bool
}

func (v *upView) show(s localapi.Status) error {
	now := upStateOf(s)
	same := func(a, b upProblem) bool { return a.Code == b.Code }
	servicesSame := slices.EqualFunc(now.Services, v.last.Services, func(a, b upService) bool {
		return a.Service == b.Service && a.Protocol == b.Protocol && a.Name == b.Name && a.Mode == b.Mode && slices.Equal(a.At, b.At)
	})
	if v.any && servicesSame && slices.EqualFunc(now.Problems, v.last.Problems, same) {
		return nil
	}
	before, first := v.last, !v.any
	v.last, v.any = now, true
	if v.json {
		if err := json.NewEncoder(v.w).Encode(now); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		return nil
	}
	if first {
		fmt.Fprintf(v.w, "Connected as %s of site %s. Ctrl-C ends it.\n", now.Node, now.Site)
	}
	for _, p := range now.Problems {
		if !slices.ContainsFunc(before.Problems, func(o upProblem) bool { return same(o, p) }) {
			fmt.Fprintf(v.w, "problem: %s\n", p.Message)
		}
	}
	if len(now.Problems) == 0 && len(before.Problems) > 0 {
		fmt.Fprintln(v.w, "All is well again.")
	}
	if servicesSame && !first {
		return nil
	}
	return v.table(now)
}

func (v *upView) table(s upState) error {
	if len(s.Services) == 0 {
		fmt.Fprintln(v.w, "No service is allowed to this site yet. What is allowed appears here by itself.")
		return nil
	}
	fmt.Fprintln(v.w)
	var rows [][]string
	for _, x := range s.Services {
		for i, at := range x.At {
			rows = append(rows, []string{upOnce(i, x.Service), at, upOnce(i, x.Protocol), upOnce(i, cmp.Or(x.Name, "-")), upOnce(i, x.Mode)})
		}
	}
	return ui.Table(v.w, []string{"SERVICE", "HERE AT", "PROTOCOL", "NAME THERE", "MODE"}, rows)
}

// upOnce leaves what a further address of the same service would repeat.
func upOnce(i int, s string) string {
	if i > 0 {
		return `"`
	}
	return s
}
