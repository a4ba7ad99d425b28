package gdt

import (
	"fmt"
	"strings"
)

// Charset is the character set of a record, as field 9206 names it.
type Charset int

// The character sets. The 7-bit set (1) is not offered: it has no umlauts.
const (
	// CP437 is the 8-bit set of the IBM PC, which the standard assumes where nothing is said.
	CP437 Charset = 2
	// Latin1 is ISO 8859-1.
	Latin1 Charset = 3
)

// Limits of the standard, in characters.
const (
	maxID        = 8
	minID        = 4
	maxProcedure = 6
)

// What zero Options mean.
const (
	DefaultSender    = "TOWPATH"
	DefaultProcedure = "ALLG00"
)

// Options are what a record says besides the result.
type Options struct {
	// Receiver is the GDT-ID of the practice software (field 8315): 4 to 8 of A to Z, 0 to 9 and _.
	Receiver string
	// Sender is our own (field 8316). Empty means DefaultSender.
	Sender string
	// Procedure is the kind of examination (field 8402), such as EKG01: up to 6 of A to Z and 0 to 9. Empty means DefaultProcedure.
	Procedure string
	// Charset may be zero for Latin1.
	Charset Charset
}

// Validate says what is wrong.
func (o Options) Validate() error {
	o = o.withDefaults()
	for _, x := range []struct{ what, value string }{{"receiver", o.Receiver}, {"sender", o.Sender}} {
		if len(x.value) < minID || len(x.value) > maxID || strings.Trim(x.value, capitals+"_") != "" {
			return fmt.Errorf("the GDT-ID of the %s must be %d to %d of A to Z, 0 to 9 and _", x.what, minID, maxID)
		}
	}
	if len(o.Procedure) > maxProcedure || strings.Trim(o.Procedure, capitals) != "" {
		return fmt.Errorf("the kind of examination (field 8402) must be up to %d of A to Z and 0 to 9", maxProcedure)
	}
	if o.Charset != CP437 && o.Charset != Latin1 {
		return fmt.Errorf("there is no character set %d; it must be %d (IBM code page 437) or %d (ISO 8859-1)", int(o.Charset), int(CP437), int(Latin1))
	}
	return nil
}

const capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func (o Options) withDefaults() Options {
	if o.Sender == "" {
		o.Sender = DefaultSender
	}
	if o.Procedure == "" {
		o.Procedure = DefaultProcedure
	}
	if o.Charset == 0 {
		o.Charset = Latin1
	}
	return o
}

// MaxName is the number of the last name.
const MaxName = 999

// Name returns the n-th name of a file, n from 1 to MaxName: the first four characters of receiver and sender, and the number as extension
// (the standard's scheme for several files in a row).
func (o Options) Name(n int) string {
	o = o.withDefaults()
	return fmt.Sprintf("%s%s.%03d", o.Receiver[:min(minID, len(o.Receiver))], o.Sender[:min(minID, len(o.Sender))], n)
}
