package ipam

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"
)

// mustPlan makes a plan of pools in which the other prefixes are taken.
func mustPlan(t *testing.T, pools []string, taken ...string) *Plan {
	t.Helper()
	p := NewPlan()
	for _, q := range pools {
		if err := p.AddPool(pfx(q)); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range taken {
		if err := p.Take(pfx(q)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// errorKind names an error of a Plan for tables.
func errorKind(err error) string {
	overlap, isOverlap := errors.AsType[*OverlapError](err)
	full, isFull := errors.AsType[*FullError](err)
	missing, isMissing := errors.AsType[*NotTakenError](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrMalformed):
		return "malformed"
	case isOverlap:
		return "overlaps " + overlap.With.String()
	case isFull:
		return "full, left " + full.Largest.String() + " of " + full.Pool.String()
	case isMissing:
		return missing.Prefix.String() + " not taken"
	}
	return err.Error()
}

func TestPlanPoolsNest(t *testing.T) {
	p := mustPlan(t, []string{"10.64.0.0/12", "10.64.0.0/10", "fd00:1::/48", "10.200.0.0/16", "10.70.0.0/16"})
	want := []PoolNode{
		{Prefix: pfx("10.64.0.0/10")},
		{Prefix: pfx("10.64.0.0/12"), Parent: pfx("10.64.0.0/10"), Depth: 1},
		{Prefix: pfx("10.70.0.0/16"), Parent: pfx("10.64.0.0/12"), Depth: 2},
		{Prefix: pfx("10.200.0.0/16")},
		{Prefix: pfx("fd00:1::/48")},
	}
	if got := slices.Collect(p.Pools()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for q, want := range map[string]string{
		"10.70.1.0/24": "10.70.0.0/16", "10.64.0.0/12": "10.64.0.0/12", "10.64.0.0/11": "10.64.0.0/10", "10.127.0.1/32": "10.64.0.0/10",
		"10.0.0.0/8": "invalid Prefix", "11.0.0.0/8": "invalid Prefix", "fd00:1:0:1::/64": "fd00:1::/48",
	} {
		if got, ok := p.PoolOf(pfx(q)); got.String() != want || ok != got.IsValid() {
			t.Errorf("PoolOf(%s) = %v, %v, want %s", q, got, ok, want)
		}
	}
	if got, err := p.Find(16, pfx("10.64.0.0/12")); err != nil || got != pfx("10.71.0.0/16") {
		t.Errorf("beside the narrower pool: %v, %v", got, err)
	}
	for _, q := range []string{"10.64.0.0/12", "10.64.0.0/10"} {
		if got := errorKind(p.AddPool(pfx(q))); got != "overlaps "+q {
			t.Errorf("twice: %s", got)
		}
	}
	for q, want := range map[string]string{"10.64.0.0/12": "", "10.65.0.0/16": "10.65.0.0/16 not taken"} {
		if got := errorKind(p.RemovePool(pfx(q))); got != want {
			t.Errorf("RemovePool(%s): %q, want %q", q, got, want)
		}
	}
	if _, ok := p.Space(pfx("10.64.0.0/12")); ok {
		t.Error("the removed pool is still there")
	}
	if got, err := p.Find(12, pfx("10.64.0.0/10")); err != nil || got != pfx("10.80.0.0/12") {
		t.Errorf("where only the inner of two removed pools is left: %v, %v", got, err)
	}
	for _, q := range []netip.Prefix{{}, pfx("0.0.0.0/0"), netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 24)} {
		if err := p.AddPool(q); !errors.Is(err, ErrMalformed) {
			t.Errorf("AddPool(%v) = %v", q, err)
		}
	}
}

func TestPlanTakesInEveryPool(t *testing.T) {
	p := mustPlan(t, []string{"10.64.0.0/10", "10.70.0.0/16"}, "10.70.0.0/17", "10.0.0.0/9", "0.0.0.0/0", "::/0", "192.168.0.0/16")
	for _, q := range []string{"0.0.0.0/0", "10.0.0.0/9"} {
		if _, err := p.Find(32, pfx("10.70.0.0/16"), pfx("10.64.0.0/10")); errorKind(err) != "full, left invalid Prefix of 10.70.0.0/16" {
			t.Errorf("got %v", err)
		}
		if err := p.Release(pfx(q)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := p.Find(17, pfx("10.70.0.0/16")); err != nil || got != pfx("10.70.128.0/17") {
		t.Errorf("got %v, %v", got, err)
	}
	if err := p.AddPool(pfx("192.168.0.0/15")); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Find(16, pfx("192.168.0.0/15")); err != nil || got != pfx("192.169.0.0/16") {
		t.Errorf("what was taken before there was a pool is free: %v, %v", got, err)
	}
	for i, want := range []string{"", "192.168.0.0/16 not taken"} {
		if got := errorKind(p.Release(pfx("192.168.0.0/16"))); got != want {
			t.Errorf("release %d: %q, want %q", i, got, want)
		}
	}
	if err := p.Take(netip.Prefix{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
	if err := p.Release(netip.Prefix{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestPlanFind(t *testing.T) {
	p := mustPlan(t, []string{"10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/24", "fd00:1::/48"}, "10.0.0.0/24", "10.1.0.0/25", "10.1.0.128/26", "10.2.0.64/26")
	for _, tt := range []struct {
		bits      int
		in        []string
		want, err string
	}{
		{26, []string{"10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/24"}, "10.1.0.192/26", ""},
		{26, []string{"10.2.0.0/24", "10.1.0.0/24"}, "10.2.0.0/26", ""},
		{24, []string{"10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/24"}, "", "full, left 10.2.0.128/25 of 10.2.0.0/24"},
		{24, []string{"10.0.0.0/24"}, "", "full, left invalid Prefix of 10.0.0.0/24"},
		{64, []string{"10.2.0.0/24", "fd00:1::/48"}, "fd00:1::/64", ""},
		{25, []string{"fd00:1::/48", "10.2.0.0/24"}, "10.2.0.128/25", ""},
		{8, []string{"10.2.0.0/24", "fd00:1::/48"}, "", "malformed"},
		{26, nil, "", "malformed"},
		{26, []string{"10.2.0.0/24", "10.9.0.0/24"}, "", "malformed"},
	} {
		got, err := p.Find(tt.bits, prefixes(tt.in...)...)
		if errorKind(err) != tt.err || err == nil && got != pfx(tt.want) {
			t.Errorf("Find(%d, %v) = %v, %v, want %s%s", tt.bits, tt.in, got, err, tt.want, tt.err)
		}
	}
}

func TestPlanFindBeside(t *testing.T) {
	p := mustPlan(t, []string{"10.64.0.0/16", "10.64.128.0/20", "10.64.130.0/24"},
		"10.64.0.0/24", "10.64.1.0/24", "10.64.4.0/24", "10.64.16.0/24", "10.64.17.0/25", "10.64.20.0/24", "10.64.130.0/24")
	for _, tt := range []struct {
		q, want, err string
		bits         int
	}{
		{q: "10.64.4.0/24", bits: 24, want: "10.64.5.0/24"},
		{q: "10.64.4.0/24", bits: 26, want: "10.64.5.0/26"},
		{q: "10.64.0.0/24", bits: 24, want: "10.64.2.0/24"},   // its sibling is taken, that of its /23 is free
		{q: "10.64.4.0/24", bits: 23, want: "10.64.6.0/23"},   // the sibling that is as large as asked for
		{q: "10.64.16.0/24", bits: 25, want: "10.64.18.0/25"}, // half of its sibling is taken
		{q: "10.64.130.0/24", bits: 24, err: "full, left invalid Prefix of 10.64.130.0/24"},
		{q: "10.64.0.0/24", bits: 17, err: "full, left 10.64.64.0/18 of 10.64.0.0/16"},
		{q: "10.65.0.0/24", bits: 24, err: "malformed"},
		{q: "10.64.0.0/24", bits: 33, err: "malformed"},
		{q: "10.64.0.0/24", bits: 15, err: "malformed"},
	} {
		got, err := p.FindBeside(pfx(tt.q), tt.bits)
		if errorKind(err) != tt.err || err == nil && got != pfx(tt.want) {
			t.Errorf("FindBeside(%s, %d) = %v, %v, want %s%s", tt.q, tt.bits, got, err, tt.want, tt.err)
		}
	}
}

func TestPlanGrow(t *testing.T) {
	p := mustPlan(t, []string{"10.64.0.0/16", "10.64.32.0/20", "10.64.64.0/24"},
		"10.64.0.0/24", "10.64.1.0/24", "10.64.2.0/23", "10.64.8.0/24", "10.64.8.0/24", "10.64.24.0/24", "10.64.40.0/24", "10.64.64.0/24", "10.64.72.0/24", "10.64.64.0/18")
	for _, tt := range []struct {
		q, want, err string
		bits         int
		own          []string
	}{
		{q: "10.64.24.0/24", bits: 21, want: "10.64.24.0/21"},
		{q: "10.64.24.0/24", bits: 24, want: "10.64.24.0/24"},
		{q: "10.64.24.0/24", bits: 21, own: []string{"10.64.24.0/24", "10.64.0.0/24"}, want: "10.64.24.0/21"},
		{q: "10.64.0.0/24", bits: 22, own: []string{"10.64.1.0/24", "10.64.2.0/23"}, want: "10.64.0.0/22"},
		{q: "10.64.0.0/24", bits: 22, own: []string{"10.64.1.0/24"}, err: "overlaps 10.64.2.0/23"},
		{q: "10.64.0.0/24", bits: 22, own: []string{"10.64.5.0/24"}, err: "10.64.5.0/24 not taken"},
		{q: "10.64.5.0/24", bits: 22, err: "10.64.5.0/24 not taken"},
		{q: "10.64.8.0/24", bits: 23, own: []string{"10.64.8.0/24"}, err: "overlaps 10.64.8.0/24"},
		{q: "10.64.8.0/24", bits: 23, err: "overlaps 10.64.8.0/24"},   // taken by somebody else, too
		{q: "10.64.24.0/24", bits: 18, err: "overlaps 10.64.32.0/20"}, // a narrower pool
		{q: "10.64.72.0/24", bits: 23, err: "overlaps 10.64.64.0/18"}, // within what is taken
		{q: "10.64.72.0/24", bits: 23, own: []string{"10.64.64.0/18"}, want: "10.64.72.0/23"},
		{q: "10.64.40.0/24", bits: 20, want: "10.64.32.0/20"}, // all of its own pool
		{q: "10.64.40.0/24", bits: 19, err: "malformed"},      // out of its own pool
		{q: "10.64.64.0/24", bits: 23, err: "malformed"},      // it is its own pool
		{q: "10.64.24.0/24", bits: 25, err: "malformed"},
		{q: "10.65.0.0/24", bits: 23, err: "malformed"},
	} {
		got, err := p.Grow(pfx(tt.q), tt.bits, prefixes(tt.own...)...)
		if errorKind(err) != tt.err || err == nil && got != pfx(tt.want) {
			t.Errorf("Grow(%s, %d, %v) = %v, %v, want %s%s", tt.q, tt.bits, tt.own, got, err, tt.want, tt.err)
		}
	}
	if _, err := p.Grow(pfx("10.64.24.0/24"), 23, netip.Prefix{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestStripAndFits(t *testing.T) {
	s := mustSpace(t, "10.64.0.0/16", "10.64.0.0/18", "10.64.64.0/19", "10.64.255.255/32")
	if got, want := s.Strip(4), []float64{1, 0.5, 0, 1.0 / (1 << 14)}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for parts, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3: 2, 64: 64, 127: 64, 1 << 20: 1 << 16} {
		if got := s.Strip(parts); len(got) != want {
			t.Errorf("%d parts for %d", len(got), parts)
		}
	}
	for length, want := range map[int]uint64{15: 0, 17: 0, 18: 1, 19: 4, 20: 9, 32: 1<<15 + 1<<13 - 1, 33: 0, -1: 0} {
		if got := s.Fits(length); got != want {
			t.Errorf("%d prefixes /%d fit, want %d", got, length, want)
		}
	}
	wide := mustSpace(t, "fd00::/48", "fd00::/64")
	for length, want := range map[int]uint64{64: 1<<16 - 1, 111: (1<<16 - 1) << 47, 112: math.MaxUint64 - (1<<48 - 1), 113: math.MaxUint64, 128: math.MaxUint64} {
		if got := wide.Fits(length); got != want {
			t.Errorf("%d prefixes /%d fit, want %d", got, length, want)
		}
	}
	if got := wide.Strip(2); got[0] != math.Ldexp(1, -15) || got[1] != 0 {
		t.Errorf("got %v", got)
	}
}
