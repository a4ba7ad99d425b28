package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func tlsCommand() *cli.Command {
	return group("tls", "TLS between a site's devices and its gateway, beside cleartext or in its place",
		tlsSetCommand(), tlsShowCommand(), tlsLegacyCommand(), tlsTargetCommand(), tlsRevokeCommand(),
		&cli.Command{
			Name: "off", Usage: "take cleartext only again, with no end", ArgsUsage: "SITE", Flags: []cli.Flag{dirFlag()},
			Action: func(c *cli.Context) error {
				a, err := args(c, "SITE")
				if err != nil {
					return err
				}
				return offline(c, adminClient(c).SetLANTLS(c.Context, a[0], nil))
			},
		})
}

func tlsSetCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "have a site's gateway take DICOM and HL7 over TLS, too", ArgsUsage: "SITE",
		Description: `Everything that the site may use is then taken over TLS as well, at a port of its own: 2762 for DICOM, 12575 for HL7. Cleartext goes on
until "towpath transition" ends it. What is not given stays as it was.

The gateway shows a certificate of the site's own authority, which it has made itself, and takes devices that show one: make them on the box
with "towpath cert issue". --server-only takes devices without; --trust takes those of another authority; --own shows a certificate that was put on
the box as lan-tls/server.pem and lan-tls/server-key.pem in its state directory.

Example:
  towpath tls set clinic-north --name towpath.praxis.local`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.UintFlag{Name: "dicom-port", Usage: "TCP `PORT` for DICOM over TLS; 0 for none"},
			&cli.UintFlag{Name: "hl7-port", Usage: "TCP `PORT` for HL7 over TLS; 0 for none"},
			&cli.StringSliceFlag{Name: "port", Usage: "`SERVICE=PORT` where one service has another TLS port; may be repeated"},
			&cli.BoolFlag{Name: "server-only", Usage: "take devices that show no certificate"},
			&cli.BoolFlag{Name: "own", Usage: "show the operator's own certificate"},
			&cli.StringSliceFlag{Name: "name", Usage: "host `NAME` or address that the gateway's certificate has besides those it is reached at; may be repeated"},
			&cli.StringFlag{Name: "trust", Usage: "`FILE` with certificates (PEM) of authorities that vouch for devices besides the gateway's own; empty for none"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			return changeLANTLS(c, a[0], func(t *wire.LANTLS) error { return tlsFlags(c, t) })
		},
	}
}

// changeLANTLS reads how a site's LAN is protected, changes it and writes it back.
func changeLANTLS(c *cli.Context, site string, change func(*wire.LANTLS) error) error {
	api := adminClient(c)
	now, err := api.LANTLS(c.Context, site)
	if err != nil {
		return offline(c, err)
	}
	t := wire.LANTLS{DICOMPort: wire.DICOMTLSPort, HL7Port: wire.HL7TLSPort}
	if now.Policy != nil {
		t = *now.Policy
	}
	if err := change(&t); err != nil {
		return err
	}
	return offline(c, api.SetLANTLS(c.Context, site, &t))
}

func tlsFlags(c *cli.Context, t *wire.LANTLS) error {
	for name, port := range map[string]*uint16{"dicom-port": &t.DICOMPort, "hl7-port": &t.HL7Port} {
		if !c.IsSet(name) {
			continue
		}
		if c.Uint(name) > 65535 {
			return ui.Usagef("ports go up to 65535", "--%s %d is no TCP port", name, c.Uint(name))
		}
		*port = uint16(c.Uint(name))
	}
	if c.IsSet("port") {
		t.Ports = map[string]uint16{}
		for _, text := range c.StringSlice("port") {
			service, number, _ := strings.Cut(text, "=")
			port, err := strconv.ParseUint(number, 10, 16)
			if err != nil || service == "" {
				return ui.Usagef("such as --port pacs-b=2763", "--port %q is not SERVICE=PORT", text)
			}
			t.Ports[service] = uint16(port)
		}
	}
	if c.IsSet("server-only") {
		t.ServerOnly = c.Bool("server-only")
	}
	if c.IsSet("own") {
		t.Own = c.Bool("own")
	}
	if c.IsSet("name") {
		t.Names = c.StringSlice("name")
	}
	if c.IsSet("trust") {
		var err error
		t.Trust, err = pemFile(c.String("trust"))
		return err
	}
	return nil
}

// pemFile reads certificates; an empty path is none.
func pemFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the certificates: %w", err)
	}
	return string(b), nil
}

func tlsShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show how a site's LAN is protected", ArgsUsage: "SITE", Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			v, err := adminClient(c).LANTLS(c.Context, a[0])
			if err != nil {
				return offline(c, err)
			}
			return show(c, v, func(w io.Writer) error {
				if v.Policy == nil {
					_, err := fmt.Fprintf(w, "Site %s takes cleartext only. Next: towpath tls set %s\n", v.Site, v.Site)
					return err
				}
				return writeLANPolicy(w, v.Policy)
			})
		},
	}
}

