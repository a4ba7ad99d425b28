package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func planCommand() *cli.Command {
	var all []*cli.Command
	all = append(all, planInitCommand(), planShowCommand(), planTreeCommand(), planFreeCommand())
	all = append(all, planRangeCommands()...)
	all = append(all, planRenumberCommand())
	all = append(all, planLANCommands()...)
	all = append(all, planFileCommands()...)
	all = append(all, planWhatCommand(), planHistoryCommand(), planQuarantineCommand())
	return group("plan", "the address plan, in which nothing can overlap", all...)
}

// Flags that several plan commands have.
func poolFlag() cli.Flag {
	return &cli.StringFlag{Name: "pool", Usage: "choose it from this `POOL`: its prefix, label or id; from any if not given"}
}

func sizeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "hosts", Usage: "room for `NUMBER` addresses"},
		&cli.IntFlag{Name: "bits", Usage: "a prefix of this `LENGTH`, such as 28"},
	}
}

func noteFlag() cli.Flag {
	return &cli.StringFlag{Name: "note", Usage: "`TEXT` for people: what it is"}
}

func labelFlag() cli.Flag {
	return &cli.StringFlag{Name: "label", Usage: "short `NAME` by which other commands know it"}
}

// sizeOf reads --hosts and --bits. At most one may be given; neither is 0, 0.
func sizeOf(c *cli.Context) (hosts, bits int, err error) {
	hosts, bits = c.Int("hosts"), c.Int("bits")
	switch {
	case c.IsSet("hosts") && c.IsSet("bits"):
		return 0, 0, ui.Usagef("a /28 has room for 14 hosts; give one of the two", "--hosts and --bits both say how large it shall be")
	case c.IsSet("hosts") && hosts < 1:
		return 0, 0, ui.Usagef("give 1 or more", "--hosts %d is no number of addresses", hosts)
	case c.IsSet("bits") && (bits < 1 || bits > ipam.IPv6.Width()):
		return 0, 0, ui.Usagef("up to 32 for IPv4 and 128 for IPv6", "--bits %d is no prefix length", bits)
	}
	return hosts, bits, nil
}

// noSizeWith refuses a size beside a certain range.
func noSizeWith(c *cli.Context, what string) error {
	for _, flag := range []string{"hosts", "bits", "pool"} {
		if c.IsSet(flag) {
			return ui.Usagef("leave out one of the two", "%s says which range, so --%s has no meaning", what, flag)
		}
	}
	return nil
}

// optionalArg returns the one positional argument, or nothing.
func optionalArg(c *cli.Context, name string) (string, error) {
	if c.NArg() == 0 {
		return "", nil
	}
	a, err := args(c, name)
	if err != nil {
		return "", err
	}
	return a[0], nil
}

// prefixArg reads a prefix that a person typed.
func prefixArg(text string) (netip.Prefix, error) {
	p, err := ipam.ParsePrefix(text)
	if err != nil {
		return p, ui.Usagef("write a range like 10.201.7.0/28", "%w", err)
	}
	return p, nil
}

// rangeNamed finds the one row of the plan that a person means by its id, prefix or label.
func rangeNamed(p adminapi.Plan, ref string) (adminapi.Range, error) {
	all := make([]adminapi.Range, 0, len(p.Pools)+len(p.Ranges))
	for _, x := range p.Pools {
		all = append(all, adminapi.Range{ID: x.ID, Kind: kindPool, Prefix: x.Prefix, Label: x.Label, Note: x.Note})
	}
	all = append(all, p.Ranges...)
	id, _ := strconv.ParseInt(ref, 10, 64)
	prefix, _ := netip.ParsePrefix(ref)
	var found []adminapi.Range
	for _, r := range all {
		if r.ID == id || r.Label != "" && r.Label == ref || prefix.IsValid() && r.Prefix == prefix {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return adminapi.Range{}, ui.Hint(fmt.Errorf("the plan has no range %q", ref), "\"towpath plan show\" lists ids, ranges and labels")
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, r := range found {
		ids = append(ids, strings.TrimSpace(fmt.Sprintf("%d (%s %s)", r.ID, r.Kind, r.Owner)))
	}
	return adminapi.Range{}, ui.Usagef("give the id instead", "%s stands for several ranges: %s", ref, strings.Join(ids, ", "))
}

// Kinds of range, as the API names them.
const (
	kindPool       = "pool"
	kindAllocation = "allocation"
	kindReserved   = "reserved"
	kindForeign    = "foreign"
	kindLAN        = "lan"
	kindReported   = "reported"
)

// errUnchanged is what becomes of a command that a person declines.
var errUnchanged = errors.New("nothing was changed")

// confirm asks a question on the terminal, unless --yes answers it. Without a terminal it refuses, because nobody could see the preview.
func confirm(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if !terminal(os.Stdin) {
		return ui.Usagef("give --yes to go ahead", "there is no terminal to ask at, so nothing was changed")
	}
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answered := make(chan string, 1)
	go func() {
		var answer string
		if _, err := fmt.Fscanln(os.Stdin, &answer); errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr)
		}
		answered <- answer
	}()
	select {
	case <-c.Context.Done():
		return c.Context.Err()
	case answer := <-answered:
		if answer = strings.ToLower(answer); answer == "y" || answer == "yes" {
			return nil
		}
	}
	return errUnchanged
}

// glyphs are for the terminal that this is.
func glyphs(c *cli.Context) ui.Glyphs { return ui.NewGlyphs(c.Bool("ascii") || !speaksUTF8(os.Getenv)) }

func asciiFlag() cli.Flag {
	return &cli.BoolFlag{Name: "ascii", Usage: "draw with plain characters; done by itself where the locale is not UTF-8"}
}

// speaksUTF8 reads the locale as setlocale(3) does: the first of three that is set.
func speaksUTF8(getenv func(string) string) bool {
	if getenv("TERM") == "dumb" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// stateOf says what ends, and when.
func stateOf(r adminapi.Range) string {
	switch r.State {
	case adminapi.StateQuarantined:
		return "quarantined until " + dateOf(r.Until)
	case adminapi.StateEnding:
		return "in use until " + dateOf(r.Until)
	}
	return ""
}

// purposeOf says what a range is for, and what a mapped one stands for.
func purposeOf(r adminapi.Range) string {
	if r.Maps.IsValid() {
		return r.Purpose + " " + r.Maps.String()
	}
	return r.Purpose
}

func dateOf(t time.Time) string { return t.Local().Format(time.DateOnly) }

func timeOf(t time.Time) string { return t.Local().Format(time.DateTime) }

// say writes one line.
func say(w io.Writer, format string, a ...any) error {
	_, err := fmt.Fprintf(w, format+"\n", a...)
	return err
}
