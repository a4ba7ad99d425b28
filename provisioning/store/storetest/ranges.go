package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

const (
	pool       = provisioning.RangePool
	allocation = provisioning.RangeAllocation
	reserved   = provisioning.RangeReserved
	foreign    = provisioning.RangeForeign
)

func rangeOf(kind provisioning.RangeKind, prefix string) provisioning.Range {
	return provisioning.Range{Kind: kind, Prefix: netip.MustParsePrefix(prefix), Owner: "site_x", Note: "a note", Created: now()}
}

// create makes one Range in a transaction of its own.
func create(t testing.TB, s store.Store, r provisioning.Range) (provisioning.Range, error) {
	t.Helper()
	var out provisioning.Range
	err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		out, err = tx.Ranges().Create(r)
		return err
	})
	return out, err
}

func mustCreate(t testing.TB, s store.Store, kind provisioning.RangeKind, prefix string) provisioning.Range {
	t.Helper()
	r, err := create(t, s, rangeOf(kind, prefix))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func listRanges(t testing.TB, s store.Store) (out []provisioning.Range) {
	t.Helper()
	view(t, s, func(tx store.Tx) (err error) {
		out, err = tx.Ranges().List()
		return err
	})
	return out
}

func remove(t testing.TB, s store.Store, r provisioning.Range) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return tx.Ranges().Remove(r.ID) })
}

func testRangeRows(t *testing.T, s store.Store) {
	p := mustCreate(t, s, pool, "10.64.0.0/16")
	want := provisioning.Range{Kind: allocation, Prefix: netip.MustParsePrefix("10.64.4.0/24"), Owner: "hub", Note: "größer", Created: now()}
	got, err := create(t, s, want)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == 0 || got.ID == p.ID {
		t.Errorf("got id %d after %d", got.ID, p.ID)
	}
	want.ID = got.ID
	same(t, "created", want, got)
	same(t, "read", []provisioning.Range{p, want}, listRanges(t, s))
	view(t, s, func(tx store.Tx) error {
		of, err := tx.Ranges().Of("hub")
		if err != nil {
			return err
		}
		same(t, "of the hub", []provisioning.Range{want}, of)
		none, err := tx.Ranges().Of("")
		same(t, "of nobody", 0, len(none))
		return err
	})
	refused(t, s, store.ErrInUse, "a pool with allocations", func(tx store.Tx) error { return tx.Ranges().Remove(p.ID) })
	remove(t, s, want)
	refused(t, s, store.ErrNotFound, "removed twice", func(tx store.Tx) error { return tx.Ranges().Remove(want.ID) })
	again := mustCreate(t, s, allocation, "10.64.4.0/24")
	if again.ID == want.ID {
		t.Errorf("the id %d was given twice", again.ID)
	}
	remove(t, s, again)
	remove(t, s, p)
	same(t, "left", 0, len(listRanges(t, s)))
}

