package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planTreeCommand() *cli.Command {
	return &cli.Command{
		Name: "tree", Usage: "draw pools, the narrower pools in them, and who has what in each",
		Description: `Example:
  towpath plan tree`,
		Flags: []cli.Flag{dirFlag(), jsonFlag(), asciiFlag()},
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			p, err := adminClient(c).Plan(c.Context)
			if err != nil {
				return offline(c, err)
			}
			return show(c, p, func(w io.Writer) error { return glyphs(c).Tree(w, planTree(p)) })
		},
	}
}

// planTree hangs every range on the narrowest pool around it, and networks that are no part of the plan on a root of their own.
func planTree(p adminapi.Plan) []ui.Branch {
	in := map[netip.Prefix][]adminapi.Range{}
	var outside, facts []adminapi.Range
	for _, r := range p.Ranges {
		switch {
		case r.Kind == kindForeign || r.Kind == kindLAN || r.Kind == kindReported:
			facts = append(facts, r)
		case !r.Pool.IsValid():
			outside = append(outside, r)
		default:
			in[r.Pool] = append(in[r.Pool], r)
		}
	}
	below := map[netip.Prefix][]adminapi.Pool{}
	for _, x := range p.Pools {
		below[x.Parent] = append(below[x.Parent], x)
	}
	var grow func(parent netip.Prefix) []ui.Branch
	grow = func(parent netip.Prefix) []ui.Branch {
		var out []ui.Branch
		for _, x := range below[parent] {
			out = append(out, ui.Branch{
				Cells: []string{strings.TrimSpace(x.Prefix.String() + " " + x.Label), ui.Percent(x.Taken) + " used", x.Note},
				Sub:   append(grow(x.Prefix), byOwner(in[x.Prefix])...),
			})
		}
		return out
	}
	roots := grow(netip.Prefix{})
	if len(outside) > 0 {
		roots = append(roots, ui.Branch{Cells: []string{"in no pool"}, Sub: byOwner(outside)})
	}
	if len(facts) > 0 {
		roots = append(roots, ui.Branch{Cells: []string{"networks that are there"}, Sub: byOwner(facts)})
	}
	return roots
}

// byOwner makes a line for each owner with one range, and a branch for each with several.
func byOwner(ranges []adminapi.Range) []ui.Branch {
	groups := map[string][]adminapi.Range{}
	for _, r := range ranges {
		groups[holder(r)] = append(groups[holder(r)], r)
	}
	out := make([]ui.Branch, 0, len(groups))
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		group := groups[name]
		if len(group) == 1 {
			out = append(out, ui.Branch{Cells: []string{name, group[0].Prefix.String(), detailOf(group[0])}})
			continue
		}
		b := ui.Branch{Cells: []string{name}}
		for _, r := range group {
			b.Sub = append(b.Sub, ui.Branch{Cells: []string{r.Prefix.String(), "", detailOf(r)}})
		}
		out = append(out, b)
	}
	return out
}

// holder is who has a range, or what it is when nobody has it.
func holder(r adminapi.Range) string {
	switch {
	case r.Owner != "":
		return r.Owner
	case r.State == adminapi.StateQuarantined:
		return "(quarantined)"
	}
	return "(" + r.Kind + ")"
}

// detailOf says in a few words what else there is to a range.
func detailOf(r adminapi.Range) string {
	what := ""
	switch {
	case r.Kind == kindReserved && r.Owner != "":
		what = "reserved for it"
	case r.Kind == kindLAN:
		what = "LAN"
	case r.Kind == kindReported:
		what = "reported, " + reportedAs(r.Purpose)
	case r.Kind == kindAllocation:
		what = purposeOf(r)
	}
	if r.State == adminapi.StateQuarantined {
		what = "until " + dateOf(r.Until)
	}
	parts := []string{what, stateIfEnding(r), r.Label, r.Note}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

func stateIfEnding(r adminapi.Range) string {
	if r.State == adminapi.StateEnding {
		return stateOf(r)
	}
	return ""
}

func planFreeCommand() *cli.Command {
	return &cli.Command{
		Name: "free", Usage: "list what is free, and where the next range of a size would go",
		Description: `Examples:
  towpath plan free
  towpath plan free --pool region-nord --hosts 14`,
		Flags: append([]cli.Flag{
			dirFlag(), jsonFlag(), &cli.StringFlag{Name: "pool", Usage: "of this `POOL` alone: its prefix, label or id"},
		}, sizeFlags()...),
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			hosts, bits, err := sizeOf(c)
			if err != nil {
				return err
			}
			all, err := adminClient(c).Free(c.Context, adminapi.FreeQuery{Pool: c.String("pool"), Hosts: hosts, Bits: bits})
			if err != nil {
				return offline(c, err)
			}
			return show(c, all, func(w io.Writer) error { return printFree(w, all) })
		},
	}
}

func printFree(w io.Writer, all []adminapi.Free) error {
	for i, f := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		switch {
		case f.Total == 0:
			fmt.Fprintf(w, "Pool %s is full.\n", f.Pool)
		case f.Bits == 0:
			fmt.Fprintf(w, "Pool %s has %s:\n", f.Pool, ui.Count(f.Total, "free block"))
		case !f.Next.IsValid():
			fmt.Fprintf(w, "Pool %s has no room for a /%d in its %s:\n", f.Pool, f.Bits, ui.Count(f.Total, "free block"))
		default:
			fmt.Fprintf(w, "Pool %s has room for %d more /%d, the next at %s. Its %s:\n", f.Pool, f.Fits, f.Bits, f.Next, ui.Count(f.Total, "free block"))
		}
		for _, b := range f.Blocks {
			fmt.Fprintf(w, "  %s\n", b)
		}
		if more := f.Total - len(f.Blocks); more > 0 {
			fmt.Fprintf(w, "  and %d more\n", more)
		}
	}
	if len(all) == 0 {
		return say(w, "The plan has no pool.")
	}
	return nil
}
