package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

func transitionCommand() *cli.Command {
	return group("transition", "the time in which a site's devices go over from cleartext to TLS",
		transitionShowCommand(),
		transitionStep("start", "let cleartext end at a date, by itself", `Until then both are taken. The site's box ends cleartext by its own clock, whether the coordinator can be reached or not. Of several rules
that fit a device, the narrowest counts: one for its address before one for all devices, one for a service before one for all.

--never makes an exception with no end, for a device that will never do TLS.`,
			&cli.BoolFlag{Name: "never", Usage: "cleartext has no end, for --device or --service"}),
		transitionStep("extend", "let cleartext go on for longer", ""),
		transitionStep("end", "end cleartext now", `It is refused while devices have spoken cleartext within a week and not gone over to TLS, unless --force is given.`,
			&cli.BoolFlag{Name: "force", Usage: "although devices have spoken cleartext lately"}),
		transitionStep("rollback", "take cleartext again, at once", `Rules for single devices and services that have ended go with it. Cleartext then ends 14 days from now, unless --until or --for says otherwise.`))
}

func transitionStep(step, usage, description string, more ...cli.Flag) *cli.Command {
	flags := []cli.Flag{
		dirFlag(), jsonFlag(),
		&cli.StringFlag{Name: "device", Usage: "only what comes from this `ADDRESS` or prefix"},
		&cli.StringFlag{Name: "service", Usage: "only this `SERVICE`"},
	}
	if step != "end" {
		flags = append(flags,
			&cli.StringFlag{Name: "until", Usage: "`DATE` at which cleartext ends, such as 2027-03-31"},
			&cli.StringFlag{Name: "for", Usage: "`TIME` for which cleartext goes on from now, such as 30d; 14d if nothing is given"})
	}
	return &cli.Command{
		Name: step, Usage: usage, ArgsUsage: "SITE", Description: description, Flags: append(flags, more...),
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			t := adminapi.NewTransition{
				Step: step, Device: c.String("device"), Service: c.String("service"), Never: c.Bool("never"), Force: c.Bool("force"),
			}
			if t.Until, err = untilFlags(c); err != nil {
				return err
			}
			r, err := adminClient(c).SetTransition(c.Context, a[0], t)
			if err != nil {
				return offline(c, err)
			}
			return show(c, r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Cleartext of %s at site %s: %s. Next: towpath transition show %s\n", ruleText(r), a[0], ruleEnd(r, time.Now()), a[0])
				return err
			})
		},
	}
}

func untilFlags(c *cli.Context) (time.Time, error) {
	if c.IsSet("until") && c.IsSet("for") {
		return time.Time{}, ui.Usagef("give one of them", "--until and --for say the same")
	}
	if c.IsSet("for") {
		d, err := parseDuration(c.String("for"))
		if err != nil || d <= 0 {
			return time.Time{}, ui.Usagef("such as 30d or 12h", "--for %q is no time", c.String("for"))
		}
		return time.Now().Add(d), nil
	}
	return dateFlag(c, "until")
}

func ruleText(r wire.CleartextRule) string {
	return cmp.Or(deviceText(r.Device), "all devices") + ", " + cmp.Or(r.Service, "all services")
}

func deviceText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func ruleEnd(r wire.CleartextRule, now time.Time) string {
	switch {
	case r.Until.IsZero():
		return "no end"
	case now.Before(r.Until):
		return "ends " + endText(r.Until)
	}
	return "refused since " + endText(r.Until)
}

func transitionShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show until when cleartext is taken, and which devices still need it", ArgsUsage: "SITE",
		Description: `What a box has reported may be a minute old. A device is a source address with the AE title, or HL7 application and facility, that it calls itself.`,
		Flags:       []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "SITE")
			if err != nil {
				return err
			}
			v, err := adminClient(c).LANTLS(c.Context, a[0])
			if err != nil {
				return offline(c, err)
			}
			return show(c, v, func(w io.Writer) error { return writeTransition(w, v, time.Now()) })
		},
	}
}

func writeTransition(w io.Writer, v adminapi.LANProtection, now time.Time) error {
	var rules [][]string
	if v.Policy != nil {
		for _, r := range v.Policy.Cleartext {
			rules = append(rules, []string{cmp.Or(deviceText(r.Device), "all"), cmp.Or(r.Service, "all"), ruleEnd(r, now)})
		}
	}
	if len(rules) == 0 {
		fmt.Fprintf(w, "Site %s takes cleartext with no end.\n", v.Site)
	} else if err := ui.Table(w, []string{"DEVICE", "SERVICE", "CLEARTEXT"}, rules); err != nil {
		return err
	}
	var rows [][]string
	for _, b := range v.Boxes {
		for _, d := range b.Devices {
			rows = append(rows, []string{
				d.Source.String(), d.Calling, d.Service, tallyText(d.Cleartext, d.LastCleartext, now), tallyText(d.TLS, d.LastTLS, now),
				tallyText(d.Refused, d.LastRefused, now), ruleEnd(wire.CleartextRule{Until: d.Until}, now),
			})
		}
		if b.More > 0 {
			rows = append(rows, []string{fmt.Sprintf("and %d more on %s", b.More, b.Node), "", "", "", "", "", ""})
		}
	}
	fmt.Fprintln(w)
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No device has been heard.")
		return err
	}
	return ui.Table(w, []string{"SOURCE", "DEVICE", "SERVICE", "CLEARTEXT", "TLS", "REFUSED", "ITS CLEARTEXT"}, rows)
}

func tallyText(n uint64, last, now time.Time) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10) + ", " + ui.Ago(last, now)
}
