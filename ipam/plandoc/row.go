package plandoc

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// row is one line of a document in words, of either form.
type row struct {
	line                                                   int
	site, span, kind, purpose, label, maps, comment, until string
}

// entries makes of r what it says, one entry for each prefix of its range, and adds what is wrong to p.
func (r row) entries(p *problems) []Entry {
	e := Entry{
		Owner: clean(r.site), Label: clean(r.label), Note: clean(r.comment), Line: r.line,
	}
	ok := true
	fail := func(format string, a ...any) {
		ok = false
		p.at(r.line, format, a...)
	}
	if e.Kind = parseKind(r.kind, e.Owner); rank(e.Kind) == len(kinds()) {
		fail("there is no kind %q: use %s", clip(clean(r.kind)), kindList())
	}
	e.Purpose = parsePurpose(clean(r.purpose), e.Kind, strings.TrimSpace(r.maps) != "")
	var err error
	if e.Maps, err = parseMaps(clean(r.maps)); err != nil {
		fail("%v", err)
	}
	if e.Until, err = parseTime(clean(r.until)); err != nil {
		fail("%v", err)
	}
	for _, t := range []struct{ what, text string }{{"site", e.Owner}, {"purpose", e.Purpose}, {"label", e.Label}, {"comment", e.Note}} {
		if len(t.text) > MaxText {
			fail("the %s has %d bytes, more than %d", t.what, len(t.text), MaxText)
		}
	}
	if strings.TrimSpace(r.span) == "" {
		fail("there is no range")
		return nil
	}
	prefixes, err := ParseRange(clean(r.span))
	if err != nil {
		fail("%v", err)
	}
	if !ok {
		return nil
	}
	out := make([]Entry, 0, len(prefixes))
	for _, prefix := range prefixes {
		e.Prefix = prefix
		if err := e.Validate(); err != nil {
			fail("%v", err)
			return nil
		}
		out = append(out, e)
	}
	return out
}

// parseKind reads a kind in English or German. Without one, a range belongs to the site that stands there, or else nobody may have it.
func parseKind(s, owner string) Kind {
	switch s = strings.ToLower(clean(s)); s {
	case "":
		if owner == "" {
			return Reserved
		}
		return Allocation
	case "allocated", "zuteilung", "zugeteilt", "vergeben":
		return Allocation
	case "reservation", "reserviert", "reservierung", "frei halten":
		return Reserved
	case "fremd", "fremdnetz":
		return Foreign
	case "gemeldet", "meldung":
		return Reported
	}
	return Kind(s)
}

// parseMaps reads the range that another stands for, which must be one prefix.
func parseMaps(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	prefixes, err := ParseRange(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("what it maps: %w", err)
	case len(prefixes) != 1:
		return netip.Prefix{}, fmt.Errorf("what it maps, %s, is not one prefix: give each prefix a line", clip(s))
	}
	return prefixes[0], nil
}

// parseTime reads RFC 3339, a date of ISO 8601 or a German date; a date means its beginning in UTC.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly, "2.1.2006"} {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date such as 2027-01-31 or 31.01.2027", clip(s))
}

// formatMaps writes what parseMaps reads.
func formatMaps(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// formatTime writes what parseTime reads, a date alone where it says it all.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.UTC()
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return t.Format(time.DateOnly)
	}
	return t.Format(time.RFC3339Nano)
}
