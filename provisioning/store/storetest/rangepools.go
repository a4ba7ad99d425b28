package storetest

import (
	"errors"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// testPoolsNest removes pools in every order: one that is needed stays, any other goes.
func testPoolsNest(t *testing.T, s store.Store) {
	inUse := func(what string, p provisioning.Range) {
		t.Helper()
		refused(t, s, store.ErrInUse, what, func(tx store.Tx) error { return tx.Ranges().Remove(p.ID) })
	}
	for _, v := range []struct{ wide, region, other, deep, inDeep, inOther, loose string }{
		{"10.64.0.0/12", "10.64.0.0/16", "10.66.0.0/16", "10.64.4.0/22", "10.64.5.0/24", "10.66.255.0/24", "10.79.255.0/24"},
		{"fd00::/40", "fd00::/48", "fd00:0:2::/48", "fd00::/56", "fd00:0:0:1::/64", "fd00:0:2:ffff::/64", "fd00:0:ff:ffff::/64"},
	} {
		wide, region := mustCreate(t, s, pool, v.wide), mustCreate(t, s, pool, v.region)
		deep, other := mustCreate(t, s, pool, v.deep), mustCreate(t, s, pool, v.other)
		a, b, loose := mustCreate(t, s, allocation, v.inDeep), mustCreate(t, s, allocation, v.inOther), mustCreate(t, s, allocation, v.loose)

		// Inside wider ones, pools come and go.
		for _, p := range []*provisioning.Range{&region, &deep, &other} {
			remove(t, s, *p)
			*p = mustCreateAs(t, s, RangeOf(pool, p.Prefix.String()))
		}
		inUse("a pool with an allocation behind its narrower pools", wide)
		remove(t, s, loose)
		remove(t, s, wide)
		inUse("a pool that holds the one allocation", other)
		remove(t, s, region)
		inUse("the last pool around an allocation", deep)
		if _, err := create(t, s, RangeOf(allocation, v.loose)); !errors.Is(err, store.ErrOutside) {
			t.Errorf("an allocation where no pool is left: %v", err)
		}
		// A wider one that comes later takes over.
		wide = mustCreate(t, s, pool, v.wide)
		remove(t, s, deep)
		remove(t, s, other)
		inUse("the last pool around two allocations", wide)
		remove(t, s, a)
		inUse("the last pool around an allocation", wide)
		remove(t, s, b)
		remove(t, s, wide)
	}
}

// testPoolGaps looks for the one allocation that no narrower pool holds: before, between and behind them.
func testPoolGaps(t *testing.T, s store.Store) {
	wide := mustCreate(t, s, pool, "10.64.0.0/16")
	for _, p := range []string{"10.64.16.0/20", "10.64.16.0/24", "10.64.48.0/20", "10.64.128.0/20"} {
		mustCreate(t, s, pool, p)
	}
	for _, p := range []string{"10.64.16.0/24", "10.64.17.0/24", "10.64.31.0/24", "10.64.48.0/24", "10.64.128.0/20"} {
		mustCreate(t, s, allocation, p)
	}
	for _, gap := range []string{"10.64.0.0/24", "10.64.15.255/32", "10.64.32.0/32", "10.64.47.255/32", "10.64.64.0/18", "10.64.144.0/24", "10.64.255.255/32"} {
		a := mustCreate(t, s, allocation, gap)
		refused(t, s, store.ErrInUse, "a pool needed for "+gap, func(tx store.Tx) error { return tx.Ranges().Remove(wide.ID) })
		remove(t, s, a)
		remove(t, s, wide)
		wide = mustCreate(t, s, pool, "10.64.0.0/16")
	}
}

// testPoolEqual gives a whole pool to one Site.
func testPoolEqual(t *testing.T, s store.Store) {
	first := mustCreate(t, s, pool, "10.64.0.0/16")
	a := mustCreate(t, s, allocation, "10.64.0.0/16")
	if _, err := create(t, s, RangeOf(pool, "10.64.0.0/17")); !errors.Is(err, store.ErrOverlap) {
		t.Errorf("a pool inside an allocation: %v", err)
	}
	refused(t, s, store.ErrInUse, "the pool", func(tx store.Tx) error { return tx.Ranges().Remove(first.ID) })
	wide := mustCreate(t, s, pool, "10.0.0.0/8")
	remove(t, s, first)
	again := mustCreate(t, s, pool, "10.64.0.0/16")
	remove(t, s, wide)
	refused(t, s, store.ErrInUse, "the pool again", func(tx store.Tx) error { return tx.Ranges().Remove(again.ID) })
	remove(t, s, a)
	mustCreate(t, s, pool, "10.64.0.0/17")
	if _, err := create(t, s, RangeOf(allocation, "10.64.0.0/16")); !errors.Is(err, store.ErrOverlap) {
		t.Errorf("an allocation around a pool: %v", err)
	}
}
