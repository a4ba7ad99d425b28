package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planWhatCommand() *cli.Command {
	return &cli.Command{
		Name: "what", Usage: "say whose an address is, and since when", ArgsUsage: "ADDRESS",
		Description: `It knows boxes, services, mapped devices, addresses from before a renumbering, and addresses on the LANs of sites.

Example:
  towpath plan what 10.201.7.20`,
		Flags: []cli.Flag{dirFlag(), jsonFlag()}, Action: whatIs,
	}
}

// whatJSON is all that is known of an address.
type whatJSON struct {
	Address netip.Addr `json:"address"`
	// Pool is the narrowest one around it.
	Pool   string           `json:"pool,omitempty"`
	Ranges []adminapi.Range `json:"ranges"`
	// Node has the address; Former means that it had it, and answers there for some time.
	Node   *adminapi.Node `json:"node,omitempty"`
	Former bool           `json:"former,omitempty"`
	// Services have it as their own, or are found there.
	Services []adminapi.Service `json:"services,omitempty"`
	// Stands is what it stands for on a LAN, AppearsAs where an address of a LAN is found.
	Stands    *mappedAddress  `json:"stands_for,omitempty"`
	AppearsAs []mappedAddress `json:"appears_as,omitempty"`
	// Last is what happened last to a range around it other than a pool.
	Last *adminapi.RangeEvent `json:"last,omitempty"`
}

type mappedAddress struct {
	Site    string     `json:"site"`
	Address netip.Addr `json:"address"`
	Since   time.Time  `json:"since"`
}

func whatIs(c *cli.Context) error {
	a, err := args(c, "ADDRESS")
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(a[0])
	if err != nil || addr.Zone() != "" {
		return ui.Usagef("such as 10.201.7.14", "%q is no IP address", a[0])
	}
	out, err := lookUp(c, addr.Unmap())
	if err != nil {
		return offline(c, err)
	}
	return show(c, out, func(w io.Writer) error { return printWhat(w, out) })
}

func lookUp(c *cli.Context, addr netip.Addr) (*whatJSON, error) {
	client := adminClient(c)
	out := &whatJSON{Address: addr}
	plan, err := client.Plan(c.Context)
	if err != nil {
		return out, err
	}
	out.place(plan)
	nodes, err := client.Nodes(c.Context)
	if err != nil {
		return out, err
	}
	for _, n := range nodes {
		if n.Address == addr || n.Former == addr {
			out.Node, out.Former = &n, n.Former == addr
		}
	}
	services, err := client.Services(c.Context)
	if err != nil {
		return out, err
	}
	for _, v := range services {
		if v.Address == addr || v.At.Addr() == addr {
			out.Services = append(out.Services, v)
		}
	}
	events, err := client.History(c.Context, netip.PrefixFrom(addr, addr.BitLen()), adminapi.MaxHistory)
	if err != nil {
		return out, err
	}
	for _, e := range events {
		if e.Range.Kind != kindPool {
			out.Last = &e
		}
	}
	return out, nil
}

// place finds the pool and the ranges around the address, and what mappings make of it.
func (x *whatJSON) place(plan adminapi.Plan) {
	x.Ranges = []adminapi.Range{}
	for _, p := range plan.Pools {
		if p.Prefix.Contains(x.Address) { // a wider pool comes before those in it
			x.Pool = p.Prefix.String()
		}
	}
	for _, r := range plan.Ranges {
		m := ipam.Mapping{LAN: r.Maps, Mapped: r.Prefix}
		if a, ok := m.Back(x.Address); ok && r.State != adminapi.StateQuarantined {
			x.Stands = &mappedAddress{Site: r.Owner, Address: a, Since: r.Created}
		}
		if a, ok := m.Forward(x.Address); ok && r.State != adminapi.StateQuarantined {
			x.AppearsAs = append(x.AppearsAs, mappedAddress{Site: r.Owner, Address: a, Since: r.Created})
		}
		if r.Prefix.Contains(x.Address) {
			x.Ranges = append(x.Ranges, r)
		}
	}
}

func printWhat(w io.Writer, x *whatJSON) error {
	x.printIdentity(w)
	if x.Pool == "" {
		fmt.Fprintf(w, "%s is in no pool of the plan.\n", x.Address)
	} else {
		fmt.Fprintf(w, "%s is in pool %s.\n", x.Address, x.Pool)
	}
	if len(x.Ranges) == 0 && x.Pool != "" {
		fmt.Fprintln(w, "Nobody has it.")
	}
	for _, r := range x.Ranges {
		note := ""
		if r.Note != "" {
			note = " Note: " + r.Note
		}
		fmt.Fprintf(w, "%s %s.%s\n", r.Prefix, whose(r), note)
	}
	for _, m := range x.AppearsAs {
		fmt.Fprintf(w, "At %s it appears as %s, since %s.\n", m.Site, m.Address, timeOf(m.Since))
	}
	if x.Last != nil && x.gone() {
		fmt.Fprintf(w, "Last: %s.\n", eventText(*x.Last))
	}
	return nil
}

// gone reports whether nobody has the address, or not any more.
func (x *whatJSON) gone() bool {
	return !slices.ContainsFunc(x.Ranges, func(r adminapi.Range) bool { return r.State != adminapi.StateQuarantined })
}

