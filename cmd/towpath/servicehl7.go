package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

// hl7Flags are the options of an HL7 service.
func hl7Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "type", Usage: "message `TYPE` it takes, ORU or ORU^R01 (MSH-9), all if not given; may be repeated (HL7)"},
		&cli.BoolFlag{Name: "copy", Usage: "it takes what it matches besides the service that is meant (HL7)"},
		&cli.StringFlag{Name: "on-refusal", Usage: "`WHAT` happens behind a refused message: skip (if not given) or stop (HL7)"},
		&cli.IntFlag{Name: "retries", Usage: "`NUMBER` of times a message is tried again after the answer AE or CE; 15 if not given (HL7)"},
		&cli.BoolFlag{Name: "acks", Usage: "deliver acknowledgments of what its site sent to it (HL7)"},
		&cli.DurationFlag{Name: "ack-timeout", Usage: "`TIME` the application may take to answer; 30s if not given (HL7)"},
		&cli.BoolFlag{Name: "commit-sender", Usage: "senders use commit acknowledgments, MLLP release 2 (HL7)"},
		&cli.BoolFlag{Name: "commit-target", Usage: "the application uses commit acknowledgments, MLLP release 2 (HL7)"},
		&cli.StringFlag{Name: "gdt-receiver", Usage: "write results as GDT 2.1 records for the practice software with this `GDT-ID` (HL7, folders)"},
		&cli.StringFlag{Name: "gdt-sender", Usage: "our own `GDT-ID` in the records; TOWPATH if not given (HL7, folders)"},
		&cli.StringFlag{Name: "gdt-procedure", Usage: "`KIND` of examination in the records (field 8402), such as EKG01; ALLG00 if not given (HL7, folders)"},
		&cli.IntFlag{Name: "gdt-charset", Usage: "`NUMBER` of the records' character set (field 9206): 2 is IBM code page 437, 3 (if not given) ISO 8859-1 (HL7, folders)"},
	}
}

// hl7Options lays what was given over the options that there are; nil if nothing was given. The flag that HL7 and DICOM share counts with stat.
func hl7Options(c *cli.Context, now *adminapi.HL7Options, stat bool) *adminapi.HL7Options {
	o, given := adminapi.HL7Options{}, false
	if now != nil {
		o = *now
	}
	for _, f := range append(hl7Flags(), &cli.BoolFlag{Name: urgentStat}) {
		name := f.Names()[0]
		if !c.IsSet(name) || name == urgentStat && !stat {
			continue
		}
		given = true
		switch name {
		case "type":
			o.Types = entries(c.StringSlice(name))
		case "copy":
			o.Copy = c.Bool(name)
		case "on-refusal":
			o.Behind = c.String(name)
		case "retries":
			o.Retries = c.Int(name)
		case "acks":
			o.Acks = c.Bool(name)
		case "ack-timeout":
			o.AckTimeout = int((c.Duration(name) + time.Second - 1) / time.Second)
		case "commit-sender":
			o.CommitSender = c.Bool(name)
		case "commit-target":
			o.CommitTarget = c.Bool(name)
		case urgentStat:
			o.UrgentStat = c.Bool(name)
		default:
			o.GDT = gdtOptions(c, o.GDT)
		}
	}
	if !given {
		return nil
	}
	return &o
}

// gdtOptions lays what was given over the options that there are; without a receiver there are none.
func gdtOptions(c *cli.Context, now *adminapi.GDT) *adminapi.GDT {
	var o adminapi.GDT
	if now != nil {
		o = *now
	}
	for name, field := range map[string]*string{"gdt-receiver": &o.Receiver, "gdt-sender": &o.Sender, "gdt-procedure": &o.Procedure} {
		if c.IsSet(name) {
			*field = c.String(name)
		}
	}
	if c.IsSet("gdt-charset") {
		o.Charset = c.Int("gdt-charset")
	}
	if o == (adminapi.GDT{}) || c.IsSet("gdt-receiver") && o.Receiver == "" {
		return nil
	}
	return &o
}

// setHL7 changes the options of an HL7 service.
func setHL7(c *cli.Context, s adminapi.Service) error {
	if name := firstSet(c, dicomFlags(), urgentStat); name != "" {
		return ui.Usagef("leave it out: "+s.Name+" is an HL7 service", "--%s is for DICOM services", name)
	}
	o := hl7Options(c, s.HL7, true)
	if o == nil {
		return ui.Usagef("give one of the options", "nothing to change")
	}
	return offline(c, adminClient(c).SetServiceHL7(c.Context, s.Name, *o))
}

// firstSet is the name of the first of these flags that was given, but for one that does not count; empty for none.
func firstSet(c *cli.Context, flags []cli.Flag, but string) string {
	for _, f := range flags {
		if name := f.Names()[0]; name != but && c.IsSet(name) {
			return name
		}
	}
	return ""
}

func hl7OptionsText(o adminapi.HL7Options) string {
	return optionsText([]shownOption{
		{len(o.Types) > 0, "takes " + strings.Join(o.Types, ", ")},
		{o.Copy, "a copy of what it matches"},
		{o.Behind != "", "behind a refused message: " + o.Behind},
		{o.Retries != 0, fmt.Sprintf("%d retries", o.Retries)},
		{o.AckTimeout != 0, fmt.Sprintf("answers within %d s", o.AckTimeout)},
		{o.Acks, "takes acknowledgments back"},
		{o.CommitSender, "senders use commit acknowledgments"},
		{o.CommitTarget, "the application uses commit acknowledgments"},
		{o.UrgentStat, "urgent is what an order calls so"},
		{o.GDT != nil, "results become GDT records"},
	})
}
