package ui_test

import (
	"bytes"
	"testing"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

func TestBarIsEmptyOnlyForNothingAndFullOnlyForAll(t *testing.T) {
	for _, c := range []struct {
		fraction       float64
		unicode, ascii string
	}{
		{0, "░░░░░░░░░░", ".........."},
		{0.0001, "▒░░░░░░░░░", "+........."},
		{0.5, "█████░░░░░", "#####....."},
		{0.55, "█████▒░░░░", "#####+...."},
		{0.9999, "█████████▒", "#########+"},
		{1, "██████████", "##########"},
		{1.5, "██████████", "##########"},
		{-1, "░░░░░░░░░░", ".........."},
	} {
		if got := ui.NewGlyphs(false).Bar(c.fraction, 10); got != c.unicode {
			t.Errorf("%v: %q, want %q", c.fraction, got, c.unicode)
		}
		if got := ui.NewGlyphs(true).Bar(c.fraction, 10); got != c.ascii {
			t.Errorf("%v: %q, want %q", c.fraction, got, c.ascii)
		}
	}
}

func TestStripHasACellForEachPart(t *testing.T) {
	parts := []float64{0, 0.0001, 0.2, 0.5, 0.9, 0.9999, 1, 2, -1}
	if got, want := ui.NewGlyphs(false).Strip(parts), "·▁▂▄▇▇██·"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := ui.NewGlyphs(true).Strip(parts), ".--=++##."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTree(t *testing.T) {
	roots := []ui.Branch{
		{Cells: []string{"10.0.0.0/8", "2 %"}, Sub: []ui.Branch{
			{Cells: []string{"north"}, Sub: []ui.Branch{{Cells: []string{"overlay", "10.1.0.0/28"}}, {Cells: []string{"mapped", "10.2.0.0/24"}}}},
			{Cells: []string{"south", "10.3.0.0/28", ""}},
		}},
		{Cells: []string{"fd00::/48"}},
	}
	for ascii, want := range map[bool]string{
		false: "10.0.0.0/8     2 %\n├─ north\n│  ├─ overlay  10.1.0.0/28\n│  └─ mapped   10.2.0.0/24\n└─ south       10.3.0.0/28\nfd00::/48\n",
		true:  "10.0.0.0/8     2 %\n|- north\n|  |- overlay  10.1.0.0/28\n|  `- mapped   10.2.0.0/24\n`- south       10.3.0.0/28\nfd00::/48\n",
	} {
		var b bytes.Buffer
		if err := ui.NewGlyphs(ascii).Tree(&b, roots); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("ascii %v:\n%s\nwant:\n%s", ascii, b.String(), want)
		}
	}
}

func TestPercentAndCount(t *testing.T) {
	for f, want := range map[float64]string{0: "0.0 %", 0.0005: "< 0.1 %", 0.001: "0.1 %", 0.5: "50.0 %", 0.9995: "> 99.9 %", 1: "100.0 %"} {
		if got := ui.Percent(f); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 ranges", 1: "1 range", 2: "2 ranges"} {
		if got := ui.Count(n, "range"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