// printIdentity says which machine answers at the address.
func (x *whatJSON) printIdentity(w io.Writer) {
	if x.Stands != nil {
		fmt.Fprintf(w, "%s is %s at %s, since %s.\n", x.Address, x.Stands.Address, x.Stands.Site, timeOf(x.Stands.Since))
	}
	if n := x.Node; n != nil {
		name := n.ID
		if n.Hostname != "" {
			name += " (" + n.Hostname + ")"
		}
		if x.Former {
			fmt.Fprintf(w, "%s was the address of %s of site %s, which still answers there and is now at %s.\n", x.Address, name, n.Site, n.Address)
		} else {
			fmt.Fprintf(w, "%s is the address of %s of site %s, since %s.\n", x.Address, name, n.Site, timeOf(x.since(n.Enrolled)))
		}
	}
	for _, v := range x.Services {
		if v.Address == x.Address {
			fmt.Fprintf(w, "%s is the fixed address of service %s of site %s, port %d, since %s.\n",
				x.Address, v.Name, v.Site, v.Port, timeOf(x.since(v.Created)))
			continue
		}
		fmt.Fprintf(w, "Service %s of site %s is there, port %d.\n", v.Name, v.Site, v.At.Port())
	}
}

// since is t, or when the range around the address was allocated if that was later: what is in it moved there then.
func (x *whatJSON) since(t time.Time) time.Time {
	for _, r := range x.Ranges {
		if r.Kind == kindAllocation && r.Created.After(t) {
			return r.Created
		}
	}
	return t
}

// whose says in words who has a range, and since when.
func whose(r adminapi.Range) string {
	since := "since " + timeOf(r.Created)
	switch {
	case r.State == adminapi.StateQuarantined:
		return fmt.Sprintf("is %s and belongs to nobody", stateOf(r))
	case r.State == adminapi.StateEnding:
		return fmt.Sprintf("belongs to %s (%s) %s and until %s", r.Owner, use(r), since, dateOf(r.Until))
	case r.Kind == kindAllocation:
		return fmt.Sprintf("belongs to %s (%s) %s", r.Owner, use(r), since)
	case r.Kind == kindReserved && r.Owner != "":
		return fmt.Sprintf("is reserved for %s %s", r.Owner, since)
	case r.Kind == kindReserved:
		return fmt.Sprintf("is reserved %s and belongs to nobody", since)
	case r.Kind == kindForeign:
		return "is a network of others, in the plan " + since
	case r.Kind == kindLAN:
		return fmt.Sprintf("is the LAN of %s, in the plan %s", r.Owner, since)
	}
	return fmt.Sprintf("is what the box of %s is connected to (%s), in the plan %s", r.Owner, reportedAs(r.Purpose), since)
}

// use is what an allocation is for, in words.
func use(r adminapi.Range) string {
	switch r.Purpose {
	case "overlay":
		return "for boxes"
	case "services":
		return "for fixed addresses of services"
	case "workstation":
		return "for workstations"
	}
	return "stands for " + r.Maps.String()
}

// reportedAs is what a reported range is to the box, in words.
func reportedAs(purpose string) string {
	switch purpose {
	case "lan":
		return "LAN"
	case "wan":
		return "towards the internet"
	}
	return "containers"
}

func planHistoryCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "show what happened to a range or an address: who had it when", ArgsUsage: "RANGE|ADDRESS",
		Description: `RANGE is a prefix, or the label or id of a range that the plan has now.

Examples:
  towpath plan history 10.201.7.0/28
  towpath plan history 10.201.7.14`,
		Flags: []cli.Flag{dirFlag(), jsonFlag(), &cli.IntFlag{Name: "limit", Value: 100, Usage: "show the newest `NUMBER` entries"}},
		Action: func(c *cli.Context) error {
			a, err := args(c, "RANGE or ADDRESS")
			if err != nil {
				return err
			}
			if c.Int("limit") < 1 || c.Int("limit") > adminapi.MaxHistory {
				return ui.Usagef(fmt.Sprintf("give 1 to %d", adminapi.MaxHistory), "--limit %d is no number of entries", c.Int("limit"))
			}
			p, err := historyPrefix(c, a[0])
			if err != nil {
				return err
			}
			events, err := adminClient(c).History(c.Context, p, c.Int("limit"))
			if err != nil {
				return offline(c, err)
			}
			return show(c, events, func(w io.Writer) error { return printHistory(w, p, events) })
		},
	}
}

// historyPrefix reads a prefix or an address, or finds a range by label or id.
func historyPrefix(c *cli.Context, text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if strings.Contains(text, "/") {
		return prefixArg(text)
	}
	plan, err := adminClient(c).Plan(c.Context)
	if err != nil {
		return netip.Prefix{}, offline(c, err)
	}
	r, err := rangeNamed(plan, text)
	if err != nil {
		return netip.Prefix{}, ui.Hint(errors.New(err.Error()), "give a prefix, an address, or the label or id of a range that \"towpath plan show\" lists")
	}
	return r.Prefix, nil
}

func printHistory(w io.Writer, p netip.Prefix, events []adminapi.RangeEvent) error {
	if len(events) == 0 {
		return say(w, "Nothing ever happened to %s.", p)
	}
	rows := make([][]string, 0, len(events))
	for _, e := range events {
		until := ""
		if !e.Range.Until.IsZero() {
			until = dateOf(e.Range.Until)
		}
		rows = append(rows, []string{
			timeOf(e.At), e.Actor, e.Action, e.Range.Prefix.String(), e.Range.Kind, purposeOf(e.Range), e.Range.Owner, until, e.Range.Note,
		})
	}
	return ui.Table(w, []string{"AT", "WHO", "DID", "RANGE", "KIND", "PURPOSE", "OWNER", "UNTIL", "NOTE"}, rows)
}

// eventText says what happened, in a line.
func eventText(e adminapi.RangeEvent) string {
	owner := ""
	if e.Range.Owner != "" {
		owner = " of " + e.Range.Owner
	}
	return fmt.Sprintf("%s %s%s was %s by %s on %s", e.Range.Kind, e.Range.Prefix, owner, e.Action, e.Actor, timeOf(e.At))
}
