package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/tunnel/filter"
)

func firewallCommand() *cli.Command {
	return group("firewall", "the packet filter rules that a gateway loads on its machine",
		&cli.Command{
			Name: "show", Usage: "show the rules that this machine's gateway has loaded, and what they have dropped",
			Description: `In the language of nft(8), for an auditor to read. Without a gateway that runs it says whether the table is there; "nft list table inet towpath"
shows it then.`,
			Flags: []cli.Flag{stateFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				return showFirewall(c)
			},
		},
		&cli.Command{
			Name: "remove", Usage: "take the rules away that a gateway left on this machine",
			Description: `The rules stay when the gateway ends, in order or not, so that nothing of the tunnel leaves by another way. This takes them away for
good, for a machine that is put to other use. A gateway that runs loads them again.`,
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				if err := new(filter.Kernel).Remove(c.Context); err != nil {
					return explainFirewall(err)
				}
				fmt.Fprintln(c.App.Writer, "The table inet "+filter.Table+" is gone.")
				return nil
			},
		},
	)
}

// firewallView is what "firewall show" says in JSON.
type firewallView struct {
	localapi.Firewall
	Rules string `json:"rules,omitempty"`
}

func showFirewall(c *cli.Context) error {
	client := localClient(c)
	s, err := client.Status(c.Context)
	if errors.Is(err, localapi.ErrNotRunning) {
		return showLeftFirewall(c)
	}
	if err != nil {
		return notRunning(c, err)
	}
	v := firewallView{Firewall: s.Firewall}
	if s.Firewall.State != localapi.FirewallAbsent {
		if v.Rules, err = client.FirewallRules(c.Context); err != nil {
			return fmt.Errorf("ask for the rules: %w", err)
		}
	}
	return show(c, v, func(w io.Writer) error {
		fmt.Fprint(w, v.Rules)
		return printFirewall(w, v.Firewall)
	})
}

// showLeftFirewall is for a machine on which no gateway runs.
func showLeftFirewall(c *cli.Context) error {
	s, err := new(filter.Kernel).Status(c.Context)
	if err != nil {
		return explainFirewall(err)
	}
	v := firewallView{Firewall: localapi.Firewall{State: localapi.FirewallAbsent, Detail: "no gateway runs here, and none has left its rules"}}
	if s.Loaded {
		v.State, v.Detail = localapi.FirewallOn, "no gateway runs here; its rules are still in force"
	}
	for _, d := range s.Dropped {
		if d.Packets > 0 {
			v.Dropped = append(v.Dropped, localapi.Dropped{What: d.What, Packets: d.Packets, Bytes: d.Bytes})
		}
	}
	return show(c, v, func(w io.Writer) error { return printFirewall(w, v.Firewall) })
}

func printFirewall(w io.Writer, f localapi.Firewall) error {
	fmt.Fprintf(w, "Firewall %s\n", cmp.Or(f.State, localapi.FirewallAbsent)+detail(f.Detail))
	if len(f.Dropped) == 0 {
		return nil
	}
	var rows [][]string
	for _, d := range f.Dropped {
		rows = append(rows, []string{d.What, strconv.FormatUint(d.Packets, 10), ui.Bytes(int64(d.Bytes))})
	}
	return ui.Table(w, []string{"DROPPED", "PACKETS", "BYTES"}, rows)
}

func detail(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func explainFirewall(err error) error {
	if errors.Is(err, filter.ErrUnavailable) {
		return ui.Hint(err, "run as root, on a kernel with nf_tables")
	}
	return err
}

// guardOf makes the firewall of a gateway. The caller calls end after the gateway has ended: on a person's computer it takes the rules away.
func guardOf(ctx context.Context, dev gateway.Device, o gatewayOptions) (_ gateway.Guard, end func() error, err error) {
	g := box.Guard(dev, box.GuardOptions{
		Interface: o.Interface, LAN: append(slices.Clone(o.LANAlso), o.LAN), Also: o.LANNets, Off: o.NoFirewall, Person: o.Dial,
	})
	end = func() error { return nil }
	if o.NoFirewall {
		if err := new(filter.Kernel).Remove(ctx); err != nil && !errors.Is(err, filter.ErrUnavailable) {
			return g, nil, fmt.Errorf("take the firewall away: %w", err)
		}
	}
	if g.Firewall != nil && o.Dial {
		end = func() error { return g.Firewall.Remove(context.WithoutCancel(ctx)) }
	}
	return g, end, nil
}

// lanNets reads --lan-net.
func lanNets(texts []string) (out []netip.Prefix, err error) {
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Bits() == 0 || p.Addr().Is4In6() {
			return nil, ui.Usagef("give a network of the site, such as 141.2.7.0/24", "--lan-net %q is no network", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
