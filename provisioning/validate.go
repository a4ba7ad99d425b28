package provisioning

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of texts, in bytes unless said otherwise.
const (
	maxName     = 63 // a DNS label, RFC 1035 §2.3.4
	maxTitle    = 200
	maxAETitle  = 16  // PS3.5 §6.2, VR AE
	maxReceiver = 227 // the longest HD, HL7 v2.5 §2.A.33
)

// reservedName is what owns the hub's own allocation, see Range.
const reservedName = "hub"

// Validate checks everything about s that needs no other noun. The error is an *Error with code Invalid.
func (s Site) Validate() error {
	return first(
		s.ID.Validate(),
		CheckName("site", s.Name),
		checkChoice("kind of site", s.Kind, wire.Clinic, wire.Center),
		checkTitle(s.Title),
		s.checkEndpoint(),
		CheckLANTLS(s.LANTLS),
		CheckSpoolKey(s.SpoolKey),
	)
}

func (s Site) checkEndpoint() error {
	if s.Endpoint == "" {
		return nil
	}
	return CheckEndpoint(s.Endpoint)
}

// Validate checks everything about s that needs no other noun. The error is an *Error with code Invalid.
func (s Service) Validate() error {
	return first(
		s.ID.Validate(),
		s.Site.Validate(),
		CheckName("service", s.Name),
		checkChoice("protocol", s.Protocol, wire.DICOM, wire.HL7),
		checkChoice("mode", s.Mode, wire.Queued, wire.PassThrough),
		s.checkAddressee(),
		s.checkHL7(),
		s.checkDICOM(),
		s.checkQueue(),
		s.checkTarget(),
		checkPort("port on the overlay", s.Port),
	)
}

// checkAddressee checks what tells several Services behind one port apart.
func (s Service) checkAddressee() error {
	switch s.Protocol {
	case wire.HL7:
		if s.AETitle != "" {
			return Errorf(Invalid, "an HL7 service has no AE title").WithHint("leave the AE title out, or choose the protocol %q", wire.DICOM)
		}
		if s.Receiver == "" {
			return nil
		}
		return CheckReceiver(s.Receiver)
	default:
		if s.Receiver != "" {
			return Errorf(Invalid, "a DICOM service has no HL7 receiver").WithHint("leave the receiver out, or choose the protocol %q", wire.HL7)
		}
		return CheckAETitle(s.AETitle)
	}
}

// Validate checks everything about g that needs no other noun. The error is an *Error with code Invalid.
func (g Grant) Validate() error {
	return first(g.Service.Validate(), g.Site.Validate(), checkPort("port on the LAN", g.LANPort))
}

// CheckName refuses what is not a slug: 1 to 63 of a to z, 0 to 9 and single hyphens inside. The noun ("site", "service") is for the
// message. The word "hub" is taken.
func CheckName(noun, name string) error {
	hint := "use lower-case letters, digits and single hyphens between them, such as \"praxis-nord-2\""
	if s := Slug(name); s != "" && s != reservedName {
		hint += ", here perhaps \"" + s + "\""
	}
	switch {
	case name == "":
		return Errorf(Invalid, "the %s has no name", noun).WithHint("%s", hint)
	case len(name) > maxName:
		return Errorf(Invalid, "the name of the %s has %d characters, more than %d", noun, len(name), maxName).
			WithHint("choose a shorter one; the title has room for the whole name")
	case name == reservedName:
		return Errorf(Invalid, "the name %q is the coordinator's own", name).WithHint("choose another")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name != Slug(name):
		return Errorf(Invalid, "the name %q of the %s is not one that can be typed everywhere", name, noun).WithHint("%s", hint)
	}
	return nil
}

// Slug makes the nearest name of any text, "" if nothing is left.
func Slug(s string) string {
	s = s[:min(len(s), 4*maxName)]
	spelled := strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "å", "a", "é", "e", "è", "e", "ø", "o", "æ", "ae").
		Replace(strings.ToLower(s))
	parts := strings.FieldsFunc(spelled, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	out := strings.Join(parts, "-")
	return strings.TrimRight(out[:min(len(out), maxName)], "-")
}

func checkTitle(s string) error {
	switch {
	case len(s) > maxTitle:
		return Errorf(Invalid, "the title has %d bytes, more than %d", len(s), maxTitle).WithHint("shorten it")
	case !printable(s):
		return Errorf(Invalid, "the title holds characters that cannot be shown").WithHint("write it in one line of plain text (UTF-8)")
	}
	return nil
}

// CheckAETitle refuses what is not an application entity title: 1 to 16 characters of the default repertoire without backslash and
// control characters (PS3.5 §6.2, VR AE). Spaces at the ends do not count there and are refused, so that equal titles are equal strings.
func CheckAETitle(s string) error {
	bad := strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '\\' })
	switch {
	case strings.Trim(s, " ") == "":
		return Errorf(Invalid, "the AE title is empty").WithHint("enter the title that is configured in the PACS or modality, such as \"PACS_MAIN\"")
	case bad >= 0:
		r, _ := utf8.DecodeRuneInString(s[bad:])
		return Errorf(Invalid, "the AE title %q holds %q, which DICOM does not allow", s, r).
			WithHint("use letters without accents, digits, spaces and punctuation other than the backslash (PS3.5 §6.2)")
	case len(s) > maxAETitle:
		return Errorf(Invalid, "the AE title %q has %d characters, DICOM allows %d", s, len(s), maxAETitle).
			WithHint("shorten it, here and in the application itself (PS3.5 §6.2)")
	case s != strings.Trim(s, " "):
		return Errorf(Invalid, "the AE title %q begins or ends with a space", s).WithHint("leave it out: spaces at the ends do not count")
	}
	return nil
}

// CheckReceiver refuses what is neither a receiving application (MSH-5) nor one with its facility, "APP^FAC" (MSH-5 and MSH-6).
func CheckReceiver(s string) error {
	app, facility, both := strings.Cut(s, "^")
	const hint = "write the receiving application (MSH-5), such as \"HIS\", or application and facility (MSH-6), such as \"HIS^WARD\""
	switch {
	case app == "" || both && facility == "":
		return Errorf(Invalid, "the HL7 receiver %q lacks the application or the facility", s).WithHint(hint)
	case len(s) > maxReceiver:
		return Errorf(Invalid, "the HL7 receiver has %d bytes, more than %d", len(s), maxReceiver).WithHint(hint)
	case strings.ContainsAny(app+facility, "^|~\\&") || !printable(s):
		return Errorf(Invalid, "the HL7 receiver %q holds a separator or a character that cannot be shown", s).WithHint(hint)
	case app != strings.TrimSpace(app) || facility != strings.TrimSpace(facility):
		return Errorf(Invalid, "a part of the HL7 receiver %q begins or ends with a space", s).WithHint("leave it out")
	}
	return nil
}

func checkPort(what string, p uint16) error {
	if p == 0 {
		return Errorf(Invalid, "the %s is missing", what).WithHint("choose one from 1 to 65535, such as 11112 for DICOM or 2575 for HL7")
	}
	return nil
}

func checkChoice[T ~string](what string, got T, choices ...T) error {
	var list []string
	for _, c := range choices {
		if got == c {
			return nil
		}
		list = append(list, `"`+string(c)+`"`)
	}
	return Errorf(Invalid, "there is no %s %q", what, got).WithHint("choose %s", strings.Join(list, " or "))
}

// printable reports whether s is one line of text that shows as written.
func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
