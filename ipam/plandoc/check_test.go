package plandoc_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
)

func TestCheckSaysWhatAndWhere(t *testing.T) {
	doc, problems := readCSV(t, strings.Join([]string{
		"site,range,comment,kind",
		",10.0.0.0/8,,pool",
		"praxis-sued,10.1.2.128/25,,",
		"praxis-nord,10.1.2.0/24,,",
		"praxis-nord,10.1.2.0/24,again,",
		"praxis-ost,10.7.0.0/24,,",
		",10.7.0.0/16,the hospital,foreign",
		"praxis-west,192.168.0.0/24,,",
		"praxis-west,10.9.9.0/24,,lan",
		",10.200.0.0/16,,pool",
		",10.200.0.0/16,,pool",
		"praxis-weit,10.200.0.0/15,,",
		",10.30.0.0/24,,allocation",
		"a,192.168.178.0/24,,lan",
		"b,192.168.178.0/24,,lan",
		",172.16.0.0/12,,lan",
	}, "\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	existing := plandoc.Document{Entries: []plandoc.Entry{
		entry(plandoc.Allocation, "10.1.2.192/26", "alt", "", 0),
		entry(plandoc.Allocation, "10.7.0.0/24", "praxis-ost", "as it is", 0),
	}}
	want := []string{
		"line 3: 10.1.2.128/25 of praxis-sued overlaps 10.1.2.192/26 of alt in the plan",
		"line 4: 10.1.2.0/24 of praxis-nord overlaps 10.1.2.192/26 of alt in the plan",
		"line 4: 10.1.2.0/24 of praxis-nord overlaps 10.1.2.128/25 of praxis-sued in line 3",
		"line 5: 10.1.2.0/24 of praxis-nord is there twice, first in line 4",
		"line 7: the foreign network 10.7.0.0/16 overlaps 10.7.0.0/24 of praxis-ost in line 6",
		"line 8: 192.168.0.0/24 of praxis-west lies in no pool",
		"line 9: the LAN 10.9.9.0/24 of praxis-west overlaps the pool 10.0.0.0/8 in line 2",
		"line 11: the pool 10.200.0.0/16 is there twice, first in line 10",
		"line 12: 10.200.0.0/15 of praxis-weit overlaps the pool 10.200.0.0/16 in line 10",
		"line 13: 10.30.0.0/24 is allocated to nobody: name the site, or call it reserved",
		"line 16: the LAN 172.16.0.0/12 belongs to no site: name it, or call it foreign",
	}
	if got := words(plandoc.Check(doc, existing)); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one := plandoc.Document{Entries: []plandoc.Entry{entry(plandoc.Allocation, "10.1.2.0/24", "nord", "", 1)}}
	if got := words(plandoc.Check(one, plandoc.Document{})); !slices.Equal(got, []string{"there is no pool, so none of the 1 allocations lies in one"}) {
		t.Errorf("without a pool: %q", got)
	}
}

