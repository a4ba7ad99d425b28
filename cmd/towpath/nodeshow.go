package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/coordinator"
)

func nodeApproveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "let a node take part that waits for it", ArgsUsage: "NODE",
		Description: `Compare the key with the one that the box shows before, on the phone or at the box: it is the same in "towpath node show". The box
hears of the approval by itself, within seconds to five minutes.`,
		Flags: []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).ApproveNode(c.Context, a[0]))
		},
	}
}

func nodeRejectCommand() *cli.Command {
	return &cli.Command{
		Name: "reject", Usage: "remove a node that waits for approval", ArgsUsage: "NODE",
		Description: `The box does not come in again with the same token and key. If the token has uses left and is in the wrong hands, revoke it, too.`,
		Flags: []cli.Flag{
			dirFlag(), &cli.StringFlag{Name: "reason", Usage: "why, as `TEXT` for the audit trail"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).RejectNode(c.Context, a[0], c.String("reason")))
		},
	}
}

func nodeReplaceCommand() *cli.Command {
	return &cli.Command{
		Name: "replace", Usage: "make a token for a box that takes the place of a node", ArgsUsage: "NODE",
		Description: `The box that enrolls with it becomes the node: same id, site, addresses, services and grants, with a key of its own. At that moment every
peer drops the old box's key, also when that is off. Until then nothing changes. The newest such token of a node is the only one that works.

Let the old box's queue run empty first if it still works ("towpath status" there): what is in it is on its disk.`,
		Flags: tokenTextFlags(),
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			ttl, err := durationOf(c, "ttl")
			if err != nil {
				return err
			}
			t, err := adminClient(c).ReplaceNode(c.Context, a[0], ttl)
			if err != nil {
				return offline(c, err)
			}
			return showToken(c, t)
		},
	}
}

func nodeShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show all about a node: what it reports next to what was planned", ArgsUsage: "NODE",
		Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			n, err := adminClient(c).Node(c.Context, a[0])
			if err != nil {
				return offline(c, err)
			}
			return show(c, n, func(w io.Writer) error { return writeNode(w, n, time.Now()) })
		},
	}
}

// writeNode draws a node as a table of what is known, and below it what somebody should look at.
func writeNode(w io.Writer, n adminapi.NodeDetail, now time.Time) error {
	var rows [][]string
	add := func(what, reported, planned string) {
		if reported != "" || planned != "" {
			rows = append(rows, []string{what, reported, planned})
		}
	}
	add("node", nodeName(n.Node), "")
	add("kind", n.Kind, "")
	add("state", stateOfNode(n.Node), "")
	add("key", n.KeyPrint, "")
	add("public key", n.PublicKey, "")
	add("rotation", n.Rotate, "")
	add("site", "", strings.TrimSpace(fmt.Sprintf("%s, %s %s", n.Site, n.SiteKind, n.SiteTitle)))
	add("address", n.Address.String(), "in "+join(n.Prefixes))
	add("former address", addrOf(n.Former), "")
	add("rank", "", rankOf(n.Node))
	add("endpoint", "", n.Endpoint)
	add("hostname", n.Hostname, "")
	add("model", n.Model, "")
	add("serial", n.Serial, "")
	add("version", n.Version, "")
	add("LANs", join(n.LANs), plannedLANs(n.PlannedLANs))
	add("WANs", join(n.WANs), "")
	add("containers", join(n.Containers), "")
	add("enrolled", timeOf(n.Enrolled), withToken(n.Token))
	add("from", originOf(n), "")
	add("seen", seenAt(n.Node, now), "")
	add("plan", planState(n.Node, now), "")
	if err := ui.Table(w, []string{"", "IT SAYS", "PLANNED"}, rows); err != nil {
		return err
	}
	for _, line := range remarks(n) {
		fmt.Fprintf(w, "\n%s", line)
	}
	if len(remarks(n)) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}

// remarks are what somebody should look at, a sentence each.
func remarks(n adminapi.NodeDetail) []string {
	var out []string
	if len(n.Unplanned) > 0 {
		out = append(out, fmt.Sprintf("It is connected to %s, which nobody has planned for site %s: is it the right box at the right place?", join(n.Unplanned), n.Site))
	}
	if len(n.Missing) > 0 {
		out = append(out, fmt.Sprintf("It does not report the planned LAN %s.", join(n.Missing)))
	}
	if n.ApplyError != "" {
		out = append(out, fmt.Sprintf("It could not make its newest map true: %s.", n.ApplyError))
	}
	for _, c := range n.Conditions {
		out = append(out, fmt.Sprintf("%s: %s (%s, since %s)", c.Severity, c.Message, c.Code, timeOf(c.Since)))
	}
	if n.State == "waiting" {
		out = append(out, fmt.Sprintf("To let it in, after comparing the key: towpath node approve %s", n.ID))
	}
	return out
}

func stateOfNode(n adminapi.Node) string {
	s := n.State
	if n.Reason != "" {
		s += ", " + n.Reason
	}
	if !n.Since.IsZero() {
		s += " (since " + timeOf(n.Since) + ")"
	}
	return s
}

// rankOf is the rank of a gateway that has one.
func rankOf(n adminapi.Node) string {
	if n.Rank == 0 {
		return ""
	}
	return strconv.Itoa(n.Rank)
}

func plannedLANs(lans []netip.Prefix) string {
	if len(lans) == 0 {
		return "none entered"
	}
	return join(lans)
}

func withToken(id string) string {
	if id == "" {
		return ""
	}
	return "with " + id
}

func seenAt(n adminapi.Node, now time.Time) string {
	if n.Online {
		return "now"
	}
	return ui.Ago(n.LastSeen, now)
}

// originOf says where a node enrolled from, and what that tells of what is in between.
func originOf(n adminapi.NodeDetail) string {
	if !n.Origin.IsValid() {
		return ""
	}
	return n.Origin.String() + map[string]string{
		string(coordinator.TranslationNone):    ": an address of its own, nothing translates",
		string(coordinator.TranslationRouter):  ": behind a router that translates addresses",
		string(coordinator.TranslationCarrier): ": behind the address translation of its provider (CGNAT)",
		string(coordinator.TranslationPrivate): ": over a private network, behind a router of that",
	}[n.Translation]
}
