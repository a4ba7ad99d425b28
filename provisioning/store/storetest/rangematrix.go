package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// place is how the second of two prefixes lies to the first.
type place int

const (
	apart place = iota
	equal
	within
	around
)

type relation struct {
	name, first, second string
	place               place
}

func relations() []relation {
	return []relation{
		{"equal", "10.64.8.0/22", "10.64.8.0/22", equal},
		{"nested at the start", "10.64.8.0/22", "10.64.8.0/24", within},
		{"nested inside", "10.64.8.0/22", "10.64.9.0/24", within},
		{"nested at the end", "10.64.8.0/22", "10.64.11.255/32", within},
		{"around", "10.64.9.0/24", "10.64.8.0/22", around},
		{"around, from the same start", "10.64.8.0/24", "10.64.8.0/22", around},
		{"around, to the same end", "10.64.11.0/24", "10.64.8.0/22", around},
		{"adjacent below", "10.64.8.0/22", "10.64.7.0/24", apart},
		{"adjacent above", "10.64.8.0/22", "10.64.12.0/22", apart},
		{"apart", "10.64.8.0/22", "10.64.200.0/24", apart},
		{"IPv6 equal", "fd00:64:0:8::/62", "fd00:64:0:8::/62", equal},
		{"IPv6 nested", "fd00:64:0:8::/62", "fd00:64:0:9::1/128", within},
		{"IPv6 around", "fd00:64:0:9::/64", "fd00:64:0:8::/61", around},
		{"IPv6 adjacent", "fd00:64:0:8::/62", "fd00:64:0:c::/62", apart},
		{"other family", "10.64.8.0/22", "fd00:64::/64", apart},
	}
}

// exclude says whether a range of kind b is refused beside one of kind a, by the place of b.
func exclude(a, b provisioning.RangeKind, p place) bool {
	switch {
	case p == apart:
		return false
	case a == pool && b == pool:
		return p == equal
	case a == allocation && b == pool:
		return p == within
	case a == pool && b == allocation:
		return p == around
	}
	return slices.Contains([][2]provisioning.RangeKind{
		{allocation, allocation},
		{reserved, reserved},
		{allocation, reserved},
		{reserved, allocation},
		{allocation, foreign},
		{foreign, allocation},
		{pool, lan},
		{lan, pool},
		{pool, reported},
		{reported, pool},
	}, [2]provisioning.RangeKind{a, b})
}

// testRangeMatrix tries every pair of kinds in every relation, in both orders and families. Allocations need pools around them, where no
// network of a Site can be: see testRangeNetworks.
func testRangeMatrix(t *testing.T, s store.Store) {
	loose := []provisioning.RangeKind{pool, reserved, foreign, lan, reported}
	for _, a := range loose {
		for _, b := range loose {
			tryPair(t, s, a, b)
		}
	}
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, pool, "fd00:64::/48")
	for _, k := range []provisioning.RangeKind{pool, reserved, foreign} {
		tryPair(t, s, k, allocation)
		tryPair(t, s, allocation, k)
	}
	tryPair(t, s, allocation, allocation)
}

// tryPair gives up each transaction, so that nothing has to be removed again.
func tryPair(t *testing.T, s store.Store, a, b provisioning.RangeKind) {
	for i, rel := range relations() {
		// No pair of rules is any different under the race detector, which has -short: there is much to wait for and nothing to find.
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(fmt.Sprintf("%s then %s, %s", a, b, rel.name), func(t *testing.T) {
			first, second := RangeOf(a, rel.first), RangeOf(b, rel.second)
			if second.Owner != "" {
				second.Owner = "site_y"
			}
			var got error
			refused(t, s, errGiveUp, rel.first, func(tx store.Tx) error {
				if _, err := tx.Ranges().Create(first); err != nil {
					return err
				}
				_, got = tx.Ranges().Create(second)
				return errGiveUp
			})
			if want := exclude(a, b, rel.place); want != errors.Is(got, store.ErrOverlap) {
				t.Errorf("got %v, want refused = %v", got, want)
			} else if want && !strings.Contains(got.Error(), rel.first) {
				t.Errorf("the error does not name %s: %v", rel.first, got)
			} else if !want && got != nil {
				t.Error(got)
			}
		})
	}
}

// testRangeNetworks has the real networks of Sites meet a pool that is full of one allocation.
func testRangeNetworks(t *testing.T, s store.Store) {
	for _, family := range []struct {
		plan   string
		meet   []string
		beside []string
	}{
		{"10.64.8.0/22", []string{"10.64.8.0/22", "10.64.9.0/24", "10.64.11.255/32", "10.0.0.0/8", "0.0.0.0/0"}, []string{"10.64.4.0/22", "10.64.12.0/24"}},
		{"fd00:64::/48", []string{"fd00:64::/48", "fd00:64:0:1::/64", "fd00::/8", "::/0"}, []string{"fd00:65::/48", "fd00:63:ffff::/48"}},
	} {
		for _, kind := range []provisioning.RangeKind{lan, reported} {
			p, a := mustCreate(t, s, pool, family.plan), mustCreate(t, s, allocation, family.plan)
			for _, prefix := range family.meet {
				if _, err := create(t, s, RangeOf(kind, prefix)); !errors.Is(err, store.ErrOverlap) || !strings.Contains(err.Error(), family.plan) {
					t.Errorf("%s %s over %s: %v", kind, prefix, family.plan, err)
				}
			}
			for _, prefix := range family.beside {
				remove(t, s, mustCreate(t, s, kind, prefix))
			}
			remove(t, s, a)
			remove(t, s, p)
			for _, prefix := range family.meet {
				r := mustCreate(t, s, kind, prefix)
				_, err := create(t, s, RangeOf(allocation, family.plan))
				if !errors.Is(err, store.ErrOverlap) && !errors.Is(err, store.ErrOutside) {
					t.Errorf("allocation over the %s %s: %v", kind, prefix, err)
				}
				if _, err := create(t, s, RangeOf(pool, family.plan)); !errors.Is(err, store.ErrOverlap) || !strings.Contains(err.Error(), prefix) {
					t.Errorf("pool over the %s %s: %v", kind, prefix, err)
				}
				remove(t, s, r)
			}
		}
	}
}

// testRangeOnce tells the same fact twice.
func testRangeOnce(t *testing.T, s store.Store) {
	const home = "192.168.178.0/24"
	for _, kind := range []provisioning.RangeKind{lan, reported} {
		first := mustCreate(t, s, kind, home)
		if _, err := create(t, s, RangeOf(kind, home)); !errors.Is(err, store.ErrExists) {
			t.Errorf("%s twice: %v, want ErrExists", kind, err)
		}
		neighbor := RangeOf(kind, home)
		neighbor.Owner = "site_y"
		mustCreateAs(t, s, neighbor)
		mustCreate(t, s, kind, "192.168.178.0/25")
		remove(t, s, first)
		mustCreate(t, s, kind, home)
	}
	asWAN := RangeOf(reported, home)
	asWAN.Purpose = provisioning.PurposeWAN
	mustCreateAs(t, s, asWAN)
	// Networks of others have no identity.
	mustCreate(t, s, foreign, home)
	mustCreate(t, s, foreign, home)
}
