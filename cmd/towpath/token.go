package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"rsc.io/qr"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func tokenCommand() *cli.Command {
	return group("token", "one-time secrets with which boxes enroll",
		&cli.Command{
			Name: "new", Usage: "make a token for the gateway of a site",
			Description: `The token is shown once and works once. Whoever has it first gets the site's place, so hand it over as you would a key.
A box that takes the place of another may have its address: give --address.

Example:
  towpath token new --site praxis-nord --ttl 7d`,
			Flags: []cli.Flag{
				dirFlag(), jsonFlag(),
				&cli.StringFlag{Name: "site", Required: true, Usage: "`NAME` of the site"},
				&cli.StringFlag{Name: "ttl", Value: "72h", Usage: "how long it may be used, as `DURATION` such as 36h or 7d"},
				&cli.StringFlag{Name: "address", Usage: "overlay `ADDRESS` that the box will have; chosen if not given"},
				&cli.BoolFlag{Name: "qr", Usage: "draw it as a QR code too"},
				qrPNGFlag(),
			},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				ttl, err := durationOf(c, "ttl")
				if err != nil {
					return err
				}
				address, err := addressFlag(c)
				if err != nil {
					return err
				}
				t, err := adminClient(c).CreateToken(c.Context, c.String("site"), ttl, address)
				if err != nil {
					return offline(c, err)
				}
				return withQRPNG(c, t.Text, show(c, t, func(w io.Writer) error {
					fmt.Fprintf(w, "%s\n\nFor the gateway of site %s, once, until %s. On the box:\n  towpath enroll TOKEN\n",
						t.Text, t.Site, timeOf(t.Expires))
					if c.Bool("qr") {
						return drawQR(w, t.Text)
					}
					return nil
				}))
			},
		},
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
						rows = append(rows, []string{t.ID, t.Site, t.State, addrOf(t.Address), timeOf(t.Created), timeOf(t.Expires), usesOf(t)})
					}
					return ui.Table(w, []string{"TOKEN", "SITE", "STATE", "ADDRESS", "MADE", "EXPIRES", "USED BY"}, rows)
				})
			},
		},
		&cli.Command{
			Name: "revoke", Usage: "withdraw a token that was not used", ArgsUsage: "ID", Flags: []cli.Flag{dirFlag()},
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
