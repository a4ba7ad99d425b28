package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"rsc.io/qr"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

func tokenCommand() *cli.Command {
	return group("token", "secrets with which boxes enroll",
		tokenNewCommand(),
		&cli.Command{
			Name: "list", Usage: "list tokens and what became of them", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				all, err := adminClient(c).Tokens(c.Context)
				if err != nil {
					return offline(c, err)
				}
				return show(c, all, func(w io.Writer) error {
					var rows [][]string
					for _, t := range all {
						rows = append(rows, []string{
							t.ID, t.Site, t.Kind, t.State, conditionsOf(t), addrOf(t.Address), timeOf(t.Created), timeOf(t.Expires), usesOf(t),
						})
					}
					return ui.Table(w, []string{"TOKEN", "SITE", "KIND", "STATE", "WITH", "ADDRESS", "MADE", "EXPIRES", "USED BY"}, rows)
				})
			},
		},
		&cli.Command{
			Name: "revoke", Usage: "withdraw a token that is not used up", ArgsUsage: "ID",
			Description: `Nodes that it has enrolled stay, and one that waits for approval goes on waiting: see "towpath node remove" and "towpath node reject".`,
			Flags:       []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "ID")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).RevokeToken(c.Context, a[0]))
			},
		},
	)
}

// tokenTextFlags are of all commands that print a token.
func tokenTextFlags() []cli.Flag {
	return []cli.Flag{
		dirFlag(), jsonFlag(),
		&cli.StringFlag{Name: "ttl", Value: "72h", Usage: "how long it may be used, as `DURATION` such as 36h or 7d"},
		&cli.BoolFlag{Name: "qr", Usage: "draw it as a QR code too"},
		qrPNGFlag(),
	}
}

func tokenNewCommand() *cli.Command {
	return &cli.Command{
		Name: "new", Usage: "make a token for the gateway of a site, or for its workstations",
		Description: `The token is shown once. It works once, or --uses times. Whoever has it first gets the place, so hand it over as you would a key;
or give --approve: then each box waits until you have compared its key on the phone ("towpath node approve"). A box that takes the place of
another one needs the token of "towpath node replace". A further gateway of a center needs one with --approve.

Examples:
  towpath token new --site praxis-nord --ttl 7d --approve
  towpath token new --site center --kind workstation --uses 20 --approve`,
		Flags: append(tokenTextFlags(),
			&cli.StringFlag{Name: "site", Required: true, Usage: "`NAME` of the site"},
			&cli.StringFlag{Name: "kind", Value: string(wire.Gateway), Usage: "`KIND` of box: gateway, workstation or relay"},
			&cli.IntFlag{Name: "uses", Value: 1, Usage: "`NUMBER` of boxes that it enrolls, up to 1000"},
			&cli.BoolFlag{Name: "approve", Usage: "let each box wait until somebody approves it"},
			&cli.StringFlag{Name: "address", Usage: "overlay `ADDRESS` that the box will have; chosen if not given"},
		),
		Action: func(c *cli.Context) error {
			if _, err := args(c); err != nil {
				return err
			}
			ttl, err := ttlSeconds(c)
			if err != nil {
				return err
			}
			address, err := addressFlag(c)
			if err != nil {
				return err
			}
			if c.Int("uses") < 1 {
				return ui.Usagef("1 to 1000", "--uses %d is no number of boxes", c.Int("uses"))
			}
			t, err := adminClient(c).CreateToken(c.Context, adminapi.NewToken{
				Site: c.String("site"), Kind: c.String("kind"), TTLSeconds: ttl, Address: address, Limit: c.Int("uses"), Approval: c.Bool("approve"),
			})
			if err != nil {
				return offline(c, err)
			}
			return showToken(c, t)
		},
	}
}

// ttlSeconds reads --ttl.
func ttlSeconds(c *cli.Context) (int64, error) {
	d, err := durationOf(c, "ttl")
	return int64(d.Round(time.Second) / time.Second), err
}

// showToken prints a token that was just made, for the only time.
func showToken(c *cli.Context, t adminapi.CreatedToken) error {
	return withQRPNG(c, t.Text, show(c, t, func(w io.Writer) error {
		fmt.Fprintf(w, "%s\n\n%s, until %s. On the box:\n  towpath enroll TOKEN\n", t.Text, purposeOfToken(t.Token), timeOf(t.Expires))
		if t.Approval {
			fmt.Fprintf(w, "Then compare the key that the box shows with the one of \"towpath node list\", and let it in:\n  towpath node approve NODE\n")
		}
		if c.Bool("qr") {
			return drawQR(w, t.Text)
		}
		return nil
	}))
}

// purposeOfToken says what a token is for.
func purposeOfToken(t adminapi.Token) string {
	switch {
	case t.Replaces != "":
		return fmt.Sprintf("For the box that takes the place of %s of site %s, once", t.Replaces, t.Site)
	case t.Limit > 1:
		return fmt.Sprintf("For up to %d boxes of kind %s of site %s", t.Limit, t.Kind, t.Site)
	}
	return fmt.Sprintf("For the %s of site %s, once", t.Kind, t.Site)
}

// conditionsOf says what is particular about a token.
func conditionsOf(t adminapi.Token) string {
	switch {
	case t.Approval:
		return "approval"
	case t.Replaces != "":
		return "place of " + t.Replaces
	}
	return ""
}

// usesOf names the nodes that a token has enrolled, and how many more it may.
func usesOf(t adminapi.Token) string {
	nodes := make([]string, 0, len(t.Uses)+1)
	for _, u := range t.Uses {
		nodes = append(nodes, u.Node)
	}
	if t.Limit > 1 {
		nodes = append(nodes, fmt.Sprintf("(%d of %d)", len(t.Uses), t.Limit))
	}
	return strings.Join(nodes, " ")
}

// drawQR prints two rows of modules per line, dark on light, with the quiet zone that readers need (ISO/IEC 18004 §5.3.8).
func drawQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	const quiet = 4
	var b strings.Builder
	b.WriteByte('\n')
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			switch top, bottom := code.Black(x, y), code.Black(x, y+1); {
			case top && bottom:
				b.WriteString(" ")
			case top:
				b.WriteString("▄")
			case bottom:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteByte('\n')
	}
	_, err = io.WriteString(w, b.String())
	return err
}