func writeLANPolicy(w io.Writer, t *wire.LANTLS) error {
	rows := [][]string{
		{"DICOM over TLS", portText(t.DICOMPort)},
		{"HL7 over TLS", portText(t.HL7Port)},
		{"devices show a certificate", yes(!t.ServerOnly)},
		{"certificate of the box", map[bool]string{true: "the operator's own", false: "of the site's authority"}[t.Own]},
		{"its further names", strings.Join(t.Names, ", ")},
		{"other authorities for devices", yes(t.Trust != "")},
		{"revoked", strings.Join(t.Revoked, ", ")},
	}
	for name, port := range t.Ports {
		rows = append(rows, []string{"TLS port of " + name, portText(port)})
	}
	for _, l := range t.Legacy {
		rows = append(rows, []string{"older TLS for " + l.Device.Addr().String(), string(l.Profile) + ", until " + endText(l.Until)})
	}
	for _, x := range t.Targets {
		rows = append(rows, []string{"TLS to " + x.Service, "verified by " + string(x.Verify)})
	}
	return ui.Table(w, []string{"WHAT", "HOW"}, rows)
}

func portText(p uint16) string {
	if p == 0 {
		return "no"
	}
	return "port " + strconv.Itoa(int(p))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func endText(t time.Time) string {
	if t.IsZero() {
		return "no end"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func tlsLegacyCommand() *cli.Command {
	return &cli.Command{
		Name: "legacy", Usage: "let one device use an older TLS than is safe", ArgsUsage: "SITE ADDRESS",
		Description: `For a device that cannot do better and is not to speak cleartext. tls12-cbc adds RSA key exchange and CBC suites to TLS 1.2; tls10 takes TLS 1.0
and 1.1 as well. The exception is for one address and for no other device.`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringFlag{Name: "profile", Value: string(wire.LegacyTLS12), Usage: "`PROFILE`: tls12-cbc or tls10"},
			&cli.StringFlag{Name: "until", Usage: "`DATE` at which the exception ends, such as 2027-03-31; no end if not given"},
			&cli.BoolFlag{Name: "remove", Usage: "end the exception now"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "ADDRESS")
			if err != nil {
				return err
			}
			addr, err := netip.ParseAddr(a[1])
			if err != nil || addr.Zone() != "" {
				return ui.Usagef("such as 192.168.1.40", "%q is no IP address", a[1])
			}
			until, err := dateFlag(c, "until")
			if err != nil {
				return err
			}
			device := netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
			return changeLANTLS(c, a[0], func(t *wire.LANTLS) error {
				t.Legacy = slices.DeleteFunc(t.Legacy, func(l wire.LegacyTLS) bool { return l.Device == device })
				if !c.Bool("remove") {
					t.Legacy = append(t.Legacy, wire.LegacyTLS{Device: device, Profile: wire.LegacyProfile(c.String("profile")), Until: until})
				}
				return nil
			})
		},
	}
}

// dateFlag reads a date, which is its first moment here, or a moment (RFC 3339); zero if it is not given.
func dateFlag(c *cli.Context, name string) (time.Time, error) {
	text := c.String(name)
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, text, time.Local)
	if err != nil {
		return t, ui.Usagef("such as 2027-03-31 or 2027-03-31T18:00:00+01:00", "--%s %q is no date", name, text)
	}
	return t, nil
}

func tlsTargetCommand() *cli.Command {
	return &cli.Command{
		Name: "target", Usage: "have a site's gateway reach a service on its own LAN over TLS", ArgsUsage: "SITE SERVICE",
		Description: `The certificate of the archive or application is judged by the site's own authority (site-ca), by a pin, or by other authorities (ca). The
gateway shows its own certificate if it is asked for one.`,
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringFlag{Name: "verify", Value: string(wire.VerifySite), Usage: "`HOW` its certificate is judged: site-ca, pin or ca"},
			&cli.StringFlag{Name: "pin", Usage: "SHA-256 of its certificate (DER) in `HEX`"},
			&cli.StringFlag{Name: "ca", Usage: "`FILE` with certificates (PEM) of its authorities"},
			&cli.StringFlag{Name: "name", Usage: "host `NAME` that its certificate has; that of its target if not given"},
			&cli.BoolFlag{Name: "remove", Usage: "reach it in cleartext again"},
		},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "SERVICE")
			if err != nil {
				return err
			}
			ca, err := pemFile(c.String("ca"))
			if err != nil {
				return err
			}
			return changeLANTLS(c, a[0], func(t *wire.LANTLS) error {
				t.Targets = slices.DeleteFunc(t.Targets, func(x wire.TLSTarget) bool { return x.Service == a[1] })
				if !c.Bool("remove") {
					t.Targets = append(t.Targets, wire.TLSTarget{
						Service: a[1], Verify: wire.TLSVerify(c.String("verify")), Pin: strings.ToLower(c.String("pin")), CA: ca, Name: c.String("name"),
					})
				}
				return nil
			})
		},
	}
}

func tlsRevokeCommand() *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "stop a site's gateway from taking a certificate", ArgsUsage: "SITE SERIAL",
		Description: `Also for certificates of other authorities. "towpath cert revoke" on the box does it without the coordinator.`,
		Flags:       []cli.Flag{dirFlag(), &cli.BoolFlag{Name: "remove", Usage: "take it again"}},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE", "SERIAL")
			if err != nil {
				return err
			}
			serial := provisioning.NormalSerial(a[1])
			return changeLANTLS(c, a[0], func(t *wire.LANTLS) error {
				t.Revoked = slices.DeleteFunc(t.Revoked, func(s string) bool { return s == serial })
				if !c.Bool("remove") {
					t.Revoked = append(t.Revoked, serial)
				}
				return nil
			})
		},
	}
}
