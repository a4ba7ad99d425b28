package main

import (
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning/adminapi"
)

// planLANCommands are about the networks that sites really have.
func planLANCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "lan", Usage: "note the real local network of a site", ArgsUsage: "SITE PREFIX",
			Description: `Nothing in it is ever allocated. Several sites may have the same. A box reports its own LAN by itself; this is for LANs behind a
router, and for sites without a box.

Example:
  towpath plan lan praxis-nord 192.168.178.0/24`,
			Flags: []cli.Flag{dirFlag(), jsonFlag(), noteFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "SITE", "PREFIX")
				if err != nil {
					return err
				}
				r, err := adminClient(c).AddRange(c.Context, adminapi.NewRange{Kind: kindLAN, Site: a[0], Prefix: a[1], Note: c.String("note")})
				if err != nil {
					return offline(c, err)
				}
				return show(c, r, func(w io.Writer) error { return say(w, "%s is the LAN of %s and has id %d.", r.Prefix, a[0], r.ID) })
			},
		},
		{
			Name: "map", Usage: "make a part of a site's LAN reachable at addresses of its own", ArgsUsage: "SITE LAN-PREFIX",
			Description: `Two sites may have the same LAN; their devices then have the same addresses. A mapping gives each device one that is unique in the
network: the first part changes, the last part stays. Nothing is reachable that is not also offered ("towpath service add") and allowed.

Example:
  towpath plan map praxis-nord 192.168.178.0/24`,
			Flags: []cli.Flag{
				dirFlag(), jsonFlag(), &cli.StringFlag{Name: "to", Usage: "let it appear as this `PREFIX` of the same length; chosen if not given"},
				poolFlag(), noteFlag(),
			},
			Action: mapLAN,
		},
		{
			Name: "unmap", Usage: "end a mapping; its range is quarantined", ArgsUsage: "SITE REF",
			Description: `REF is the prefix on the LAN, the prefix it appears as, or the id.

Example:
  towpath plan unmap praxis-nord 192.168.178.0/24`,
			Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "SITE", "REF")
				if err != nil {
					return err
				}
				r, err := adminClient(c).Unmap(c.Context, a[0], a[1])
				if err != nil {
					return offline(c, err)
				}
				return show(c, r, func(w io.Writer) error {
					state := "free"
					if r.Until.After(time.Now()) {
						state = "quarantined until " + dateOf(r.Until)
					}
					return say(w, "%s of %s appears nowhere any more; %s is %s.", r.Maps, a[0], r.Prefix, state)
				})
			},
		},
	}
}

func mapLAN(c *cli.Context) error {
	a, err := args(c, "SITE", "LAN-PREFIX")
	if err != nil {
		return err
	}
	if c.IsSet("to") && c.IsSet("pool") {
		return ui.Usagef("leave out one of the two", "--to says which range, so --pool has no meaning")
	}
	r, err := adminClient(c).Map(c.Context, a[0], adminapi.NewMapping{LAN: a[1], To: c.String("to"), Pool: c.String("pool"), Note: c.String("note")})
	if err != nil {
		return offline(c, err)
	}
	return show(c, r, func(w io.Writer) error { return say(w, "%s", ipam.Mapping{LAN: r.Maps, Mapped: r.Prefix}) })
}
