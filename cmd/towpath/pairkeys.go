package main

import (
	"github.com/urfave/cli/v2"
)

func coordinatorPairKeysCommand() *cli.Command {
	return &cli.Command{
		Name: "pair-keys", Usage: "say whether boxes agree on post-quantum preshared keys", ArgsUsage: "POLICY",
		Description: `POLICY is one of:

   preferred  boxes agree on keys wherever both can, and go without elsewhere (this is how a network begins)
   required   boxes that have no key in common have no tunnel, but for plain WireGuard devices, which can have none
   off        no keys: those that there are go out of use

"towpath status" on a box says for each of its peers whether there is a key, and why not. Look there before you require them.`,
		Flags: []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "POLICY")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).SetPairKeys(c.Context, a[0]))
		},
	}
}
