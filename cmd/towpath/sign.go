package main

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func signCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign with the network's offline key who is in the network", ArgsUsage: "REQUESTS",
		OnUsageError: usageError,
		Description: `REQUESTS is the file that "towpath coordinator unsigned --out" wrote. Each request is shown, with what it changes against the last signature,
and asked about; the answers go to the standard output, for "towpath coordinator signed". This needs no coordinator and no network: run it on a machine that
has neither. The requests come from a machine that may be in wrong hands: sign only what you expect. The key of a new box is the one that its screen and
"towpath node list" show; compare it with the person at the box.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Required: true, Usage: "`FILE` that \"towpath coordinator init --offline-key\" wrote"},
			&cli.BoolFlag{Name: "yes", Usage: "sign everything without asking"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "REQUESTS")
			if err != nil {
				return err
			}
			key, err := coordinator.LoadOfflineKey(c.String("key"))
			if err != nil {
				return err
			}
			b, err := readSigning(a[0])
			if err != nil {
				return err
			}
			req, err := wire.ParseSigningRequest(b)
			if err != nil {
				return ui.Usagef("give the file that \"towpath coordinator unsigned --out\" wrote", "%s cannot be used: %w", a[0], err)
			}
			s := signer{key: key, ask: !c.Bool("yes"), in: bufio.NewReader(c.App.Reader), out: c.App.ErrWriter}
			answer, err := s.sign(req)
			if err != nil {
				return err
			}
			return ui.JSON(c.App.Writer, answer)
		},
	}
}

// signer shows what it signs.
type signer struct {
	key coordinator.OfflineKey
	ask bool
	in  *bufio.Reader
	out io.Writer
}

// sign goes through all requests. Nothing to be written is an error.
func (s *signer) sign(req wire.SigningRequest) (wire.SigningAnswer, error) {
	answer := wire.SigningAnswer{Format: wire.Format, Network: s.key.NetworkID()}
	if req.Network != answer.Network {
		return answer, &ui.Error{
			Err:  fmt.Errorf("the requests are of network %s, and the key is of network %s", req.Network, answer.Network),
			Hint: "name the key of that network, or ask its coordinator for its requests", Code: ui.ExitDenied,
		}
	}
	fmt.Fprintf(s.out, "Network %s, requests: %d, made %s.\n", req.Network, len(req.Items), req.Made.Local().Format("2006-01-02 15:04"))
	for i, item := range req.Items {
		last, err := lastSigned(item, s.key.Public())
		if err != nil {
			return answer, err
		}
		fmt.Fprintf(s.out, "\n%d of %d: ", i+1, len(req.Items))
		for _, line := range append(explainMember(item.Member, last), warnings(item.Member, last, req.Items)...) {
			fmt.Fprintln(s.out, line)
		}
		if s.ask {
			yes, err := s.confirm()
			if err != nil {
				return answer, err
			}
			if !yes {
				fmt.Fprintln(s.out, "  Not signed.")
				continue
			}
		}
		m, err := s.key.Sign(item.Member)
		if err != nil {
			return answer, err
		}
		answer.Members = append(answer.Members, m)
	}
	fmt.Fprintf(s.out, "\n%d of %d are signed.\n", len(answer.Members), len(req.Items))
	if len(answer.Members) == 0 {
		return answer, ui.Silent(ui.ExitDenied)
	}
	return answer, nil
}

// confirm asks. Only a yes is one; the end of the input ends everything, so that nothing half read is written.
func (s *signer) confirm() (bool, error) {
	fmt.Fprint(s.out, "  Sign this? [y/N] ")
	line, err := s.in.ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return false, ui.Usagef("answer y or n to each, or use --yes if you have read the file", "the input ended before every request was answered")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// lastSigned opens what the coordinator says was signed before: nil if nothing was.
func lastSigned(i wire.SigningItem, network ed25519.PublicKey) (*wire.Member, error) {
	if i.Last == nil {
		return nil, nil //nolint:nilnil // a new one
	}
	m, err := i.Last.Open(network)
	if err == nil && m.Node != i.Member.Node {
		err = fmt.Errorf("it is of node %s", m.Node)
	}
	if err != nil {
		return nil, &ui.Error{
			Err:  fmt.Errorf("what was signed last of node %s is not of this key: %w", i.Member.Node, err),
			Hint: "the file was changed on the way, or the coordinator is in wrong hands: sign nothing, and look at it", Code: ui.ExitDenied,
		}
	}
	return &m, nil
}

// explainMember says in words what would be signed, and against the last signature what is different.
func explainMember(m wire.Member, last *wire.Member) []string {
	what := fmt.Sprintf("%s %s of %s %s", m.Kind, m.Node, m.SiteKind, m.Site)
	if last == nil {
		lines := []string{"NEW: " + what, "  key         " + keyText(m.PublicKey)}
		if !m.NextKey.IsZero() {
			lines = append(lines, "  next key    "+keyText(m.NextKey))
		}
		return append(lines, "  addresses   "+prefixText(m.Prefixes))
	}
	lines := []string{"CHANGE: " + what}
	differ := func(name, from, to string) {
		if from != to {
			lines = append(lines, fmt.Sprintf("  %-11s %s, until now %s", name, to, from))
		}
	}
	differ("kind", string(last.Kind), string(m.Kind))
	differ("site", string(last.SiteKind)+" "+last.Site, string(m.SiteKind)+" "+m.Site)
	differ("key", keyText(last.PublicKey), keyText(m.PublicKey))
	differ("next key", keyText(last.NextKey), keyText(m.NextKey))
	added := without(m.Prefixes, last.Prefixes)
	removed := without(last.Prefixes, m.Prefixes)
	if len(added) > 0 {
		lines = append(lines, "  added       "+prefixText(added))
	}
	if len(removed) > 0 {
		lines = append(lines, "  taken away  "+prefixText(removed))
	}
	if len(lines) == 1 {
		lines = append(lines, "  nothing is different")
	}
	return lines
}

// warnings are what no honest coordinator asks for.
func warnings(m wire.Member, last *wire.Member, all []wire.SigningItem) []string {
	var lines []string
	if last != nil && last.SiteKind != m.SiteKind {
		lines = append(lines, "  WARNING: a "+string(last.SiteKind)+" becomes a "+string(m.SiteKind)+", which may talk to others than before")
	}
	if last != nil && !last.Has(m.PublicKey) {
		lines = append(lines, "  WARNING: the key is neither the last one nor its announced successor: another box takes this place")
	}
	for _, i := range all {
		o := i.Member
		if o.Node == m.Node {
			continue
		}
		if o.Has(m.PublicKey) || o.Has(m.NextKey) {
			lines = append(lines, "  WARNING: node "+o.Node+" has the same key")
		}
		if o.Site != m.Site && slices.ContainsFunc(m.Prefixes, func(p netip.Prefix) bool { return slices.ContainsFunc(o.Prefixes, p.Overlaps) }) {
			lines = append(lines, "  WARNING: site "+o.Site+" has some of these addresses, too")
		}
	}
	return lines
}

func keyText(k wgkey.PublicKey) string {
	if k.IsZero() {
		return "none"
	}
	return wire.KeyPrint(k) + " (" + k.String() + ")"
}

func prefixText(list []netip.Prefix) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

func without(list, other []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return slices.Contains(other, p) })
}
