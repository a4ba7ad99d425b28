package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planCommand() *cli.Command {
	addFlags := []cli.Flag{
		dirFlag(), jsonFlag(), &cli.StringFlag{Name: "note", Usage: "`TEXT` for people: what it is"},
	}
	return group("plan", "the address plan, in which nothing can overlap", append([]*cli.Command{
		{
			Name: "show", Usage: "show pools, how full they are, and every range", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				p, err := adminClient(c).Plan(c.Context)
				if err != nil {
					return offline(c, err)
				}
				return show(c, p, func(w io.Writer) error { return printPlan(w, p) })
			},
		},
		{
			Name: "pool", Usage: "add a pool, from which sites get their addresses", ArgsUsage: "PREFIX",
			Flags:  append([]cli.Flag{&cli.BoolFlag{Name: "force", Usage: "take a prefix that is a bad idea"}}, addFlags...),
			Action: addRange("pool"),
		},
		{
			Name: "reserve", Usage: "keep a range of a pool from being allocated", ArgsUsage: "PREFIX", Flags: addFlags, Action: addRange("reserved"),
		},
		{
			Name: "foreign", Usage: "note a range that belongs to others, such as a hospital's own network", ArgsUsage: "PREFIX",
			Flags: addFlags, Action: addRange("foreign"),
		},
		{
			Name: "remove", Usage: "remove a pool, a reservation or a foreign range", ArgsUsage: "ID", Flags: []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "ID")
				if err != nil {
					return err
				}
				id, err := strconv.ParseInt(a[0], 10, 64)
				if err != nil {
					return ui.Usagef("\"towpath plan show\" lists the ids", "%q is no range's id", a[0])
				}
				return offline(c, adminClient(c).RemoveRange(c.Context, id))
			},
		},
	}, planFileCommands()...)...)
}

func addRange(kind string) cli.ActionFunc {
	return func(c *cli.Context) error {
		a, err := args(c, "PREFIX")
		if err != nil {
			return err
		}
		r, err := adminClient(c).AddRange(c.Context, adminapi.NewRange{Kind: kind, Prefix: a[0], Note: c.String("note"), Force: c.Bool("force")})
		if err != nil {
			return offline(c, err)
		}
		return show(c, r, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s %s has id %d.\n", r.Kind, r.Prefix, r.ID)
			return err
		})
	}
}

func printPlan(w io.Writer, p adminapi.Plan) error {
	var rows [][]string
	for _, x := range p.Pools {
		rows = append(rows, []string{strconv.FormatInt(x.ID, 10), x.Prefix.String(), fmt.Sprintf("%.1f %%", 100*x.Taken), x.Note})
	}
	if err := ui.Table(w, []string{"ID", "POOL", "USED", "NOTE"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = nil
	for _, x := range p.Ranges {
		until := ""
		if !x.Until.IsZero() {
			until = "quarantined until " + x.Until.Format(time.DateOnly)
		}
		rows = append(rows, []string{strconv.FormatInt(x.ID, 10), x.Prefix.String(), x.Kind, x.Owner, until, x.Note})
	}
	return ui.Table(w, []string{"ID", "RANGE", "KIND", "OWNER", "STATE", "NOTE"}, rows)
}
