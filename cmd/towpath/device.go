package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

func deviceCommand() *cli.Command {
	site := &cli.StringFlag{Name: "site", Required: true, Usage: "`NAME` of the site whose device it is"}
	address := &cli.StringFlag{Name: "address", Usage: "only at this `ADDRESS`; anywhere at the site if not given"}
	decide := func(state string) cli.ActionFunc {
		return func(c *cli.Context) error {
			a, err := args(c, "AE-TITLE")
			if err != nil {
				return err
			}
			d := adminapi.DeviceDecision{AETitle: a[0], State: state, Report: c.String("report")}
			if c.IsSet("address") {
				if d.Address, err = netip.ParseAddr(c.String("address")); err != nil {
					return ui.Usagef("such as 192.168.10.7", "--address %q is no IP address", c.String("address"))
				}
			}
			return offline(c, adminClient(c).DecideDevice(c.Context, c.String("site"), d))
		}
	}
	return group("device", "DICOM devices at a site: who calls, and who may",
		&cli.Command{
			Name: "list", Usage: "list who has called DICOM services at a site, and what was decided of them",
			Description: `A gateway notes every device that calls one of its DICOM services, by AE title and address. Who is unknown is let in, unless the service is for
approved devices only ("towpath service set NAME --approved-only"): so let a service learn for some days, approve what belongs there, and then close it.`,
			Flags: []cli.Flag{dirFlag(), jsonFlag(), site},
			Action: func(c *cli.Context) error {
				if _, err := args(c); err != nil {
					return err
				}
				all, err := adminClient(c).Devices(c.Context, c.String("site"))
				if err != nil {
					return offline(c, err)
				}
				return show(c, all, func(w io.Writer) error { return printDevices(w, all, time.Now()) })
			},
		},
		&cli.Command{
			Name: "approve", Usage: "let a device use the DICOM services of a site", ArgsUsage: "AE-TITLE",
			Description: `It may then use services for approved devices only, within their other rules. --report is where it listens for outcomes of storage
commitments, if that is not the port of the service at the address it calls from.`,
			Flags:  []cli.Flag{dirFlag(), site, address, &cli.StringFlag{Name: "report", Usage: "`HOST:PORT` where it listens for outcomes of storage commitments"}},
			Action: decide("approved"),
		},
		&cli.Command{
			Name: "deny", Usage: "keep a device away from all DICOM services of a site", ArgsUsage: "AE-TITLE",
			Flags: []cli.Flag{dirFlag(), site, address}, Action: decide("denied"),
		},
		&cli.Command{
			Name: "forget", Usage: "take back what was decided of a device", ArgsUsage: "AE-TITLE",
			Flags: []cli.Flag{dirFlag(), site, address}, Action: decide("unknown"),
		})
}

func printDevices(w io.Writer, all []adminapi.Device, now time.Time) error {
	var rows [][]string
	for _, d := range all {
		where, last := "anywhere", "never"
		if d.Address.IsValid() {
			where = d.Address.String()
		}
		if !d.Last.IsZero() {
			last = ui.Ago(d.Last, now)
		}
		rows = append(rows, []string{fmt.Sprintf("%q", d.AETitle), where, d.State, last, strings.Join(d.Services, ", "), d.Report})
	}
	return ui.Table(w, []string{"AE TITLE", "ADDRESS", "STATE", "CALLED LAST", "FOR", "REPORTS TO"}, rows)
}
