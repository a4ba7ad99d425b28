package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
)

// dicomFlags are the options of a DICOM service.
func dicomFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "hold", Usage: "take what the archive does not, and park it, instead of refusing it (DICOM)"},
		&cli.StringFlag{Name: "probe-ae", Usage: "calling AE `TITLE` by which the archive is asked what it accepts; TOWPATH if not given (DICOM)"},
		&cli.IntFlag{Name: "report-port", Usage: "TCP `PORT` at which devices listen for results of storage commitments (DICOM)"},
		&cli.StringSliceFlag{Name: "caller", Usage: "calling AE `TITLE` that may use it, all if not given; may be repeated (DICOM)"},
		&cli.StringSliceFlag{Name: "source", Usage: "`PREFIX` of the LAN that devices may call from, all if not given; may be repeated (DICOM)"},
		&cli.StringSliceFlag{Name: "sop-class", Usage: "SOP class `UID` it takes, all if not given; may be repeated (DICOM)"},
		&cli.IntFlag{Name: "rate", Usage: "`NUMBER` of associations that one device may begin in a minute (DICOM)"},
		&cli.BoolFlag{Name: "approved-only", Usage: "let only devices in that were approved; else unknown ones may, and are listed (DICOM)"},
		&cli.BoolFlag{Name: "far-echo", Usage: "answer a C-ECHO with the state of the archive (DICOM)"},
		&cli.StringSliceFlag{Name: "urgent-ae", Usage: "calling AE `TITLE` whose objects pass others; may be repeated (DICOM, queued)"},
		&cli.StringSliceFlag{Name: "urgent-class", Usage: "SOP class `UID` whose objects pass others, or a modality such as CT; may be repeated (DICOM, queued)"},
		&cli.BoolFlag{
			Name: urgentStat, Usage: "what an order calls urgent passes others: messages with the priority S (stat) or A in ORC-7, OBR-27 or TQ1-9 (HL7), objects of studies to " +
				"which a worklist gives the priority STAT or HIGH (DICOM) (queued)",
		},
	}
}

// dicomOptions lays what was given over the options that there are; nil if there are none and nothing was given.
func dicomOptions(c *cli.Context, now *adminapi.DICOMOptions) (*adminapi.DICOMOptions, error) {
	o, given := adminapi.DICOMOptions{}, now != nil
	if now != nil {
		o = *now
	}
	for _, f := range dicomFlags() {
		name := f.Names()[0]
		if !c.IsSet(name) || name == urgentStat && c.Bool("hl7") {
			continue
		}
		given = true
		switch name {
		case "hold":
			o.Hold = c.Bool(name)
		case "probe-ae":
			o.ProbeAE = c.String(name)
		case "report-port":
			o.ReportPort = c.Int(name)
		case "caller":
			o.Callers = entries(c.StringSlice(name))
		case "source":
			o.Sources = entries(c.StringSlice(name))
		case "sop-class":
			o.Classes = entries(c.StringSlice(name))
		case "rate":
			o.Rate = c.Int(name)
		case "approved-only":
			o.Approved = c.Bool(name)
		case "far-echo":
			o.FarEcho = c.Bool(name)
		case "urgent-ae":
			o.UrgentCallers = entries(c.StringSlice(name))
		case "urgent-class":
			classes, err := classesNamed(entries(c.StringSlice(name)))
			if err != nil {
				return nil, err
			}
			o.UrgentClasses = classes
		case urgentStat:
			o.UrgentStat = c.Bool(name)
		}
	}
	if !given {
		return nil, nil
	}
	return &o, nil
}

// entries are those of a repeated flag; an empty one empties the list.
func entries(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func serviceSetCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "change the options of a service", ArgsUsage: "NAME",
		Description: `Options that are not given stay. --hold=false and the like take one back, --caller "" empties a list. What is urgent passes other objects in the queues and between the chunks of a transfer. Gateways take the change up at once;
associations and connections under way end by the old options. --gdt-receiver "" ends the writing of GDT records.

Example:
  towpath service set pacs --hold --source 192.168.10.0/24
  towpath service set pacs --urgent-ae ER_CT --urgent-class XA
  towpath service set his --urgent-stat --on-refusal stop`,
		Flags: slices.Concat([]cli.Flag{dirFlag()}, dicomFlags(), hl7Flags()),
		Action: func(c *cli.Context) error {
			a, err := args(c, "NAME")
			if err != nil {
				return err
			}
			s, err := serviceNamed(c, a[0])
			if err != nil {
				return err
			}
			if s.Protocol == string(wire.HL7) {
				return setHL7(c, s)
			}
			if name := firstSet(c, hl7Flags(), ""); name != "" {
				return ui.Usagef("leave it out: "+s.Name+" is a DICOM service", "--%s is for HL7 services", name)
			}
			o, err := dicomOptions(c, s.DICOM)
			if err != nil {
				return err
			}
			if o == nil {
				return ui.Usagef("give one of the options", "nothing to change")
			}
			return offline(c, adminClient(c).SetServiceDICOM(c.Context, s.Name, *o))
		},
	}
}

// serviceNamed finds a service by its name or id.
func serviceNamed(c *cli.Context, name string) (adminapi.Service, error) {
	all, err := adminClient(c).Services(c.Context)
	if err != nil {
		return adminapi.Service{}, offline(c, err)
	}
	for _, s := range all {
		if s.Name == name || s.ID == name {
			return s, nil
		}
	}
	return adminapi.Service{}, provisioning.Errorf(provisioning.NotFound, "there is no service named %q", name).
		WithHint("\"towpath service list\" shows the names")
}

func serviceShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show all about a service, and what the archive behind it accepts", ArgsUsage: "NAME",
		Flags: []cli.Flag{dirFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NAME")
			if err != nil {
				return err
			}
			s, err := serviceNamed(c, a[0])
			if err != nil {
				return err
			}
			return show(c, s, func(w io.Writer) error { return printService(w, s, time.Now()) })
		},
	}
}

func printService(w io.Writer, s adminapi.Service, now time.Time) error {
	rows := [][]string{
		{"Site", s.Site},
		{"Protocol", s.Protocol},
		{"Mode", s.Mode},
		{"Name there", s.AETitle + s.Receiver},
		{"Target", s.Target},
		{"At", placeOf(s)},
		{"Allowed", strings.Join(s.Users, ", ")},
	}
	if o := s.DICOM; o != nil {
		rows = append(rows, []string{"Options", dicomOptionsText(*o)})
	}
	if o := s.HL7; o != nil {
		rows = append(rows, []string{"Options", hl7OptionsText(*o)})
	}
	if s.Protocol == "dicom" {
		rows = append(rows, []string{"Archive", archiveText(s.Archive, now)})
	}
	return ui.Table(w, []string{"SERVICE", s.Name}, rows)
}

func archiveText(a *adminapi.Archive, now time.Time) string {
	switch {
	case a == nil:
		return "not asked yet what it accepts"
	case a.Probed.IsZero():
		return "not known what it accepts: " + a.Problem
	}
	text := fmt.Sprintf("%s accepts %d SOP classes in %d pairs with transfer syntaxes, asked %s", a.Software, a.Classes, a.Pairs, ui.Ago(a.Probed, now))
	if a.Problem != "" {
		text += "; since then: " + a.Problem
	}
	return text
}

func dicomOptionsText(o adminapi.DICOMOptions) string {
	return optionsText([]shownOption{
		{o.Hold, "holds what the archive refuses"},
		{o.Approved, "approved devices only"},
		{o.FarEcho, "echo of the archive"},
		{o.ProbeAE != "", "asks as " + o.ProbeAE},
		{o.ReportPort != 0, fmt.Sprintf("reports to port %d", o.ReportPort)},
		{o.Rate != 0, fmt.Sprintf("%d associations a minute", o.Rate)},
		{len(o.Callers) > 0, "callers " + strings.Join(o.Callers, ", ")},
		{len(o.Sources) > 0, "from " + strings.Join(o.Sources, ", ")},
		{len(o.Classes) > 0, fmt.Sprintf("%d SOP classes", len(o.Classes))},
		{len(o.UrgentCallers) > 0, "urgent from " + strings.Join(o.UrgentCallers, ", ")},
		{len(o.UrgentClasses) > 0, "urgent are " + classNames(o.UrgentClasses)},
		{o.UrgentStat, "urgent is what a worklist calls so"},
	})
}

// shownOption is how an option that is on is shown.
type shownOption struct {
	on   bool
	text string
}

func optionsText(all []shownOption) string {
	var out []string
	for _, x := range all {
		if x.on {
			out = append(out, x.text)
		}
	}
	return strings.Join(out, "; ")
}

func serviceProbeCommand() *cli.Command {
	return &cli.Command{
		Name: "probe", Usage: "ask the archive of a service anew what it accepts", ArgsUsage: "NAME",
		Description: `Run it on a box: at the site of the archive it asks the archive itself, by associations that propose presentation contexts and send no message;
at a site that uses the service by a queue it asks the gateway there to do so, at most once in five minutes, and takes the answer over. Both happen by
themselves: at start, every day, and when the archive does otherwise than is known.`,
		Flags: []cli.Flag{stateFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			a, err := args(c, "NAME")
			if err != nil {
				return err
			}
			s, err := localClient(c).ProbeService(c.Context, a[0])
			if err != nil {
				return notRunning(c, err)
			}
			return show(c, s, func(w io.Writer) error { return printArchives(w, []dicom.TwinStatus{s}, time.Now()) })
		},
	}
}

// printArchives is a part of a status.
func printArchives(w io.Writer, all []dicom.TwinStatus, now time.Time) error {
	var rows [][]string
	for _, s := range all {
		if s.Probed.IsZero() {
			why := s.Failure.Reason
			if why == "" {
				why = "not asked yet"
			}
			rows = append(rows, []string{s.Service, "unknown: everything is accepted", "", "", why})
			continue
		}
		remark := s.Doubt
		if remark == "" {
			remark = s.Failure.Reason
		}
		rows = append(rows, []string{
			s.Service, fmt.Sprintf("%d SOP classes, %d pairs", s.Classes, s.Pairs), s.Software, ui.Ago(s.Probed, now), remark,
		})
	}
	return ui.Table(w, []string{"ARCHIVE OF", "ACCEPTS", "SOFTWARE", "ASKED", "REMARK"}, rows)
}

// printArchivesOf prints them under a heading if there are any.
func printArchivesOf(w io.Writer, s localapi.Status, now time.Time) error {
	if len(s.Archives) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nWhat archives accept")
	return printArchives(w, s.Archives, now)
}
