package main

import (
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

func nodeRotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "change the key of a node without a gap", ArgsUsage: "NODE",
		Description: `The box makes a new key, all its peers are told, and when they know it the box changes; the old key is dropped as soon as the hub hears the
new one. "towpath plan check" says who is waited for. A peer that was silent for a day is not.`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.BoolFlag{Name: "force", Usage: "also where plain WireGuard devices have the old key in their files, which then need new ones"},
			&cli.BoolFlag{Name: "cancel", Usage: "end a change that is under way: the node stays with its key"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			if c.Bool("cancel") {
				if c.Bool("force") {
					return ui.Usagef("give one of them", "--force and --cancel contradict each other")
				}
				return offline(c, adminClient(c).CancelRotation(c.Context, a[0]))
			}
			return offline(c, adminClient(c).RotateNode(c.Context, a[0], c.Bool("force")))
		},
	}
}

func nodeQuarantineCommand() *cli.Command {
	return &cli.Command{
		Name: "quarantine", Usage: "shut a node out until it is readmitted or replaced", ArgsUsage: "NODE",
		Description: `Every peer and the hub drop its key within seconds, also when the box is off. Its addresses and what it is granted stay. The coordinator does
this by itself when it sees one key in two places.`,
		Flags: []cli.Flag{dirFlag(), &cli.StringFlag{Name: "reason", Required: true, Usage: "why, as `TEXT` for your colleagues and the audit trail"}},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).QuarantineNode(c.Context, a[0], c.String("reason")))
		},
	}
}

func nodeReadmitCommand() *cli.Command {
	return &cli.Command{
		Name: "readmit", Usage: "let a quarantined node back in, with the key it has", ArgsUsage: "NODE",
		Description: `If its key was seen in two places, somebody else may still have it: "towpath node replace" gives the place a new key instead.`,
		Flags:       []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).ReadmitNode(c.Context, a[0]))
		},
	}
}
