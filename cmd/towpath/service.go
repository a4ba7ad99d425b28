package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func serviceCommand() *cli.Command {
	return group("service", "what sites offer: archives, worklists, HL7 receivers",
		&cli.Command{
			Name: "add", Usage: "offer something at a site", ArgsUsage: "NAME",
			Description: `--target is where the site's own gateway finds it on its LAN. Nobody may use it before "towpath allow".
A queued service answers the sender as soon as the data is safe on the sender's own gateway; a pass-through service lets the far
application answer, which queries need. --fixed-address gives it an overlay address of its own, which stays when the site's box changes; its site
needs a range for that ("towpath plan allocate SITE --purpose services").

HL7 services that share a port are told apart by --receiver and --type; one with --copy takes what it matches besides the one that is meant. The
target folder:NAME makes files of the messages on the site's own gateway. --acks makes a service the return route of its site: what the far
application answered to messages of the site, whose gateway had answered them, is delivered there.

--queue-max-bytes and --queue-max-items bound what each sender's gateway keeps for a queued service while it cannot deliver. A full queue
refuses its own senders, in the words of their protocol, and the other services go on.

Examples:
  towpath service add pacs --site center --dicom --ae-title PACS --target 192.168.10.5:104
  towpath service add his --site center --hl7 --target his.local:2575 --fixed-address
  towpath service add findings --site clinic-north --hl7 --type ORU^R01 --target folder:findings`,
			Flags: append([]cli.Flag{
				dirFlag(), jsonFlag(),
				&cli.StringFlag{Name: "site", Required: true, Usage: "`NAME` of the site that offers it"},
				&cli.BoolFlag{Name: "dicom", Usage: "it speaks DICOM"},
				&cli.BoolFlag{Name: "hl7", Usage: "it speaks HL7 v2 over MLLP"},
				&cli.StringFlag{Name: "target", Required: true, Usage: "`HOST:PORT` on the site's LAN, or folder:NAME (HL7)"},
				&cli.StringFlag{Name: "ae-title", Usage: "its AE `TITLE` (DICOM); devices must call it so"},
				&cli.StringFlag{Name: "receiver", Usage: "`APP` or APP^FACILITY of MSH-5 and MSH-6 that tells it apart from other HL7 services on one port"},
				&cli.StringFlag{Name: "mode", Value: "queued", Usage: "`MODE`: queued or pass-through"},
				&cli.BoolFlag{Name: "fixed-address", Usage: "give it an overlay address of its own, which the coordinator chooses"},
				&cli.StringFlag{Name: "address", Usage: "give it this overlay `ADDRESS` of its own"},
			}, append(append(hl7Flags(), dicomFlags()...), queueLimitFlags()...)...),
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				options, err := dicomOptions(c, nil)
				if err != nil {
					return err
				}
				n := adminapi.NewService{
					Site: c.String("site"), Name: a[0], Target: c.String("target"), AETitle: c.String("ae-title"),
					Receiver: c.String("receiver"), Mode: c.String("mode"), FixedAddress: c.Bool("fixed-address"), HL7: hl7Options(c, nil, c.Bool("hl7")), Queue: queueOptions(c),
					DICOM: options,
				}
				if n.Address, err = addressFlag(c); err != nil {
					return err
				}
				switch {
				case c.Bool("dicom") == c.Bool("hl7"):
					return ui.Usagef("give one of them", "either --dicom or --hl7 is needed")
				case c.Bool("dicom"):
					n.Protocol = "dicom"
				default:
					n.Protocol = "hl7"
				}
				s, err := adminClient(c).CreateService(c.Context, n)
				if err != nil {
					return offline(c, err)
				}
				return show(c, s, func(w io.Writer) error {
					where := fmt.Sprintf("overlay port %d", s.Port)
					if s.Address.IsValid() {
						where = fmt.Sprintf("overlay address %s", placeOf(s))
					}
					_, err := fmt.Fprintf(w, "Service %s is at site %s, %s. Next: towpath allow SITE %s\n", s.Name, s.Site, where, s.Name)
					return err
				})
			},
		},
		&cli.Command{
			Name: "list", Usage: "list all services and who may use them", Flags: []cli.Flag{dirFlag(), jsonFlag()},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				all, err := adminClient(c).Services(c.Context)
				if err != nil {
					return offline(c, err)
				}
				return show(c, all, func(w io.Writer) error {
					var rows [][]string
					for _, s := range all {
						rows = append(rows, []string{
							s.Name, s.Site, s.Protocol, s.AETitle + s.Receiver, s.Mode, s.Target, strconv.Itoa(int(s.Port)), placeOf(s), strings.Join(s.Users, ", "),
						})
					}
					return ui.Table(w, []string{"SERVICE", "SITE", "PROTOCOL", "NAME THERE", "MODE", "TARGET", "PORT", "AT", "ALLOWED"}, rows)
				})
			},
		},
		serviceShowCommand(), serviceSetCommand(), serviceProbeCommand(),
		&cli.Command{
			Name: "remove", Usage: "remove a service that nobody may use any more", ArgsUsage: "NAME", Flags: []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "NAME")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).RemoveService(c.Context, a[0]))
			},
		},
	)
}

