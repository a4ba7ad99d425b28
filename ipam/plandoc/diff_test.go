package plandoc_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
)

func TestDiffReadsLikeASentence(t *testing.T) {
	a, _ := readCSV(t, "site,range,comment,kind\nnord,10.1.0.0/24,old,\nsued,10.2.0.0/24,,\n,10.3.0.0/24,spare,\nx,192.168.0.0/24,,lan\n")
	b, _ := readCSV(t, "site,range,comment,kind\nx,192.168.0.0/24,,lan\ny,192.168.0.0/24,,lan\nnord,10.1.0.0/24,new,\nost,10.2.0.0/24,,\nwest,10.4.0.0/24,MRT,\n")
	want := []string{
		`~ 10.1.0.0/24 of nord: comment "old" is now "new"`,
		`~ 10.2.0.0/24 of sued: site "sued" is now "ost"`,
		`- the reserved 10.3.0.0/24, spare`,
		`+ 10.4.0.0/24 of west, MRT`,
		`+ the LAN 192.168.0.0/24 of y`,
	}
	var got []string
	for _, c := range plandoc.Diff(a, b) {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDiffIsWhatMakesBOfA applies the changes and holds that order does not matter.
func TestDiffIsWhatMakesBOfA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genDocument().Draw(t, "a"), genDocument().Draw(t, "b")
		for _, e := range a.Entries {
			if rapid.Bool().Draw(t, "keep") {
				b.Entries = append(b.Entries, e)
			}
		}
		changes := plandoc.Diff(a, b)
		got := slices.Clone(a.Entries)
		for _, c := range changes {
			if c.Before != nil {
				i := slices.IndexFunc(got, c.Before.Same)
				if i < 0 {
					t.Fatalf("%v changes what is not there", c)
				}
				got = slices.Delete(got, i, i+1)
			}
			if c.After != nil {
				got = append(got, *c.After)
			}
			if c.Before != nil && c.After != nil && c.Before.Same(*c.After) {
				t.Fatalf("%v changes nothing", c)
			}
		}
		if !slices.EqualFunc((plandoc.Document{Entries: got}).Sorted().Entries, b.Sorted().Entries, plandoc.Entry.Same) {
			t.Fatalf("%v makes %v of %v, not %v", changes, got, a, b)
		}
		if again := plandoc.Diff(b, b); len(again) != 0 {
			t.Fatalf("nothing changed, but %v", again)
		}
		slices.Reverse(a.Entries)
		slices.Reverse(b.Entries)
		other := plandoc.Diff(a, b)
		if !slices.EqualFunc(changes, other, func(x, y plandoc.Change) bool { return x.String() == y.String() }) {
			t.Fatalf("the order matters: %v, %v", changes, other)
		}
	})
}
