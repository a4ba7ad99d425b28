package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

func nodeCommand() *cli.Command {
	return group("node", "the enrolled boxes and how they are",
		&cli.Command{
			Name: "list", Usage: "list all nodes, whether they are there, and whether they follow the plan", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				all, err := adminClient(c).Nodes(c.Context)
				if err != nil {
					return offline(c, err)
				}
				return show(c, all, func(w io.Writer) error {
					var rows [][]string
					for _, n := range all {
						seen := ui.Ago(n.LastSeen, time.Now())
						if n.Online {
							seen = "now"
						}
						address := n.Address.String()
						if n.Former.IsValid() {
							address += ", formerly " + n.Former.String()
						}
						rows = append(rows, []string{
							n.Site, nodeName(n), n.Kind, n.State, n.KeyPrint, address, seen, planState(n, time.Now()), because(n), strconv.Itoa(len(n.Conditions)), n.Version,
						})
					}
					return ui.Table(w, []string{
						"SITE", "NODE", "KIND", "STATE", "KEY", "ADDRESS", "SEEN", "PLAN", "BECAUSE", "CONDITIONS", "VERSION",
					}, rows)
				})
			},
		},
		nodeShowCommand(), nodeApproveCommand(), nodeRejectCommand(), nodeReplaceCommand(), nodeSetCommand(),
		nodeRotateCommand(), nodeQuarantineCommand(), nodeReadmitCommand(),
		&cli.Command{
			Name: "remove", Usage: "end a node's membership: every peer drops its key within seconds", ArgsUsage: "NODE", Flags: []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NODE")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).RemoveNode(c.Context, a[0]))
			},
		},
	)
}

// nodeName is the id of a node, and what people call an unmanaged device.
func nodeName(n adminapi.Node) string {
	if n.Name == "" {
		return n.ID
	}
	return n.ID + " " + n.Name
}

// because says why a node is not what it should be.
func because(n adminapi.Node) string {
	if n.Reason != "" {
		return n.Reason
	}
	return n.ApplyError
}

// planState says whether a node has made its newest map true, and if not, which and since when it should.
func planState(n adminapi.Node, now time.Time) string {
	switch {
	case n.Kind == string(wire.Unmanaged) || n.State != provisioning.NodeActive.String():
		return "" // it has no map
	case n.Applied >= n.Desired:
		return "current"
	case n.BehindSince.IsZero():
		return fmt.Sprintf("%d of %d", n.Applied, n.Desired)
	}
	return fmt.Sprintf("%d of %d since %s", n.Applied, n.Desired, ui.For(n.BehindSince, now))
}

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "show the audit trail: who changed what, and when",
		OnUsageError: usageError,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.Uint64Flag{Name: "after", Usage: "start after entry `NUMBER`"},
			&cli.IntFlag{Name: "limit", Value: 100, Usage: "show `NUMBER` entries at most"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			all, err := adminClient(c).Events(c.Context, c.Uint64("after"), c.Int("limit"))
			if err != nil {
				return offline(c, err)
			}
			return show(c, all, func(w io.Writer) error {
				var rows [][]string
				for _, e := range all {
					rows = append(rows, []string{strconv.FormatUint(e.Seq, 10), e.At.Local().Format(time.DateTime), e.Actor, e.Action, e.Subject, e.Detail})
				}
				return ui.Table(w, []string{"NO", "AT", "WHO", "DID", "TO", "DETAIL"}, rows)
			})
		},
	}
}

// offline explains a coordinator that does not answer.
func offline(c *cli.Context, err error) error {
	if e, ok := errors.AsType[*provisioning.Error](err); ok && e.Code == provisioning.Unavailable {
		return ui.Hint(err, "start it with \"towpath coordinator serve --dir %s\", or name another --dir", c.String("dir"))
	}
	return err
}
