package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

func siteCommand() *cli.Command {
	return group("site", "the places of the network: clinics and centers",
		&cli.Command{
			Name: "add", Usage: "plan a new site, with addresses of its own", ArgsUsage: "NAME",
			Description: `NAME is a short lower-case word that everybody will use. The coordinator picks the site's addresses; --prefix asks for certain
ones. A center that clinics shall reach needs --endpoint.

Examples:
  towpath site add praxis-nord --pool region-nord --lan 192.168.178.0/24
  towpath site add center --kind center --endpoint vpn.example.org:51821`,
			Flags: []cli.Flag{
				dirFlag(), jsonFlag(),
				&cli.StringFlag{Name: "kind", Value: "clinic", Usage: "`KIND` of site: clinic or center"},
				&cli.StringFlag{Name: "title", Usage: "`TEXT` for people, such as the full name"},
				&cli.StringFlag{Name: "endpoint", Usage: "`HOST:PORT` (UDP) at which the site's gateway can be reached from outside"},
				&cli.StringFlag{Name: "prefix", Usage: "address `PREFIX` to allocate, such as 10.201.7.0/28"},
				&cli.IntFlag{Name: "hosts", Usage: "`NUMBER` of addresses the site needs; 14 if not given"},
				poolFlag(),
				&cli.StringFlag{Name: "lan", Usage: "its real local network as `PREFIX`, if it is known; see \"towpath plan lan\""},
			},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				n := adminapi.NewSite{
					Name: a[0], Kind: c.String("kind"), Title: c.String("title"), Endpoint: c.String("endpoint"),
					Prefix: c.String("prefix"), Hosts: c.Int("hosts"), Pool: c.String("pool"), LAN: c.String("lan"),
				}
				s, err := adminClient(c).CreateSite(c.Context, n)
				if err != nil {
					return offline(c, err)
				}
				return show(c, s, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "Site %s has the addresses %s. Next: towpath token new --site %s\n", s.Name, join(s.Prefixes), s.Name)
					return err
				})
			},
		},
		&cli.Command{
			Name: "list", Usage: "list all sites", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				sites, err := adminClient(c).Sites(c.Context)
				if err != nil {
					return offline(c, err)
				}
				return show(c, sites, func(w io.Writer) error {
					var rows [][]string
					for _, s := range sites {
						rows = append(rows, []string{s.Name, s.Kind, join(s.Prefixes), s.Endpoint, nodesOf(s), s.Title})
					}
					return ui.Table(w, []string{"SITE", "KIND", "ADDRESSES", "ENDPOINT", "NODES", "TITLE"}, rows)
				})
			},
		},
		&cli.Command{
			Name: "set", Usage: "change where a site's gateway can be reached, or who keeps the key of its queues", ArgsUsage: "NAME",
			Description: `Queues are encrypted on disk. With --spool-key file their key is a file on the box, with tpm it is sealed by the box's TPM (the gateway
must run with --key-store tpm), and with coordinator it is kept here and given to the box after each start, into memory only: who steals the box
while it is off reads nothing, and what waits is delivered when the box has reached the coordinator. Empty leaves it to the box: where its own
keys are. Items that are there already keep the key that they were sealed to.`,
			Flags: []cli.Flag{
				dirFlag(), &cli.StringFlag{Name: "endpoint", Usage: "new `HOST:PORT` (UDP); empty for a site that only calls out"},
				&cli.StringFlag{Name: "spool-key", Usage: "`WHERE` the key of its encrypted queues is: file, tpm or coordinator"},
			},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				if !c.IsSet("endpoint") && !c.IsSet("spool-key") {
					return ui.Usagef("give --endpoint or --spool-key", "nothing is to be changed")
				}
				if c.IsSet("endpoint") {
					if err := adminClient(c).SetSiteEndpoint(c.Context, a[0], c.String("endpoint")); err != nil {
						return offline(c, err)
					}
				}
				if !c.IsSet("spool-key") {
					return nil
				}
				return offline(c, adminClient(c).SetSiteSpoolKey(c.Context, a[0], c.String("spool-key")))
			},
		},
		&cli.Command{
			Name: "remove", Usage: "remove a site that has no nodes, services or grants any more", ArgsUsage: "NAME",
			Description: `The site's addresses stay unused for the time of the quarantine ("towpath plan quarantine"), so that nothing that still knows them
reaches somebody else.`,
			Flags: []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).RemoveSite(c.Context, a[0]))
			},
		},
	)
}

// nodesOf counts the nodes of a site by kind.
func nodesOf(s adminapi.Site) string {
	var parts []string
	for _, k := range []wire.NodeKind{wire.Gateway, wire.Relay, wire.Workstation, wire.Unmanaged} {
		if n := s.Kinds[string(k)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, k))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func join(ps []netip.Prefix) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}
