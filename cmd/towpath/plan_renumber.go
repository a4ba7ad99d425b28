package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planRenumberCommand() *cli.Command {
	return &cli.Command{
		Name: "renumber", Usage: "give a site new addresses, beside the old ones until these end", ArgsUsage: "SITE",
		Description: `It shows all that changes before it asks: boxes, services with their users, and the lines of AE tables that somebody must edit. Old and
new addresses both work for the time of --keep; --end ends the old ones at once.

Examples:
  towpath plan renumber praxis-nord --dry-run
  towpath plan renumber praxis-nord --pool region-nord --keep 14d
  towpath plan renumber praxis-nord --end`,
		Flags: append([]cli.Flag{
			dirFlag(), jsonFlag(), &cli.StringFlag{Name: "to", Usage: "move to this `PREFIX`; chosen if not given, as large as the old one and in the same pool if it has room"}, poolFlag(),
		}, append(sizeFlags(),
			&cli.StringFlag{Name: "keep", Value: "7d", Usage: "`DURATION` for which the old addresses go on working"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would change, and change nothing"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "end", Usage: "end the old addresses of an earlier renumbering now"})...),
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			if c.Bool("end") {
				return endRenumbering(c, a[0])
			}
			return renumber(c, a[0])
		},
	}
}

func renumber(c *cli.Context, site string) error {
	hosts, bits, err := sizeOf(c)
	if err != nil {
		return err
	}
	if c.IsSet("to") {
		if err := noSizeWith(c, "--to"); err != nil {
			return err
		}
	}
	keep, err := durationOf(c, "keep")
	if err != nil {
		return err
	}
	client := adminClient(c)
	n := adminapi.NewRenumbering{
		Site: site, Prefix: c.String("to"), Hosts: hosts, Bits: bits, Pool: c.String("pool"), KeepSeconds: int64(keep.Seconds()), DryRun: true,
	}
	preview, err := client.Renumber(c.Context, n)
	if err != nil {
		return offline(c, err)
	}
	if c.Bool("dry-run") {
		return show(c, preview, func(w io.Writer) error {
			if err := printRenumbering(w, preview); err != nil {
				return err
			}
			return say(w, "\nNothing was changed: this was a dry run.")
		})
	}
	// With --json standard output is for the result alone, and the preview is for the person who is asked.
	look := c.App.Writer
	if c.Bool("json") {
		look = os.Stderr
	}
	if err := printRenumbering(look, preview); err != nil {
		return err
	}
	fmt.Fprintln(look)
	if err := confirm(c, fmt.Sprintf("Give %s these addresses?", preview.Site)); err != nil {
		return err
	}
	// What was shown is what is done, also if somebody else has taken a range meanwhile.
	done, err := client.Renumber(c.Context, adminapi.NewRenumbering{Site: site, Prefix: preview.New.String(), KeepSeconds: n.KeepSeconds})
	if err != nil {
		return offline(c, err)
	}
	return show(c, done, func(w io.Writer) error {
		return say(w, "%s has %s. The old addresses work until %s; end them earlier with \"towpath plan renumber %s --end\".",
			done.Site, done.New, timeOf(done.Until), done.Site)
	})
}

func endRenumbering(c *cli.Context, site string) error {
	for _, flag := range []string{"to", "pool", "hosts", "bits", "keep", "dry-run"} {
		if c.IsSet(flag) {
			return ui.Usagef("leave it out", "--%s has no meaning with --end", flag)
		}
	}
	client := adminClient(c)
	p, err := client.SitePlan(c.Context, site)
	if err != nil {
		return offline(c, err)
	}
	var old []string
	for _, r := range p.Ranges {
		if r.State == adminapi.StateEnding {
			old = append(old, r.Prefix.String())
		}
	}
	if len(old) == 0 {
		return ui.Hint(errors.New(p.Site+" has no old addresses"), "\"towpath plan show %s\" lists what it has", p.Site)
	}
	if err := confirm(c, fmt.Sprintf("End %s of %s now? Who still uses it loses the connection.", strings.Join(old, ", "), p.Site)); err != nil {
		return err
	}
	r, err := client.EndRenumbering(c.Context, site)
	if err != nil {
		return offline(c, err)
	}
	return show(c, r, func(w io.Writer) error {
		return say(w, "%s has only its new addresses now; %s is quarantined.", r.Site, join(r.Old))
	})
}

func printRenumbering(w io.Writer, r adminapi.Renumbering) error {
	fmt.Fprintf(w, "Site %s moves from %s to %s. Both work until %s.\n", r.Site, join(r.Old), r.New, timeOf(r.Until))
	var rows [][]string
	for _, n := range r.Nodes {
		rows = append(rows, []string{n.Node, n.Hostname, addrOf(n.Old), addrOf(n.New)})
	}
	if err := section(w, "Boxes, which change by themselves", []string{"NODE", "HOST", "OLD", "NEW"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, v := range r.Services {
		rows = append(rows, []string{v.Service, v.Protocol, v.AETitle, addrPortOf(v.Old), addrPortOf(v.New), strings.Join(v.Users, ", ")})
	}
	if err := section(w, "Services, whose users' gateways change by themselves", []string{"SERVICE", "PROTOCOL", "AE TITLE", "OLD", "NEW", "USED BY"}, rows); err != nil {
		return err
	}
	return printAETable(w, r.Services)
}

// printAETable writes lines that can be copied into the table of a PACS: title, host and port.
func printAETable(w io.Writer, services []adminapi.MovedService) error {
	dicom := slices.DeleteFunc(slices.Clone(services), func(v adminapi.MovedService) bool {
		return v.AETitle == "" || !v.Old.IsValid() || !v.New.IsValid()
	})
	if len(dicom) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nAE table lines, for the PACS and whatever else calls these addresses by itself")
	for _, side := range []struct {
		name  string
		place func(adminapi.MovedService) netip.AddrPort
	}{
		{"old", func(v adminapi.MovedService) netip.AddrPort { return v.Old }},
		{"new", func(v adminapi.MovedService) netip.AddrPort { return v.New }},
	} {
		var rows [][]string
		for _, v := range dicom {
			at := side.place(v)
			rows = append(rows, []string{v.AETitle, at.Addr().String(), fmt.Sprint(at.Port())})
		}
		fmt.Fprintf(w, "# %s\n", side.name)
		if err := ui.Table(w, []string{"# AE TITLE", "HOST", "PORT"}, rows); err != nil {
			return err
		}
	}
	return nil
}

// addrOf writes nothing for no address.
func addrOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func addrPortOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
