package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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

const (
	defaultState = "/var/lib/towpath/gateway"
	// maxSkew is how far the box's clock may be off before the person who enrolls it is told.
	maxSkew = 2 * time.Minute
)

func stateFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "state", Value: defaultState, EnvVars: []string{"TOWPATH_STATE"},
		Usage: "the box's state `DIRECTORY`: its key, its plan and its queue",
	}
}

func enrollCommand() *cli.Command {
	return &cli.Command{
		Name: "enroll", Usage: "make this machine the gateway of a site", ArgsUsage: "TOKEN",
		Description: `Takes the token that "towpath token new --site SITE" printed at the coordinator. "-" reads it from standard input, which
keeps it out of the shell's history. The box makes its own key, which never leaves it. Afterwards run "towpath gateway".`,
		OnUsageError: usageError,
		Flags:        []cli.Flag{stateFlag(), jsonFlag()},
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
			dir, err := openState(c.String("state"))
			if err != nil {
				return err
			}
			defer func() { _ = dir.Close() }()
			e, err := enroll(c.Context, dir, text, http.DefaultTransport)
			if err != nil {
				return err
			}
			if skew := time.Since(e.Coordinator); skew.Abs() > maxSkew {
				fmt.Fprintf(os.Stderr, "warning: this machine's clock differs from the coordinator's by %s; enable time synchronization, or handshakes may be refused later\n",
					skew.Abs().Round(time.Second))
			}
			return show(c, enrolledView(e), func(w io.Writer) error {
				fmt.Fprintf(w, "Enrolled as %s of site %s with address %s.\nStart the gateway now: towpath gateway --state %s\n",
					e.NetMap.Self.Node, e.NetMap.Self.Site, e.NetMap.Self.Address, c.String("state"))
				return nil
			})
		},
	}
}

type enrolledJSON struct {
	Node       string     `json:"node"`
	Site       string     `json:"site"`
	Address    netip.Addr `json:"address"`
	PublicKey  string     `json:"public_key"`
	Network    string     `json:"network"`
	Generation uint64     `json:"generation"`
}

func enrolledView(e control.Enrolled) enrolledJSON {
	return enrolledJSON{
		Node: e.NetMap.Self.Node, Site: e.NetMap.Self.Site, Address: e.NetMap.Self.Address,
		PublicKey: e.NetMap.Self.PublicKey.String(), Network: e.NetMap.Network, Generation: e.NetMap.Generation,
	}
}

func openState(path string) (*state.Dir, error) {
	d, err := state.Open(path)
	switch {
	case errors.Is(err, state.ErrLocked):
		return nil, ui.Hint(err, "stop the gateway that runs with this --state first")
	case errors.Is(err, os.ErrPermission):
		return nil, ui.Hint(err, "run as root, or choose another --state")
	case err != nil:
		return nil, err
	}
	return d, nil
}

// enroll redeems the token and saves what it gave. The key is made here and never leaves the box.
func enroll(ctx context.Context, dir *state.Dir, text string, transport http.RoundTripper) (control.Enrolled, error) {
	switch id, err := dir.Identity(); {
	case err == nil:
		return control.Enrolled{}, ui.Hint(fmt.Errorf("%w: as %s of site %s", state.ErrEnrolled, id.Node, id.Site),
			"to give this machine to another site, stop its gateway, let its queue run empty and use an empty --state")
	case !errors.Is(err, state.ErrNotEnrolled):
		return control.Enrolled{}, err
	}
	tok, err := wire.ParseToken(strings.TrimSpace(text))
	if err != nil {
		return control.Enrolled{}, &ui.Error{Err: err, Hint: "copy the token again, whole, or type it again", Code: ui.ExitUsage}
	}
	key, err := dir.PendingKey()
	if err != nil {
		return control.Enrolled{}, err
	}
	e, err := control.Enroll(ctx, &http.Client{Transport: transport}, tok, key, box.Facts(version, box.Interface))
	switch {
	case errors.Is(err, wire.ErrIdentity):
		return control.Enrolled{}, &ui.Error{
			Err: err, Code: ui.ExitDenied,
			Hint: "the token is of another network, or somebody on the way pretends to be the coordinator; ask the operator for a new token",
		}
	case errors.Is(err, control.ErrUnreachable):
		return control.Enrolled{}, ui.Hint(err, "check this machine's network, and that the coordinator runs at %s", strings.Join(tok.URLs, " or "))
	case err != nil:
		return control.Enrolled{}, err
	}
	err = dir.SaveEnrolled(state.Identity{
		PrivateKey: key, NetworkKey: e.NetworkKey, Node: e.NetMap.Self.Node, Site: e.NetMap.Self.Site, Enrolled: time.Now(),
	}, e.Signed)
	if err != nil {
		return control.Enrolled{}, fmt.Errorf("save the identity: %w", err)
	}
	return e, dir.RaiseTimeFloor(time.Now())
}
