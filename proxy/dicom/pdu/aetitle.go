package pdu

import (
	"fmt"
	"strings"
)

// aeTitleSize is the size of an AE title on the wire, padded with spaces (PS3.8 table 9-11).
const aeTitleSize = 16

// CheckAETitle returns why s cannot be an AE title, or nil: 1 to 16 characters of ASCII without control characters and backslash,
// and not only spaces (PS3.5 §6.2, value representation AE).
func CheckAETitle(s string) error {
	switch {
	case strings.Trim(s, " ") == "":
		return fmt.Errorf("an AE title must not be empty")
	case len(s) > aeTitleSize:
		return fmt.Errorf("AE title %q has %d characters and may have 16", s, len(s))
	case s != strings.Trim(s, " "):
		return fmt.Errorf("AE title %q starts or ends with a blank, which does not count; remove it", s)
	}
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '\\' {
			return fmt.Errorf("AE title %q has a character that is not allowed", s)
		}
	}
	return nil
}

// decodeAETitle strips leading and trailing spaces, which PS3.8 table 9-11 calls non-significant, and the NULs that some devices
// pad with instead.
func decodeAETitle(b []byte) string { return strings.Trim(string(b), " \x00") }

// aeTitle appends s padded to 16 bytes.
func (e *encoder) aeTitle(s string) {
	if len(s) > aeTitleSize {
		e.fail("AE title %q has %d characters and may have 16", s, len(s))
		return
	}
	e.b = append(e.b, s...)
	for range aeTitleSize - len(s) {
		e.b = append(e.b, ' ')
	}
}