func testRangeOrder(t *testing.T, s store.Store) {
	want := []provisioning.Range{
		rangeOf(foreign, "0.0.0.0/8"), rangeOf(pool, "10.0.0.0/16"), rangeOf(allocation, "10.0.0.0/16"), rangeOf(pool, "10.100.0.0/16"),
		rangeOf(reserved, "10.100.9.0/24"), rangeOf(allocation, "10.100.10.0/24"), rangeOf(reserved, "255.255.255.255/32"),
		rangeOf(pool, "fd00::/48"), rangeOf(allocation, "fd00::/64"), rangeOf(allocation, "fd00:0:0:a::/64"),
	}
	for _, kind := range []provisioning.RangeKind{pool, reserved, allocation, foreign} {
		for i, r := range want {
			if r.Kind == kind {
				var err error
				if want[i], err = create(t, s, r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	same(t, "order", want, listRanges(t, s))
}

// testRangeMatrix tries every pair of kinds in every relation, in both orders and families.
func testRangeMatrix(t *testing.T, s store.Store) {
	// exclusive says which pairs of kinds may not overlap.
	exclusive := map[[2]provisioning.RangeKind]bool{
		{pool, pool}: true, {allocation, allocation}: true, {reserved, reserved}: true,
		{allocation, reserved}: true, {reserved, allocation}: true,
		{allocation, foreign}: true, {foreign, allocation}: true,
	}
	relations := []struct {
		name, first, second string
		overlap             bool
	}{
		{"equal", "10.64.8.0/22", "10.64.8.0/22", true},
		{"nested at the start", "10.64.8.0/22", "10.64.8.0/24", true},
		{"nested inside", "10.64.8.0/22", "10.64.9.0/24", true},
		{"nested at the end", "10.64.8.0/22", "10.64.11.255/32", true},
		{"around", "10.64.9.0/24", "10.64.8.0/22", true},
		{"around, from the same start", "10.64.8.0/24", "10.64.8.0/22", true},
		{"adjacent below", "10.64.8.0/22", "10.64.7.0/24", false},
		{"adjacent above", "10.64.8.0/22", "10.64.12.0/22", false},
		{"apart", "10.64.8.0/22", "10.64.200.0/24", false},
		{"IPv6 equal", "fd00:64:0:8::/62", "fd00:64:0:8::/62", true},
		{"IPv6 nested", "fd00:64:0:8::/62", "fd00:64:0:9::1/128", true},
		{"IPv6 around", "fd00:64:0:9::/64", "fd00:64:0:8::/61", true},
		{"IPv6 adjacent", "fd00:64:0:8::/62", "fd00:64:0:c::/62", false},
		{"other family", "10.64.8.0/22", "fd00:64::/64", false},
	}
	kinds := []provisioning.RangeKind{pool, allocation, reserved, foreign}
	try := func(a, b provisioning.RangeKind) {
		for _, rel := range relations {
			t.Run(fmt.Sprintf("%s then %s, %s", a, b, rel.name), func(t *testing.T) {
				first := mustCreate(t, s, a, rel.first)
				defer remove(t, s, first)
				second, err := create(t, s, rangeOf(b, rel.second))
				if err == nil {
					defer remove(t, s, second)
				}
				if want := rel.overlap && exclusive[[2]provisioning.RangeKind{a, b}]; want != errors.Is(err, store.ErrOverlap) {
					t.Errorf("got %v, want refused = %v", err, want)
				} else if want && !strings.Contains(err.Error(), rel.first) {
					t.Errorf("the error does not name %s: %v", rel.first, err)
				} else if !want && err != nil {
					t.Error(err)
				}
			})
		}
	}
	try(pool, pool)
	for _, k := range []provisioning.RangeKind{reserved, foreign} {
		try(pool, k)
		try(k, pool)
	}
	// Allocations need pools around them.
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, pool, "fd00:64::/48")
	for _, a := range kinds[1:] {
		for _, b := range kinds[1:] {
			try(a, b)
		}
	}
}

func testRangeErrors(t *testing.T, s store.Store) {
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, pool, "10.66.0.0/16")
	for _, p := range []string{"10.65.0.0/24", "10.64.0.0/15", "10.67.0.0/24", "10.0.0.0/24", "fd00::/64", "::/64"} {
		for _, owner := range []string{"site_x", "hub"} {
			r := rangeOf(allocation, p)
			r.Owner = owner
			if _, err := create(t, s, r); !errors.Is(err, store.ErrOutside) {
				t.Errorf("allocation %s of %s: %v, want ErrOutside", p, owner, err)
			}
		}
	}
	for _, p := range []netip.Prefix{
		{}, netip.PrefixFrom(netip.MustParseAddr("10.64.0.1"), 24), netip.MustParsePrefix("::ffff:10.64.0.0/120"),
	} {
		_, err := create(t, s, provisioning.Range{Kind: allocation, Prefix: p})
		if e, ok := errors.AsType[*provisioning.Error](err); !ok || e.Code != provisioning.Invalid {
			t.Errorf("allocation %v: %v, want it invalid", p, err)
		}
	}
	if _, err := create(t, s, rangeOf("gift", "10.64.0.0/24")); err == nil {
		t.Error("a range of an unknown kind was created")
	}
	mustCreate(t, s, foreign, "0.0.0.0/0")
	mustCreate(t, s, foreign, "::/0")
	if _, err := create(t, s, rangeOf(allocation, "10.64.1.0/24")); !errors.Is(err, store.ErrOverlap) {
		t.Errorf("an allocation inside a foreign range of everything: %v", err)
	}
}

func testRangeQuarantine(t *testing.T, s store.Store) {
	p := mustCreate(t, s, pool, "10.64.0.0/16")
	a, r := mustCreate(t, s, allocation, "10.64.1.0/24"), mustCreate(t, s, reserved, "10.64.2.0/24")
	kept := mustCreate(t, s, allocation, "10.64.3.0/24")
	until := now().Add(30 * 24 * time.Hour)
	quarantine := func(id int64, until time.Time) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Ranges().Quarantine(id, until) }
	}
	update(t, s, quarantine(a.ID, until))
	update(t, s, quarantine(r.ID, until.Add(1)))
	refused(t, s, store.ErrNotFound, "a pool in quarantine", quarantine(p.ID, until))
	refused(t, s, store.ErrNotFound, "nothing in quarantine", quarantine(1<<40, until))
	if err := s.Update(t.Context(), quarantine(kept.ID, time.Time{})); err == nil {
		t.Error("a quarantine without end")
	}
	a.Owner, a.Until = "", until
	r.Owner, r.Until = "", until.Add(1)
	same(t, "quarantined", []provisioning.Range{p, a, r, kept}, listRanges(t, s))
	for _, taken := range []string{"10.64.1.0/24", "10.64.2.0/24"} {
		if _, err := create(t, s, rangeOf(allocation, taken)); !errors.Is(err, store.ErrOverlap) {
			t.Errorf("an allocation over the quarantined %s: %v", taken, err)
		}
	}
	for i, want := range []struct {
		at time.Time
		n  int
	}{{until.Add(-1), 0}, {until, 1}, {until, 0}, {until.Add(time.Hour), 1}, {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 0}} {
		update(t, s, func(tx store.Tx) error {
			n, err := tx.Ranges().Sweep(want.at)
			same(t, fmt.Sprintf("sweep %d", i), want.n, n)
			return err
		})
	}
	same(t, "left", []provisioning.Range{p, kept}, listRanges(t, s))
	mustCreate(t, s, allocation, "10.64.1.0/24")
}

