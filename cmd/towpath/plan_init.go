package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planInitCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "lay out the plan: pools, large enough, and regions in them",
		Description: `Without --pool the coordinator chooses a private range for the sites, with as much again to spare, away from all networks that it
knows of. Every --region becomes a narrower pool; all are of one size. It adds to the pools that are there.

Examples:
  towpath plan init --sites 400 --hosts 14 --dry-run
  towpath plan init --pool 10.64.0.0/12 --region nord --region sued --ula`,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.StringSliceFlag{Name: "pool", Usage: "take this `PREFIX`; may be given several times"},
			&cli.IntFlag{Name: "sites", Usage: "`NUMBER` of sites that shall have room"},
			&cli.IntFlag{Name: "hosts", Usage: "`NUMBER` of addresses that each of them needs"},
			&cli.StringSliceFlag{Name: "region", Usage: "make a narrower pool of this `NAME`; may be given several times"},
			&cli.BoolFlag{Name: "ula", Usage: "add a random range for IPv6 (RFC 4193)"},
			&cli.BoolFlag{Name: "force", Usage: "take pools that are a bad idea, such as 100.64.0.0/10"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be added, and change nothing"},
		},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			for _, flag := range []string{"sites", "hosts"} {
				if c.IsSet(flag) && c.Int(flag) < 1 {
					return ui.Usagef("give 1 or more", "--%s %d is no such number", flag, c.Int(flag))
				}
			}
			l, err := adminClient(c).LayOut(c.Context, adminapi.NewLayout{
				Pools: c.StringSlice("pool"), Sites: c.Int("sites"), Hosts: c.Int("hosts"), Regions: c.StringSlice("region"), ULA: c.Bool("ula"),
				Force: c.Bool("force"), DryRun: c.Bool("dry-run"),
			})
			if err != nil {
				return offline(c, err)
			}
			return show(c, l, func(w io.Writer) error { return printLayout(w, l) })
		},
	}
}

func printLayout(w io.Writer, l adminapi.Layout) error {
	rows := make([][]string, 0, len(l.Pools))
	for _, r := range l.Pools {
		rows = append(rows, []string{r.Prefix.String(), r.Label, r.Note})
	}
	if err := ui.Table(w, []string{"POOL", "LABEL", "NOTE"}, rows); err != nil {
		return err
	}
	if l.Capacity > 0 {
		fmt.Fprintf(w, "Room for %d sites.\n", l.Capacity)
	}
	if !l.Done {
		return say(w, "Nothing was changed: this was a dry run.")
	}
	return say(w, "Added %s. See \"towpath plan show\".", ui.Count(len(l.Pools), "pool"))
}

func planQuarantineCommand() *cli.Command {
	return &cli.Command{
		Name: "quarantine", Usage: "say how long what is released stays unused, or change it for what is released from now on", ArgsUsage: "[DURATION]",
		Description: `Nobody gets the addresses before it has ended, so that nothing that still knows them reaches somebody else.

Examples:
  towpath plan quarantine
  towpath plan quarantine 30d`,
		Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			text, err := optionalArg(c, "DURATION")
			if err != nil {
				return err
			}
			client := adminClient(c)
			if text != "" {
				d, err := parseDuration(text)
				if err != nil {
					return ui.Usagef("such as 30d, 4w or 36h", "%w", err)
				}
				if err := client.SetQuarantine(c.Context, d); err != nil {
					return offline(c, err)
				}
			}
			p, err := client.Plan(c.Context)
			if err != nil {
				return offline(c, err)
			}
			return show(c, adminapi.Quarantine{Seconds: p.QuarantineSeconds}, func(w io.Writer) error {
				return say(w, "What is released stays unused for %s.", inWords(time.Duration(p.QuarantineSeconds)*time.Second))
			})
		},
	}
}
