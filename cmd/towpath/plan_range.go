package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

// planRangeCommands are those that change single ranges.
func planRangeCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "pool", Usage: "add a pool, from which sites get their addresses", ArgsUsage: "PREFIX",
			Description: `A pool inside of another is a part of it that is given out on its own, such as a region. It may be put around or between what is there.

Example:
  towpath plan pool 10.201.64.0/18 --label region-nord`,
			Flags: []cli.Flag{
				dirFlag(), jsonFlag(), labelFlag(), noteFlag(), &cli.BoolFlag{Name: "force", Usage: "take a prefix that is a bad idea"},
			},
			Action: func(c *cli.Context) error {
				return addRange(c, adminapi.NewRange{Kind: kindPool, Label: c.String("label"), Force: c.Bool("force")})
			},
		},
		{
			Name: "foreign", Usage: "note a range that belongs to others, such as a hospital's own network", ArgsUsage: "PREFIX",
			Description: `Nothing in it is ever allocated.

Example:
  towpath plan foreign 10.50.0.0/16 --note 'city hospital'`,
			Flags:  []cli.Flag{dirFlag(), jsonFlag(), noteFlag()},
			Action: func(c *cli.Context) error { return addRange(c, adminapi.NewRange{Kind: kindForeign}) },
		},
		allocateCommand(), reserveCommand(), releaseCommand(), growCommand(), removeRangeCommand(),
	}
}

func addRange(c *cli.Context, n adminapi.NewRange) error {
	a, err := args(c, "PREFIX")
	if err != nil {
		return err
	}
	n.Prefix, n.Note = a[0], c.String("note")
	r, err := adminClient(c).AddRange(c.Context, n)
	if err != nil {
		return offline(c, err)
	}
	return show(c, r, func(w io.Writer) error { return say(w, "%s %s has id %d.", r.Kind, r.Prefix, r.ID) })
}

func allocateCommand() *cli.Command {
	return &cli.Command{
		Name: "allocate", Usage: "give a site a further range", ArgsUsage: "SITE",
		Description: `Purposes: overlay for more boxes, workstation for single computers that dial in, services for addresses that stay with a service
when boxes change. For devices on a site's LAN see "towpath plan map".

Example:
  towpath plan allocate praxis-nord --purpose services --hosts 6`,
		Flags: append(append([]cli.Flag{
			dirFlag(), jsonFlag(), &cli.StringFlag{Name: "purpose", Required: true, Usage: "`PURPOSE`: overlay, workstation or services"},
			&cli.StringFlag{Name: "prefix", Usage: "take this `PREFIX`; chosen if not given"},
		}, sizeFlags()...), poolFlag(), labelFlag(), noteFlag()),
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			hosts, bits, err := sizeOf(c)
			if err != nil {
				return err
			}
			if c.IsSet("prefix") {
				if err := noSizeWith(c, "--prefix"); err != nil {
					return err
				}
			} else if hosts == 0 && bits == 0 {
				return ui.Usagef("give --hosts, --bits or --prefix", "it is not said how large the range shall be")
			}
			r, err := adminClient(c).Allocate(c.Context, adminapi.NewAllocation{
				Site: a[0], Purpose: c.String("purpose"), Prefix: c.String("prefix"), Hosts: hosts, Bits: bits, Pool: c.String("pool"),
				Label: c.String("label"), Note: c.String("note"),
			})
			if err != nil {
				return offline(c, err)
			}
			return show(c, r, func(w io.Writer) error { return say(w, "%s is allocated to %s for %s.", r.Prefix, r.Owner, r.Purpose) })
		},
	}
}