// naive finds the pairs of conflicts and the homeless by comparing everything with everything.
func naive(doc, existing plandoc.Document) []string {
	same := func(a, b plandoc.Entry) bool {
		return a.Kind == b.Kind && a.Prefix == b.Prefix && a.Owner == b.Owner && (a.Kind != plandoc.Reported || a.Purpose == b.Purpose)
	}
	var uniq, old []plandoc.Entry
	var out []string
	for _, e := range doc.Entries {
		if i := slices.IndexFunc(uniq, func(o plandoc.Entry) bool { return same(e, o) }); i >= 0 && e.Kind == plandoc.Foreign {
			continue
		} else if i >= 0 {
			out = append(out, fmt.Sprintf("line %d: %v is there twice, first in line %d", e.Line, e, uniq[i].Line))
			continue
		}
		uniq = append(uniq, e)
	}
	for _, e := range uniq {
		for range wrongFields(e) {
			out = append(out, fmt.Sprintf("line %d: fields", e.Line))
		}
	}
	out = append(out, naiveLabels(doc, existing, same)...)
	for _, e := range existing.Entries {
		if !slices.ContainsFunc(uniq, func(o plandoc.Entry) bool { return same(e, o) }) && !slices.ContainsFunc(old, func(o plandoc.Entry) bool { return e == o }) {
			old = append(old, e)
		}
	}
	clash := func(a, b plandoc.Entry) bool {
		if !a.Prefix.Overlaps(b.Prefix) {
			return false
		}
		pair := [2]plandoc.Kind{a.Kind, b.Kind}
		switch pair {
		case [2]plandoc.Kind{plandoc.Pool, plandoc.Pool}:
			return a.Prefix == b.Prefix
		case [2]plandoc.Kind{plandoc.Pool, plandoc.Allocation}:
			return b.Prefix.Bits() < a.Prefix.Bits()
		case [2]plandoc.Kind{plandoc.Allocation, plandoc.Pool}:
			return a.Prefix.Bits() < b.Prefix.Bits()
		}
		excl := func(a, b plandoc.Kind) bool {
			switch a {
			case plandoc.Pool:
				return b == plandoc.LAN || b == plandoc.Reported
			case plandoc.Allocation:
				return b != plandoc.Pool
			case plandoc.Reserved:
				return b == plandoc.Reserved
			default:
				return false
			}
		}
		return excl(a.Kind, b.Kind) || excl(b.Kind, a.Kind)
	}
	pool := false
	for _, e := range append(slices.Clone(uniq), existing.Entries...) {
		pool = pool || e.Kind == plandoc.Pool
	}
	homeless := 0
	for i, a := range uniq {
		for _, b := range uniq[:i] {
			if clash(a, b) {
				out = append(out, fmt.Sprintf("line %d: %v overlaps %v in line %d", a.Line, a, b, b.Line))
			}
		}
		for _, b := range old {
			if clash(a, b) {
				out = append(out, fmt.Sprintf("line %d: %v overlaps %v in the plan", a.Line, a, b))
			}
		}
		if a.Kind == plandoc.Allocation && !slices.ContainsFunc(append(slices.Clone(uniq), existing.Entries...), func(o plandoc.Entry) bool {
			return o.Kind == plandoc.Pool && o.Prefix.Bits() <= a.Prefix.Bits() && o.Prefix.Overlaps(a.Prefix)
		}) {
			homeless++
			if pool {
				out = append(out, fmt.Sprintf("line %d: %v lies in no pool", a.Line, a))
			}
		}
	}
	if homeless > 0 && !pool {
		out = append(out, fmt.Sprintf("there is no pool, so none of the %d allocations lies in one", homeless))
	}
	slices.Sort(out)
	return out
}

// wrongFields counts the fields of e that its kind cannot have or lacks.
func wrongFields(e plandoc.Entry) int {
	owner, end, label := e.Owner != "", !e.Until.IsZero(), e.Label != ""
	n := 0
	for _, wrong := range []bool{
		e.Kind == plandoc.Allocation && !owner && !end,
		e.Kind == plandoc.Reserved && owner && end,
		(e.Kind == plandoc.LAN || e.Kind == plandoc.Reported) && !owner,
		(e.Kind == plandoc.Pool || e.Kind == plandoc.Foreign) && owner,
		e.Kind != plandoc.Allocation && e.Kind != plandoc.Reserved && end,
		(e.Kind == plandoc.Foreign || e.Kind == plandoc.LAN || e.Kind == plandoc.Reported) && label,
	} {
		if wrong {
			n++
		}
	}
	return n
}

func naiveLabels(doc, existing plandoc.Document, same func(a, b plandoc.Entry) bool) []string {
	var out []string
	for i, e := range doc.Entries {
		if e.Label == "" {
			continue
		}
		for _, o := range existing.Entries {
			if o.Label == e.Label && !same(o, e) {
				out = append(out, fmt.Sprintf("line %d: %v has the label %q, which is that of %v in the plan", e.Line, e, e.Label, o))
			}
		}
		first := slices.IndexFunc(doc.Entries, func(o plandoc.Entry) bool { return o.Label == e.Label })
		if o := doc.Entries[first]; first < i && !same(o, e) {
			out = append(out, fmt.Sprintf("line %d: %v has the label %q, which is that of %v in line %d", e.Line, e, e.Label, o, o.Line))
		}
	}
	return out
}

