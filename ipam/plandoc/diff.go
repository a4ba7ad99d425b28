package plandoc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Change is one difference between two documents. A range that is only in the first has no After, one only in the second no Before.
type Change struct {
	Before, After *Entry
}

// String is "+ 10.1.2.0/24 of praxis-nord", "- …", or "~ 10.1.2.0/24 of praxis-nord: comment \"old\" is now \"new\"".
func (c Change) String() string {
	switch {
	case c.Before == nil && c.After == nil:
		return "= nothing"
	case c.Before == nil:
		return "+ " + describe(*c.After)
	case c.After == nil:
		return "- " + describe(*c.Before)
	}
	var parts []string
	for _, f := range []struct{ what, before, after string }{
		{"kind", string(c.Before.Kind), string(c.After.Kind)},
		{"site", c.Before.Owner, c.After.Owner},
		{"purpose", c.Before.Purpose, c.After.Purpose},
		{"label", c.Before.Label, c.After.Label},
		{"mapped LAN", formatMaps(c.Before.Maps), formatMaps(c.After.Maps)},
		{"comment", c.Before.Note, c.After.Note},
		{"end", formatTime(c.Before.Until), formatTime(c.After.Until)},
	} {
		if f.before != f.after {
			parts = append(parts, fmt.Sprintf("%s %q is now %q", f.what, f.before, f.after))
		}
	}
	return "~ " + c.Before.String() + ": " + strings.Join(parts, ", ")
}

// describe names an entry with all that it says.
func describe(e Entry) string {
	parts := []string{e.String()}
	purpose := e.Purpose
	if e.Kind != Allocation || purpose == Overlay || purpose == Mapped {
		purpose = "" // the rest says it, or it is what is expected
	}
	for _, f := range []struct{ what, text string }{
		{"for ", purpose}, {"maps ", formatMaps(e.Maps)}, {"label ", e.Label}, {"", e.Note}, {"until ", formatTime(e.Until)},
	} {
		if f.text != "" {
			parts = append(parts, f.what+f.text)
		}
	}
	return strings.Join(parts, ", ")
}

// Diff says how to make b of a, by address. Ranges of one prefix are the same range changed if they agree in kind and owner, else in
// kind, else in owner; lines do not count. The order of entries never matters.
func Diff(a, b Document) []Change {
	before, after := a.Sorted().Entries, b.Sorted().Entries
	var out []Change
	for len(before) > 0 || len(after) > 0 {
		p := first(before, after)
		var olds, news []Entry
		olds, before = cut(before, p)
		news, after = cut(after, p)
		out = append(out, changes(olds, news)...)
	}
	return out
}

// first returns an entry of the lowest prefix; one of the two is not empty.
func first(a, b []Entry) Entry {
	if len(a) == 0 || len(b) > 0 && b[0].Prefix.Compare(a[0].Prefix) < 0 {
		return b[0]
	}
	return a[0]
}

// cut splits off the entries of the prefix of e, which come first if there are any.
func cut(entries []Entry, e Entry) (of, rest []Entry) {
	n := 0
	for n < len(entries) && entries[n].Prefix == e.Prefix {
		n++
	}
	return entries[:n], entries[n:]
}

// changes pairs the entries of one prefix. Both are sorted.
func changes(olds, news []Entry) []Change {
	if len(olds) == 1 && len(news) == 1 && olds[0].Same(news[0]) {
		return nil
	}
	var out []Change
	for i, key := range []func(Entry) string{
		func(e Entry) string {
			return fmt.Sprintf("%q", []string{string(e.Kind), e.Owner, e.Purpose, e.Label, formatMaps(e.Maps), e.Note, formatTime(e.Until)})
		},
		func(e Entry) string { return fmt.Sprintf("%q", []string{string(e.Kind), e.Owner}) },
		func(e Entry) string { return string(e.Kind) },
		func(e Entry) string { return e.Owner },
	} {
		waiting := map[string][]int{}
		for n, e := range news {
			waiting[key(e)] = append(waiting[key(e)], n)
		}
		paired := make([]bool, len(news))
		olds = slices.DeleteFunc(slices.Clone(olds), func(old Entry) bool {
			k := key(old)
			if len(waiting[k]) == 0 {
				return false
			}
			n := waiting[k][0]
			waiting[k], paired[n] = waiting[k][1:], true
			if i > 0 {
				out = append(out, Change{Before: &old, After: new(news[n])})
			}
			return true
		})
		var rest []Entry
		for n, e := range news {
			if !paired[n] {
				rest = append(rest, e)
			}
		}
		news = rest
	}
	for _, e := range olds {
		out = append(out, Change{Before: &e})
	}
	for _, e := range news {
		out = append(out, Change{After: &e})
	}
	slices.SortStableFunc(out, func(a, b Change) int { return a.shown().Compare(b.shown()) })
	return out
}

// shown is the entry that a change is listed by.
func (c Change) shown() Entry { return *cmp.Or(c.Before, c.After) }
