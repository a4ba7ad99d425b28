package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show pools, how full they are, and every range; or all that the plan has of one site", ArgsUsage: "[SITE]",
		Description: `A narrower pool stands indented below the wider one that it is a part of, and counts as used there. The picture below a pool shows where
it is taken, from its lowest address on the left to its highest on the right.

Examples:
  towpath plan show
  towpath plan show praxis-nord`,
		Flags: []cli.Flag{dirFlag(), jsonFlag(), asciiFlag()},
		Action: func(c *cli.Context) error {
			site, err := optionalArg(c, "SITE")
			if err != nil {
				return err
			}
			if site != "" {
				return showSitePlan(c, site)
			}
			p, err := adminClient(c).Plan(c.Context)
			if err != nil {
				return offline(c, err)
			}
			return show(c, p, func(w io.Writer) error { return printPlan(w, p, glyphs(c)) })
		},
	}
}

func printPlan(w io.Writer, p adminapi.Plan, g ui.Glyphs) error {
	if err := printPools(w, p.Pools, g); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows := make([][]string, 0, len(p.Ranges))
	for _, r := range p.Ranges {
		rows = append(rows, []string{
			strconv.FormatInt(r.ID, 10), r.Prefix.String(), r.Kind, purposeOf(r), r.Owner, r.Label, stateOf(r), r.Note,
		})
	}
	return ui.Table(w, []string{"ID", "RANGE", "KIND", "PURPOSE", "OWNER", "LABEL", "STATE", "NOTE"}, rows)
}

// utilizationWidth is the length of a bar, in cells.
const utilizationWidth = 10

// printPools draws a line of figures and a strip for each pool.
func printPools(w io.Writer, pools []adminapi.Pool, g ui.Glyphs) error {
	if len(pools) == 0 {
		return say(w, "The plan has no pool. Add one with \"towpath plan init\" or \"towpath plan pool PREFIX\".")
	}
	rows := make([][]string, 0, len(pools))
	for _, x := range pools {
		free := "none"
		if x.LargestFree.IsValid() {
			free = x.LargestFree.String()
		}
		rows = append(rows, []string{
			strconv.FormatInt(x.ID, 10), strings.Repeat("  ", x.Depth) + x.Prefix.String(),
			fmt.Sprintf("%s %8s", g.Bar(x.Taken, utilizationWidth), ui.Percent(x.Taken)), free, x.Label, x.Note,
		})
	}
	var table bytes.Buffer
	if err := ui.Table(&table, []string{"ID", "POOL", "USED", "LARGEST FREE", "LABEL", "NOTE"}, rows); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	lead := strings.Repeat(" ", strings.Index(lines[0], "POOL"))
	fmt.Fprintln(w, lines[0])
	for i, line := range lines[1:] {
		fmt.Fprintln(w, line)
		if x := pools[i]; len(x.Strip) > 0 {
			fmt.Fprintf(w, "%s%s[%s]\n", lead, strings.Repeat("  ", x.Depth), g.Strip(x.Strip))
		}
	}
	return say(w, "%sEach mark is an equal part of its pool: %s.", lead, g.StripKey())
}

func showSitePlan(c *cli.Context, site string) error {
	p, err := adminClient(c).SitePlan(c.Context, site)
	if err != nil {
		return offline(c, err)
	}
	return show(c, p, func(w io.Writer) error { return printSitePlan(w, p) })
}

func printSitePlan(w io.Writer, p adminapi.SitePlan) error {
	title := ""
	if p.Title != "" {
		title = ", " + p.Title
	}
	fmt.Fprintf(w, "Site %s (%s)%s\n", p.Site, p.Kind, title)
	var rows [][]string
	for _, r := range p.Ranges {
		rows = append(rows, []string{strconv.FormatInt(r.ID, 10), r.Prefix.String(), r.Kind, purposeOf(r), r.Label, stateOf(r), r.Note})
	}
	if err := section(w, "Ranges", []string{"ID", "RANGE", "KIND", "PURPOSE", "LABEL", "STATE", "NOTE"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, n := range p.Nodes {
		former := ""
		if n.Former.IsValid() {
			former = n.Former.String()
		}
		rows = append(rows, []string{n.Node, n.Hostname, n.Address.String(), former})
	}
	if err := section(w, "Boxes", []string{"NODE", "HOST", "ADDRESS", "FORMER ADDRESS"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, v := range p.Services {
		rows = append(rows, []string{v.Name, v.Protocol, v.AETitle + v.Receiver, placeOf(v), v.Target, strings.Join(v.Users, ", ")})
	}
	if err := section(w, "Services", []string{"SERVICE", "PROTOCOL", "NAME THERE", "AT", "TARGET", "ALLOWED"}, rows); err != nil {
		return err
	}
	if len(p.Mappings) > 0 {
		fmt.Fprintln(w, "\nMappings")
		for _, m := range p.Mappings {
			fmt.Fprintln(w, m.Text)
		}
	}
	if len(p.Findings) > 0 {
		fmt.Fprintln(w, "\nFindings")
		printFindings(w, p.Findings)
	}
	return nil
}

// section writes a table under a title, and nothing if there is nothing.
func section(w io.Writer, title string, header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%s\n", title)
	return ui.Table(w, header, rows)
}

// placeOf says where a service is on the overlay, and whether that is its own address.
func placeOf(v adminapi.Service) string {
	switch {
	case v.At.IsValid() && v.Address.IsValid():
		return v.At.String() + " (fixed)"
	case v.At.IsValid():
		return v.At.String()
	case v.Address.IsValid():
		return fmt.Sprintf("%s:%d (fixed)", v.Address, v.Port)
	}
	return ""
}

func printFindings(w io.Writer, all []adminapi.Finding) {
	for _, f := range all {
		where := ""
		if f.Site != "" {
			where = " (" + f.Site + ")"
		}
		fmt.Fprintf(w, "%-7s  %s%s: %s\n         do: %s\n", f.Severity, f.Code, where, f.Message, f.Proposal)
	}
}
