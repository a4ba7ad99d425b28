package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
)

const defaultState = "/var/lib/towpath/gateway"

func stateFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "state", Value: defaultState, EnvVars: []string{"TOWPATH_STATE"},
		Usage: "the box's state `DIRECTORY`: its key, its plan and its queue",
	}
}

func enrollCommand() *cli.Command {
	return &cli.Command{
		Name: "enroll", Usage: "make this machine a member of the network, as what its token says", ArgsUsage: "TOKEN",
		Description: `Takes the token that "towpath token new --site SITE" printed at the coordinator. "-" reads it from standard input, which
keeps it out of the shell's history. The box makes its own key, which never leaves it. Afterwards run "towpath gateway", or
"towpath up" on a workstation.

A token may ask for approval. Then this shows the short form of the box's key and waits until somebody at the center has compared it
and approved the box. Ctrl-C ends the waiting, and the same command goes on with it. --no-wait does not wait: it ends with exit code 3,
and the same command asks again.

Plain HTTP or HTTPS is enough, and a proxy that opens TLS is no harm: everything secret is sealed to the coordinator's key. With --proxy the
coordinator is asked through it first and directly second; without, directly first and then through the proxy of HTTP_PROXY, HTTPS_PROXY and
NO_PROXY. A password is safer in TOWPATH_PROXY than on the command line, which other users of the machine can see.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			stateFlag(), keyStoreFlag(), proxyFlag(), setClockFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "no-wait", Usage: "do not wait for approval: end with exit code 3"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "TOKEN")
			if err != nil {
				return err
			}
			text := a[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(os.Stdin, 16<<10))
				if err != nil {
					return fmt.Errorf("read the token: %w", err)
				}
				text = string(b)
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
			o := enrollOptions{Ways: ways, Clock: clockOf(c)}
			if !c.Bool("no-wait") {
				o.Wait = &waiter{w: os.Stderr}
			}
			e, err := enroll(c.Context, dir, text, o)
			if _, waits := errors.AsType[*control.WaitError](err); waits {
				return stillWaits(c, dir, err)
			}
			if err != nil {
				return err
			}
			e.tellClock(os.Stderr)
			return show(c, enrolledView(e.Enrolled), func(w io.Writer) error {
				self := e.NetMap.Self
				_, err := fmt.Fprintf(w, "Enrolled as %s of site %s with address %s.\n%s\n",
					self.Node, self.Site, self.Address, nextStep(self.Kind, whereOf(c)))
				return err
			})
		},
	}
}

// whereOf is the state directory as flags of the next command need it, with the key store if it is not the default.
func whereOf(c *cli.Context) string {
	where := c.String("state")
	if c.IsSet("key-store") {
		where += " --key-store " + c.String("key-store")
	}
	return where
}

// nextStep says what starts a member of a kind.
func nextStep(k wire.NodeKind, state string) string {
	switch k {
	case wire.Workstation:
		return "Connect now: towpath up --state " + state
	case wire.Relay:
		return "Start the relay now: towpath relay --state " + state
	default:
		return "Start the gateway now: towpath gateway --state " + state
	}
}

type enrolledJSON struct {
	Node       string     `json:"node"`
	Kind       string     `json:"kind"`
	Site       string     `json:"site"`
	Address    netip.Addr `json:"address"`
	PublicKey  string     `json:"public_key"`
	Network    string     `json:"network"`
	Generation uint64     `json:"generation"`
}

func enrolledView(e control.Enrolled) enrolledJSON {
	return enrolledJSON{
		Node: e.NetMap.Self.Node, Kind: string(cmp.Or(e.NetMap.Self.Kind, wire.Gateway)), Site: e.NetMap.Self.Site, Address: e.NetMap.Self.Address,
		PublicKey: e.NetMap.Self.PublicKey.String(), Network: e.NetMap.Network, Generation: e.NetMap.Generation,
	}
}

// enrollOptions are how a box enrolls. The zero value is the direct way, and leaves the machine's clock alone.
type enrollOptions struct {
	Ways  control.Ways
	Clock machineClock
	// Wait shows what is waited for; nil means that a box that has to wait gets a *control.WaitError.
	Wait *waiter
	// Kind is what the token must be for; empty takes each. A token of another kind stays good for the same --state.
	Kind wire.NodeKind
}

// enrollment is an enrolment that was saved, and what became of the clock.
type enrollment struct {
	control.Enrolled

	// clockSet is by how much the clock was set, clockErr why it could not be.
	clockSet time.Duration
	clockErr error
}

// enroll redeems the token and saves what it gave. The key is made here and never leaves the box.
func enroll(ctx context.Context, dir *state.Dir, text string, o enrollOptions) (enrollment, error) {
	switch id, err := dir.Identity(); {
	case err == nil:
		return enrollment{}, ui.Hint(fmt.Errorf("%w: as %s of site %s", state.ErrEnrolled, id.Node, id.Site),
			"to give this machine to another site, stop its gateway, let its queue run empty and use an empty --state")
	case !errors.Is(err, state.ErrNotEnrolled):
		return enrollment{}, err
	}
	tok, err := wire.ParseToken(strings.TrimSpace(text))
	if err != nil {
		return enrollment{}, &ui.Error{Err: err, Hint: "copy the token again, whole, or type it again", Code: ui.ExitUsage}
	}
	key, err := dir.PendingKey()
	if err != nil {
		return enrollment{}, err
	}
	var e enrollment
	facts := box.Facts(version, box.Interface)
	o.Ways.As = o.Kind
	if o.Wait == nil {
		e.Enrolled, err = control.Enroll(ctx, o.Ways, tok, key, facts)
	} else {
		e.Enrolled, err = o.Wait.enroll(ctx, o.Ways, tok, key, facts)
	}
	if err != nil {
		return enrollment{}, explainEnroll(err, tok)
	}
	if o.Kind != "" { // a coordinator of an earlier version does not look
		if err := kindError("this token", cmp.Or(e.NetMap.Self.Kind, wire.Gateway), o.Kind); err != nil {
			return enrollment{}, err
		}
	}
	// Before anything is written with a time, and before the first handshake. A floor that cannot be read
	// counts as none: this key has made no handshake yet.
	floor, _ := dir.TimeFloor()
	e.clockSet, e.clockErr = o.Clock.repair(floor, e.Coordinator)
	err = dir.SaveEnrolled(state.Identity{
		PrivateKey: key, NetworkKey: e.NetworkKey, Node: e.NetMap.Self.Node, Site: e.NetMap.Self.Site, Enrolled: time.Now(),
	}, e.Signed)
	if err != nil {
		return enrollment{}, fmt.Errorf("save the identity: %w", err)
	}
	return e, dir.RaiseTimeFloor(time.Now())
}

// tellClock says what was done with the clock, or should be.
func (e enrollment) tellClock(w io.Writer) {
	const most = state.ClockTolerance
	switch skew := time.Since(e.Coordinator); {
	case e.clockErr != nil:
		fmt.Fprintf(w, "warning: this machine's clock is wrong and --set-clock failed: %v; run as root, or set it yourself\n", e.clockErr)
	case e.clockSet != 0:
		fmt.Fprintf(w, "This machine's clock was wrong by %s and was set to the coordinator's.\n", e.clockSet.Abs().Round(time.Second))
	case skew.Abs() > most:
		fmt.Fprintf(w, "warning: this machine's clock differs from the coordinator's by %s; enable time synchronization, or handshakes may be refused later\n",
			skew.Abs().Round(time.Second))
	}
}