func TestCheckFindsWhatComparingAllPairsFinds(t *testing.T) {
	gen := func(t *rapid.T, label string, lines bool) plandoc.Document {
		var d plandoc.Document
		for i := range rapid.IntRange(0, 12).Draw(t, label) {
			e := plandoc.Entry{
				Kind: drawKind(t), Prefix: drawPrefix(t), Owner: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner"),
				Label: rapid.SampledFrom([]string{"", "", "", "x", "y"}).Draw(t, "label"),
			}
			if rapid.IntRange(0, 4).Draw(t, "ends") == 0 {
				e.Until = time.Unix(1<<31, 0)
			}
			drawPurpose(t, &e)
			if lines {
				e.Line = i + 1
			}
			d.Entries = append(d.Entries, e)
		}
		return d
	}
	rapid.Check(t, func(t *rapid.T) {
		doc, existing := gen(t, "doc", true), gen(t, "existing", false)
		// A plan has each label once, and each entry: also of those that lose their label here.
		seen := map[string]bool{}
		for i, e := range existing.Entries {
			if seen[e.Label] {
				existing.Entries[i].Label = ""
			}
			seen[e.Label] = true
		}
		slices.SortFunc(existing.Entries, plandoc.Entry.Compare)
		existing.Entries = slices.CompactFunc(existing.Entries, plandoc.Entry.Same)
		var got []string
		for _, p := range plandoc.Check(doc, existing) {
			s := p.String()
			for _, words := range []string{"allocated to nobody", "belongs to no site", "cannot belong", "cannot end", "cannot have the label"} {
				if strings.Contains(s, words) {
					s = fmt.Sprintf("line %d: fields", p.Line)
				}
			}
			got = append(got, s)
		}
		slices.Sort(got)
		if want := naive(doc, existing); !slices.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestCheckStopsAtTheLimit(t *testing.T) {
	var d plandoc.Document
	for i := range 2000 {
		d.Entries = append(d.Entries, entry(plandoc.Allocation, "10.0.0.0/8", fmt.Sprint("site-", i), "", i+1))
	}
	got := plandoc.Check(d, plandoc.Document{})
	if len(got) != plandoc.MaxProblems+1 || !strings.Contains(got[len(got)-1].Text, "more than 10000 problems") {
		t.Errorf("%d problems, the last is %v", len(got), got[len(got)-1])
	}
}

// sheet is a spreadsheet of n sites, each /24, of which 50 meet the one before.
func sheet(n int) string {
	var b strings.Builder
	b.WriteString("Praxis;Netz;Bemerkung;Art\n;10.0.0.0/8;;pool\n")
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 250), byte(i % 250), 0}), 24)
		fmt.Fprintf(&b, "praxis-%d;%v;Straße %d;\n", i, p, i)
		if i%(n/50) == 0 {
			fmt.Fprintf(&b, "doppelt-%d;%v.128/25;;\n", i, strings.TrimSuffix(p.String(), ".0/24"))
		}
	}
	return b.String()
}

func BenchmarkImport10000Lines50Conflicts(b *testing.B) {
	text := sheet(10_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		d, problems, err := plandoc.ReadCSV(strings.NewReader(text))
		if err != nil || len(problems) > 0 {
			b.Fatal(problems, err)
		}
		if got := plandoc.Check(d, plandoc.Document{}); len(got) != 50 {
			b.Fatalf("%d conflicts", len(got))
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1000, 10_000, 60_000} {
		d, _, err := plandoc.ReadCSV(strings.NewReader(sheet(n)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if got := plandoc.Check(d, d); len(got) != 50 {
					b.Fatalf("%d conflicts", len(got))
				}
			}
		})
	}
}
