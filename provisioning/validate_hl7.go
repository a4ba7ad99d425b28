package provisioning

import (
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of the options of an HL7 Service.
const (
	maxTypes      = 64
	maxRetries    = 1000
	maxAckTimeout = 3600 // s
)

// checkTarget takes a folder where the gateway can write one.
func (s Service) checkTarget() error {
	name, folder := strings.CutPrefix(s.Target, wire.FolderTarget)
	switch {
	case !folder:
		return CheckTarget(s.Target)
	case s.Protocol != wire.HL7:
		return Errorf(Invalid, "only an HL7 service can be a folder").WithHint("give the host and port of the application")
	case s.Mode != wire.Queued:
		return Errorf(Invalid, "a folder cannot answer, so nothing can be passed through to it").WithHint("choose the mode %q", wire.Queued)
	case s.HL7.CommitTarget:
		return Errorf(Invalid, "a folder sends no commit acknowledgments").WithHint("leave that option out")
	}
	return CheckName("folder", name)
}

func (s Service) checkHL7() error {
	o := s.HL7
	switch {
	case o == (wire.HL7Options{}):
		return nil
	case s.Protocol != wire.HL7:
		return Errorf(Invalid, "a DICOM service has no options of HL7").WithHint("leave them out, or choose the protocol %q", wire.HL7)
	case o.Copy && s.Mode != wire.Queued:
		return Errorf(Invalid, "a service for copies must be queued: the sender can hear one answer only").WithHint("choose the mode %q", wire.Queued)
	case o.Behind != "" && o.Behind != wire.Stop && o.Behind != wire.Skip:
		return checkChoice("choice of what happens behind a refused message", o.Behind, wire.Skip, wire.Stop)
	case s.Mode != wire.Queued && (o.Behind != "" || o.Retries != 0):
		return Errorf(Invalid, "only a queued service tries again and holds up messages").WithHint("leave these options out, or choose the mode %q", wire.Queued)
	case o.UrgentStat && (s.Mode != wire.Queued || strings.HasPrefix(s.Target, wire.FolderTarget)):
		return Errorf(Invalid, "messages can pass others only in the queue of an application").WithHint("leave this option out, or choose the mode %q", wire.Queued)
	case o.Retries < 0 || o.Retries > maxRetries:
		return Errorf(Invalid, "%d retries make no sense", o.Retries).WithHint("give a number from 1 to %d, or 0 for the gateway's own", maxRetries)
	case o.AckTimeout < 0 || o.AckTimeout > maxAckTimeout:
		return Errorf(Invalid, "an answer cannot take %d seconds", o.AckTimeout).WithHint("give 1 to %d seconds, or 0 for the gateway's own time", maxAckTimeout)
	}
	if err := s.checkGDT(); err != nil {
		return err
	}
	return checkMessageTypes(o.TypeList())
}

// checkGDT repeats what the gateway would refuse, see proxy/hl7/gdt: it must be said where it can be changed.
func (s Service) checkGDT() error {
	o := s.HL7.GDT
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	gdtID := func(id string) bool { return len(id) >= 4 && len(id) <= 8 && strings.Trim(id, letters+"_") == "" }
	switch {
	case o == (wire.GDTOptions{}):
		return nil
	case !strings.HasPrefix(s.Target, wire.FolderTarget):
		return Errorf(Invalid, "GDT records are files, and the target is no folder").WithHint("give the target as %sNAME, or leave the GDT options out", wire.FolderTarget)
	case !gdtID(o.Receiver):
		return Errorf(Invalid, "the GDT-ID of the practice software is missing or wrong").WithHint("its vendor names it: 4 to 8 of A to Z, 0 to 9 and _")
	case o.Sender != "" && !gdtID(o.Sender):
		return Errorf(Invalid, "the sender's GDT-ID is wrong").WithHint("write 4 to 8 of A to Z, 0 to 9 and _, or leave it out")
	case len(o.Procedure) > 6 || strings.Trim(o.Procedure, letters) != "":
		return Errorf(Invalid, "the kind of examination (field 8402) is wrong").WithHint("write up to 6 of A to Z and 0 to 9, such as EKG01")
	case o.Charset != 0 && o.Charset != 2 && o.Charset != 3:
		return Errorf(Invalid, "GDT has no character set %d that the gateway writes", o.Charset).WithHint("choose 2 (IBM code page 437) or 3 (ISO 8859-1)")
	}
	return nil
}

func checkMessageTypes(types []string) error {
	const hint = "write a type, such as \"ORU\", or a type and its trigger event, such as \"ORU^R01\" (MSH-9)"
	if len(types) > maxTypes {
		return Errorf(Invalid, "%d message types are more than %d", len(types), maxTypes).WithHint("leave the types out to take all messages")
	}
	for i, t := range types {
		code, trigger, both := strings.Cut(t, "^")
		switch {
		case !messageCode(code) || both && !messageCode(trigger):
			return Errorf(Invalid, "%q is no HL7 message type", clipped(t)).WithHint(hint)
		case both && slices.Contains(types, code):
			return Errorf(Invalid, "the message type %q is contained in %q", t, code).WithHint("leave one of them out")
		case i > 0 && types[i-1] >= t:
			return Errorf(Invalid, "the message types are not sorted, or one is there twice").WithHint("write each once, in the order of the alphabet")
		}
	}
	return nil
}

// messageCode accepts the codes of HL7 tables 0076 and 0003: three letters or digits.
func messageCode(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