func testRangeOverlapping(t *testing.T, s store.Store) {
	wide, narrow := mustCreate(t, s, foreign, "192.168.0.0/16"), mustCreate(t, s, foreign, "192.168.178.0/24")
	twin := mustCreate(t, s, foreign, "192.168.178.0/24")
	p := mustCreate(t, s, pool, "10.64.0.0/16")
	a, r := mustCreate(t, s, allocation, "10.64.4.0/22"), mustCreate(t, s, reserved, "10.64.8.0/24")
	six := mustCreate(t, s, pool, "fd00::/48")
	for prefix, want := range map[string][]provisioning.Range{
		"10.64.5.7/32":      {p, a},
		"10.64.4.0/22":      {p, a},
		"10.0.0.0/8":        {p, a, r},
		"10.64.9.0/24":      {p},
		"10.65.0.0/24":      nil,
		"192.168.178.20/32": {wide, narrow, twin},
		"192.168.179.0/24":  {wide},
		"0.0.0.0/0":         {p, a, r, wide, narrow, twin},
		"::/0":              {six},
		"fd00::1/128":       {six},
	} {
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().Overlapping(netip.MustParsePrefix(prefix))
			same(t, prefix, want, got)
			return err
		})
	}
}

func testRangeRevision(t *testing.T, s store.Store) {
	var last uint64
	changes := func(what string, want bool, fn func(store.Tx) error) {
		t.Helper()
		_ = s.Update(t.Context(), fn)
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().Revision()
			if (got != last) != want {
				t.Errorf("%s: revision %d after %d", what, got, last)
			}
			last = got
			return err
		})
	}
	var made provisioning.Range
	changes("create", true, func(tx store.Tx) (err error) {
		made, err = tx.Ranges().Create(rangeOf(pool, "10.64.0.0/16"))
		return err
	})
	changes("refused", false, func(tx store.Tx) error { _, err := tx.Ranges().Create(rangeOf(pool, "10.64.0.0/16")); return err })
	changes("given up", false, func(tx store.Tx) error {
		_, err := tx.Ranges().Create(rangeOf(pool, "10.65.0.0/16"))
		return errors.Join(err, errGiveUp)
	})
	changes("another noun", false, func(tx store.Tx) error { return tx.Sites().Create(site("berlin")) })
	changes("an idle sweep", false, func(tx store.Tx) error { _, err := tx.Ranges().Sweep(now()); return err })
	changes("remove", true, func(tx store.Tx) error { return tx.Ranges().Remove(made.ID) })
}
