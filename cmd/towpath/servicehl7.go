package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

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

// hl7Options reads them; nil if none was given.
func hl7Options(c *cli.Context) *adminapi.HL7Options {
	stat := c.Bool("hl7") && c.Bool(urgentStat)
	given := stat
	for _, f := range hl7Flags() {
		given = given || c.IsSet(f.Names()[0])
	}
	if !given {
		return nil
	}
	timeout := c.Duration("ack-timeout")
	return &adminapi.HL7Options{
		Types: c.StringSlice("type"), Copy: c.Bool("copy"), Behind: c.String("on-refusal"), Retries: c.Int("retries"), Acks: c.Bool("acks"),
		CommitSender: c.Bool("commit-sender"), CommitTarget: c.Bool("commit-target"),
		AckTimeout: int((timeout + time.Second - 1) / time.Second),
		UrgentStat: stat,
		GDT:        gdtOptions(c),
	}
}

func gdtOptions(c *cli.Context) *adminapi.GDT {
	o := adminapi.GDT{
		Receiver: c.String("gdt-receiver"), Sender: c.String("gdt-sender"), Procedure: c.String("gdt-procedure"), Charset: c.Int("gdt-charset"),
	}
	if o == (adminapi.GDT{}) {
		return nil
	}
	return &o
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