func reserveCommand() *cli.Command {
	return &cli.Command{
		Name: "reserve", Usage: "keep a range from being allocated", ArgsUsage: "[PREFIX]",
		Description: `Without PREFIX the coordinator chooses a range of the size asked for. With --site it is kept for that site alone, beside the
site's own range if there is room, so that this can grow.

Examples:
  towpath plan reserve 10.201.64.0/20 --note 'region east, from 2028'
  towpath plan reserve --hosts 30 --site praxis-nord --label nord-growth`,
		Flags: append(append([]cli.Flag{dirFlag(), jsonFlag()}, sizeFlags()...),
			poolFlag(), &cli.StringFlag{Name: "site", Usage: "keep it for the site of this `NAME`"}, labelFlag(), noteFlag()),
		Action: func(c *cli.Context) error {
			prefix, err := optionalArg(c, "PREFIX")
			if err != nil {
				return err
			}
			hosts, bits, err := sizeOf(c)
			if err != nil {
				return err
			}
			if prefix != "" {
				if err := noSizeWith(c, prefix); err != nil {
					return err
				}
			} else if hosts == 0 && bits == 0 {
				return ui.Usagef("give a PREFIX, --hosts or --bits", "it is not said what to reserve")
			}
			r, err := adminClient(c).Reserve(c.Context, adminapi.NewReservation{
				Prefix: prefix, Hosts: hosts, Bits: bits, Pool: c.String("pool"), Site: c.String("site"), Label: c.String("label"), Note: c.String("note"),
			})
			if err != nil {
				return offline(c, err)
			}
			return show(c, r, func(w io.Writer) error {
				whose := ""
				if r.Owner != "" {
					whose = " for " + r.Owner
				}
				return say(w, "%s is reserved%s and has id %d.", r.Prefix, whose, r.ID)
			})
		},
	}
}

func releaseCommand() *cli.Command {
	return &cli.Command{
		Name: "release", Usage: "take an allocation or reservation back; it stays unused for the time of the quarantine", ArgsUsage: "RANGE",
		Description: `RANGE is a prefix, label or id. What a box, service or mapping still uses is refused.

Examples:
  towpath plan release 10.201.8.0/28
  towpath plan release nord-growth --now`,
		Flags: []cli.Flag{dirFlag(), jsonFlag(), &cli.BoolFlag{Name: "now", Usage: "without quarantine: somebody else may have it at once"}},
		Action: func(c *cli.Context) error {
			a, err := args(c, "RANGE")
			if err != nil {
				return err
			}
			r, err := adminClient(c).Release(c.Context, adminapi.Release{Range: a[0], Now: c.Bool("now")})
			if err != nil {
				return offline(c, err)
			}
			return show(c, r, func(w io.Writer) error {
				if r.Until.After(time.Now()) {
					return say(w, "%s is quarantined until %s.", r.Prefix, dateOf(r.Until))
				}
				return say(w, "%s is free.", r.Prefix)
			})
		},
	}
}

func growCommand() *cli.Command {
	return &cli.Command{
		Name: "grow", Usage: "make an allocation wider where it is, so that no address changes", ArgsUsage: "RANGE|SITE",
		Description: `RANGE is a prefix, label or id; a site with one overlay range may be named instead. It works where the room beside the range is
free or reserved for the same site; else see "towpath plan renumber".

Example:
  towpath plan grow praxis-nord --hosts 30`,
		Flags: append([]cli.Flag{dirFlag(), jsonFlag()}, sizeFlags()...),
		Action: func(c *cli.Context) error {
			a, err := args(c, "RANGE or SITE")
			if err != nil {
				return err
			}
			hosts, bits, err := sizeOf(c)
			if err != nil {
				return err
			}
			if hosts == 0 && bits == 0 {
				return ui.Usagef("give --hosts or --bits", "it is not said how large the range shall be")
			}
			g, err := adminClient(c).Grow(c.Context, adminapi.Growth{Range: a[0], Hosts: hosts, Bits: bits})
			if err != nil {
				return offline(c, err)
			}
			return show(c, g, func(w io.Writer) error {
				return say(w, "%s of %s is now %s.", g.Before.Prefix, g.After.Owner, g.After.Prefix)
			})
		},
	}
}

func removeRangeCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "remove a pool, a reservation, a foreign range or a LAN, or end a quarantine", ArgsUsage: "ID|RANGE",
		Description: `A pool must be empty, or a part of a wider one that then takes over what is in it.`,
		Flags:       []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "ID")
			if err != nil {
				return err
			}
			client := adminClient(c)
			p, err := client.Plan(c.Context)
			if err != nil {
				return offline(c, err)
			}
			r, err := rangeNamed(p, a[0])
			if err != nil {
				return err
			}
			if err := client.RemoveRange(c.Context, r.ID); err != nil {
				return offline(c, err)
			}
			return say(c.App.Writer, "Removed %s.", strings.Join(strings.Fields(fmt.Sprintf("%s %s %s", r.Kind, r.Prefix, r.Owner)), " "))
		},
	}
}
