package plandoc

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/towpath/towpath/ipam"
)

// Kind says what a range is.
type Kind string

// The kinds of range.
const (
	// Pool is what allocations are taken from. Pools may nest.
	Pool Kind = "pool"
	// Allocation belongs to its owner alone.
	Allocation Kind = "allocation"
	// Reserved is kept from being allocated, perhaps for its owner.
	Reserved Kind = "reserved"
	// Foreign is a network of others, which no allocation may meet.
	Foreign Kind = "foreign"
	// LAN is a site's real local network. LANs of several sites may be the same.
	LAN Kind = "lan"
	// Reported is what a site's box says it is connected to. It excludes what a LAN does.
	Reported Kind = "reported"
)

// Limits of a document. What is beyond them is refused, not cut.
const (
	// MaxBytes is the largest text that is read.
	MaxBytes = 64 << 20
	// MaxEntries is the largest number of entries in one document.
	MaxEntries = 500_000
	// MaxText is the longest owner, purpose, label or note, in bytes of UTF-8.
	MaxText = 1000
	// MaxProblems is how many problems are listed before one last line says that there are more.
	MaxProblems = 10_000
)

// Document is a plan. Order carries no meaning.
type Document struct {
	Entries []Entry
}

// Entry is one range.
type Entry struct {
	Kind   Kind
	Prefix netip.Prefix
	// Owner is the name of the site, or of whatever else the range belongs to.
	Owner string
	// Purpose is set exactly for allocations, of which it is one of Overlay, Mapped, Workstation and Services, and for reported ranges, of
	// which it is ReportedLAN, ReportedWAN or ReportedContainer.
	Purpose string
	// Label is a short name, unique among the ranges that have one.
	Label string
	// Maps is set exactly for allocations of purpose Mapped: the part of the site's LAN that Prefix stands for, of the same family and
	// length.
	Maps netip.Prefix
	Note string
	// Until is when a quarantined range becomes free or one in use ends, in UTC; zero for never.
	Until time.Time
	// Line is where the entry was read, counted from 1; 0 for one that was not read. It is not part of the plan.
	Line int
}

// Pools returns the prefixes of the pools, sorted, each once.
func (d Document) Pools() []netip.Prefix {
	var pools []netip.Prefix
	for _, e := range d.Entries {
		if e.Kind == Pool {
			pools = append(pools, e.Prefix)
		}
	}
	slices.SortFunc(pools, netip.Prefix.Compare)
	return slices.Compact(pools)
}

// Sorted returns a copy in the order of Entry.Compare.
func (d Document) Sorted() Document {
	return Document{Entries: slices.SortedFunc(slices.Values(d.Entries), Entry.Compare)}
}

// Compare orders by family, address and length, pools before what is in them, then by all else but the line.
func (e Entry) Compare(o Entry) int {
	return cmp.Or(e.Prefix.Compare(o.Prefix), cmp.Compare(rank(e.Kind), rank(o.Kind)), cmp.Compare(e.Owner, o.Owner),
		cmp.Compare(e.Purpose, o.Purpose), cmp.Compare(e.Label, o.Label), e.Maps.Compare(o.Maps), cmp.Compare(e.Note, o.Note),
		e.Until.Compare(o.Until))
}

// Same reports whether two entries say the same, wherever they were read.
func (e Entry) Same(o Entry) bool { return e.Compare(o) == 0 }

// Validate refuses an entry that could not be read back from what is written of it.
func (e Entry) Validate() error {
	switch {
	case rank(e.Kind) == len(kinds()):
		return fmt.Errorf("there is no kind %q: use %s", clip(string(e.Kind)), kindList())
	case !network(e.Prefix):
		return fmt.Errorf("%w: %v is no network", ipam.ErrMalformed, e.Prefix)
	case !e.Until.IsZero() && (e.Until.UTC().Year() < 1 || e.Until.UTC().Year() > 9999):
		return fmt.Errorf("the year of the end of %v is not from 1 to 9999", e.Prefix)
	}
	for _, t := range []struct{ what, text string }{{"site", e.Owner}, {"purpose", e.Purpose}, {"label", e.Label}, {"comment", e.Note}} {
		switch {
		case len(t.text) > MaxText:
			return fmt.Errorf("the %s of %v has %d bytes, more than %d", t.what, e.Prefix, len(t.text), MaxText)
		case t.text != clean(t.text):
			return fmt.Errorf("the %s of %v is not one line of plain text without spaces around it", t.what, e.Prefix)
		}
	}
	if err := e.validatePurpose(); err != nil {
		return err
	}
	return e.validateMaps()
}

// network reports whether p is one that a plan can hold.
func network(p netip.Prefix) bool { return p.IsValid() && p == p.Masked() && !p.Addr().Is4In6() }

// String names the range as a sentence does: "10.1.2.0/24 of praxis-nord", "the pool 10.0.0.0/8".
func (e Entry) String() string {
	var s string
	switch e.Kind {
	case Pool:
		s = "the pool " + e.Prefix.String()
	case Reserved:
		s = "the reserved " + e.Prefix.String()
	case Foreign:
		s = "the foreign network " + e.Prefix.String()
	case LAN:
		s = "the LAN " + e.Prefix.String()
	case Reported:
		s = "the reported " + reportedName(e.Purpose) + " " + e.Prefix.String()
	default:
		s = e.Prefix.String()
		if e.Owner == "" && !e.Until.IsZero() {
			s = "the quarantined " + s
		}
	}
	if e.Owner != "" {
		s += " of " + e.Owner
	}
	return s
}

func kinds() []Kind { return []Kind{Pool, Allocation, Reserved, Foreign, LAN, Reported} }

// rank is the place of k among the kinds, behind all for an unknown one.
func rank(k Kind) int {
	for i, o := range kinds() {
		if k == o {
			return i
		}
	}
	return len(kinds())
}

func kindList() string {
	names := make([]string, 0, len(kinds()))
	for _, k := range kinds() {
		names = append(names, string(k))
	}
	return wordList(names)
}

// clean makes one line of a text: whatever cannot be shown becomes a space, spaces around it go.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s))
}

// clip keeps a message short.
func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
