package main

import (
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
	}
}

// hl7Options reads them; nil if none was given.
func hl7Options(c *cli.Context) *adminapi.HL7Options {
	given := false
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
	}
}
