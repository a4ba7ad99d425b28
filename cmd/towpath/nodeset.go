package main

import (
	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func nodeSetCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "say which gateway of a site is preferred, and where it is reached", ArgsUsage: "NODE",
		Description: `A center may have several gateways. Clinics keep sessions to all of them and use the one of the lowest rank that reaches the center's
services; "towpath status" at a clinic shows which, and why. Gateways without a rank come last, by their addresses.

The site's endpoint is that of the gateway with the lowest address. Another one needs an endpoint of its own, or is reached through a relay.`,
		Flags: []cli.Flag{
			dirFlag(), &cli.IntFlag{Name: "rank", Usage: "`NUMBER`, 1 for the preferred gateway, up to 99; 0 for none"},
			&cli.StringFlag{Name: "endpoint", Usage: "`HOST:PORT` (UDP) at which this gateway is reached from outside; empty for none of its own"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NODE")
			if err != nil {
				return err
			}
			var p adminapi.NodePlace
			if c.IsSet("rank") {
				rank := c.Int("rank")
				p.Rank = &rank
			}
			if c.IsSet("endpoint") {
				endpoint := c.String("endpoint")
				p.Endpoint = &endpoint
			}
			if p == (adminapi.NodePlace{}) {
				return ui.Usagef("give --rank or --endpoint", "nothing is to be changed")
			}
			return offline(c, adminClient(c).PlaceNode(c.Context, a[0], p))
		},
	}
}