// addressFlag reads --address; the zero value if it is not given.
func addressFlag(c *cli.Context) (netip.Addr, error) {
	if !c.IsSet("address") {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(c.String("address"))
	if err != nil || a.Zone() != "" {
		return a, ui.Usagef("such as 10.201.7.14", "--address %q is no IP address", c.String("address"))
	}
	return a.Unmap(), nil
}

func allowCommand() *cli.Command {
	return &cli.Command{
		Name: "allow", Usage: "let a site use a service; everything that is not allowed is impossible", ArgsUsage: "SITE SERVICE",
		Description: `The site's gateway then listens on its LAN for the service. Several services may share a port: DICOM ones are told apart
by AE title, HL7 ones by receiver. Without arguments it lists what is allowed.

A site's workstations and unmanaged devices may use what the site may use. For a service of their own site, allow the site its own service:
that concerns these alone, since machines on the LAN reach it without the network.`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			dirFlag(), jsonFlag(),
			&cli.UintFlag{Name: "port", Usage: "TCP `PORT` on the LAN of SITE; 11112 for DICOM and 2575 for HL7 if not given"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return listGrants(c)
			}
			a, err := args(c, "SITE", "SERVICE")
			if err != nil {
				return err
			}
			if c.Uint("port") > 65535 {
				return ui.Usagef("ports go up to 65535", "--port %d is no TCP port", c.Uint("port"))
			}
			g, err := adminClient(c).Allow(c.Context, a[1], a[0], uint16(c.Uint("port")))
			if err != nil {
				return offline(c, err)
			}
			return show(c, g, func(w io.Writer) error {
				if g.Owner == g.Site {
					_, err := fmt.Fprintf(w, "Workstations and unmanaged devices of site %s may use %s of their own site.\n", g.Site, g.Service)
					return err
				}
				_, err := fmt.Fprintf(w, "Site %s may use %s; its gateway listens on LAN port %d.\n", g.Site, g.Service, g.LANPort)
				return err
			})
		},
	}
}

func listGrants(c *cli.Context) error {
	all, err := adminClient(c).Grants(c.Context)
	if err != nil {
		return offline(c, err)
	}
	return show(c, all, func(w io.Writer) error {
		var rows [][]string
		for _, g := range all {
			rows = append(rows, []string{g.Site, g.Service, g.Owner, strconv.Itoa(int(g.LANPort))})
		}
		return ui.Table(w, []string{"SITE", "MAY USE", "OF", "LAN PORT"}, rows)
	})
}

func disallowCommand() *cli.Command {
	return &cli.Command{
		Name: "disallow", Usage: "end a site's permission to use a service", ArgsUsage: "SITE SERVICE",
		OnUsageError: usageError,
		Flags:        []cli.Flag{dirFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "SERVICE")
			if err != nil {
				return err
			}
			return offline(c, adminClient(c).Disallow(c.Context, a[1], a[0]))
		},
	}
}
