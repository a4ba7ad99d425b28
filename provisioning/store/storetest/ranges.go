package storetest

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

const (
	pool       = provisioning.RangePool
	allocation = provisioning.RangeAllocation
	reserved   = provisioning.RangeReserved
	foreign    = provisioning.RangeForeign
	lan        = provisioning.RangeLAN
	reported   = provisioning.RangeReported
)

// RangeOf is a valid Range of a kind.
func RangeOf(kind provisioning.RangeKind, prefix string) provisioning.Range {
	r := provisioning.Range{Kind: kind, Prefix: netip.MustParsePrefix(prefix), Note: "a note", Created: now()}
	switch kind {
	case pool, foreign:
	case allocation:
		r.Owner, r.Purpose = "site_x", provisioning.PurposeOverlay
	case reported:
		r.Owner, r.Purpose = "site_x", provisioning.PurposeContainer
	default:
		r.Owner = "site_x"
	}
	return r
}

// mappedTo is an allocation that stands for a part of a LAN.
func mappedTo(prefix, maps string) provisioning.Range {
	r := RangeOf(allocation, prefix)
	r.Purpose, r.Maps = provisioning.PurposeMapped, netip.MustParsePrefix(maps)
	return r
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
	return mustCreateAs(t, s, RangeOf(kind, prefix))
}

func mustCreateAs(t testing.TB, s store.Store, r provisioning.Range) provisioning.Range {
	t.Helper()
	r, err := create(t, s, r)
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
	want := RangeOf(allocation, "10.64.4.0/24")
	want.Owner, want.Note, want.Label = "hub", "größer", "mitte"
	got := mustCreateAs(t, s, want)
	if got.ID == 0 || got.ID == p.ID {
		t.Errorf("got id %d after %d", got.ID, p.ID)
	}
	want.ID = got.ID
	same(t, "created", want, got)
	same(t, "read", []provisioning.Range{p, want}, listRanges(t, s))
	view(t, s, func(tx store.Tx) error {
		byID, err := tx.Ranges().ByID(want.ID)
		if err != nil {
			return err
		}
		same(t, "by id", want, byID)
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
	refused(t, s, store.ErrNotFound, "read what is gone", func(tx store.Tx) error { _, err := tx.Ranges().ByID(want.ID); return err })
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
		RangeOf(foreign, "0.0.0.0/8"), RangeOf(pool, "10.0.0.0/16"), RangeOf(pool, "10.0.0.0/17"), RangeOf(allocation, "10.0.0.0/17"),
		RangeOf(pool, "10.100.0.0/16"), RangeOf(reserved, "10.100.9.0/24"), RangeOf(allocation, "10.100.10.0/24"),
		RangeOf(lan, "192.168.178.0/24"), RangeOf(reported, "192.168.178.0/24"), RangeOf(reserved, "255.255.255.255/32"),
		RangeOf(pool, "fd00::/48"), RangeOf(allocation, "fd00::/64"), RangeOf(allocation, "fd00:0:0:a::/64"),
	}
	for _, kind := range []provisioning.RangeKind{pool, reserved, allocation, foreign, lan, reported} {
		for i, r := range want {
			if r.Kind == kind {
				want[i] = mustCreateAs(t, s, r)
			}
		}
	}
	same(t, "order", want, listRanges(t, s))
}

func testRangeErrors(t *testing.T, s store.Store) {
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, pool, "10.66.0.0/16")
	for _, p := range []string{"10.65.0.0/24", "10.67.0.0/24", "10.0.0.0/24", "fd00::/64", "::/64"} {
		for _, owner := range []string{"site_x", "hub"} {
			r := RangeOf(allocation, p)
			r.Owner = owner
			if _, err := create(t, s, r); !errors.Is(err, store.ErrOutside) {
				t.Errorf("allocation %s of %s: %v, want ErrOutside", p, owner, err)
			}
		}
	}
	// It holds a pool and lies in none.
	if _, err := create(t, s, RangeOf(allocation, "10.64.0.0/15")); !errors.Is(err, store.ErrOutside) && !errors.Is(err, store.ErrOverlap) {
		t.Errorf("an allocation around a pool: %v", err)
	}
	mustCreate(t, s, foreign, "0.0.0.0/0")
	mustCreate(t, s, foreign, "::/0")
	if _, err := create(t, s, RangeOf(allocation, "10.64.1.0/24")); !errors.Is(err, store.ErrOverlap) {
		t.Errorf("an allocation inside a foreign range of everything: %v", err)
	}
}

// testRangeInvalid creates what is wrong in itself, each with one thing changed in a Range that would be taken.
func testRangeInvalid(t *testing.T, s store.Store) {
	mustCreate(t, s, pool, "10.64.0.0/16")
	for what, tt := range map[string]struct {
		good   provisioning.Range
		change func(*provisioning.Range)
	}{
		"no prefix":             {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Prefix = netip.Prefix{} }},
		"host bits":             {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Prefix = netip.MustParsePrefix("10.70.0.1/24") }},
		"IPv4 dressed as IPv6":  {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Prefix = netip.MustParsePrefix("::ffff:10.70.0.0/120") }},
		"unknown kind":          {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Kind = "gift" }},
		"pool with an owner":    {RangeOf(pool, "10.71.0.0/24"), func(r *provisioning.Range) { r.Owner = "site_x" }},
		"pool with a purpose":   {RangeOf(pool, "10.71.0.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeOverlay }},
		"pool with an end":      {RangeOf(pool, "10.71.0.0/24"), func(r *provisioning.Range) { r.Until = now() }},
		"foreign with an owner": {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Owner = "site_x" }},
		"foreign with a label":  {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Label = "hospital" }},
		"foreign with an end":   {RangeOf(foreign, "10.70.0.0/24"), func(r *provisioning.Range) { r.Until = now() }},
		"LAN of nobody":         {RangeOf(lan, "10.72.0.0/24"), func(r *provisioning.Range) { r.Owner = "" }},
		"LAN with a purpose":    {RangeOf(lan, "10.72.0.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeLAN }},
		"LAN with a label":      {RangeOf(lan, "10.72.0.0/24"), func(r *provisioning.Range) { r.Label = "praxis" }},
		"LAN with an end":       {RangeOf(lan, "10.72.0.0/24"), func(r *provisioning.Range) { r.Until = now() }},
		"reported by nobody":    {RangeOf(reported, "10.73.0.0/24"), func(r *provisioning.Range) { r.Owner = "" }},
		"reported as nothing":   {RangeOf(reported, "10.73.0.0/24"), func(r *provisioning.Range) { r.Purpose = "" }},
		"reported as overlay":   {RangeOf(reported, "10.73.0.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeOverlay }},
		"allocated for nothing": {RangeOf(allocation, "10.64.1.0/24"), func(r *provisioning.Range) { r.Purpose = "" }},
		"allocated as WAN":      {RangeOf(allocation, "10.64.1.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeWAN }},
		"mapped without a LAN":  {RangeOf(allocation, "10.64.1.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeMapped }},
		"overlay with a LAN":    {mappedTo("10.64.1.0/24", "192.168.1.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeOverlay }},
		"LAN of another length": {mappedTo("10.64.1.0/24", "192.168.1.0/24"), func(r *provisioning.Range) { r.Maps = netip.MustParsePrefix("192.168.1.0/25") }},
		"LAN of another family": {mappedTo("10.64.1.0/24", "192.168.1.0/24"), func(r *provisioning.Range) { r.Maps = netip.MustParsePrefix("fd00::/24") }},
		"LAN with host bits":    {mappedTo("10.64.1.0/24", "192.168.1.0/24"), func(r *provisioning.Range) { r.Maps = netip.MustParsePrefix("192.168.1.1/24") }},
		"reserved for a use":    {RangeOf(reserved, "10.64.1.0/24"), func(r *provisioning.Range) { r.Purpose = provisioning.PurposeOverlay }},
		"reserved for a LAN":    {RangeOf(reserved, "10.64.1.0/24"), func(r *provisioning.Range) { r.Maps = netip.MustParsePrefix("192.168.1.0/24") }},
		"reserved and ending":   {RangeOf(reserved, "10.64.1.0/24"), func(r *provisioning.Range) { r.Until = now() }},
	} {
		bad := tt.good
		tt.change(&bad)
		_, err := create(t, s, bad)
		if e, ok := errors.AsType[*provisioning.Error](err); !ok || e.Code != provisioning.Invalid || e.Hint == "" {
			t.Errorf("%s: %v, want it invalid, with a hint", what, err)
		}
		remove(t, s, mustCreateAs(t, s, tt.good))
	}
}

func testRangeOverlapping(t *testing.T, s store.Store) {
	wide, narrow := mustCreate(t, s, foreign, "192.168.0.0/16"), mustCreate(t, s, foreign, "192.168.178.0/24")
	twin := mustCreate(t, s, foreign, "192.168.178.0/24")
	here, told := mustCreate(t, s, lan, "192.168.178.0/24"), mustCreate(t, s, reported, "192.168.178.0/25")
	p, region := mustCreate(t, s, pool, "10.64.0.0/16"), mustCreate(t, s, pool, "10.64.4.0/22")
	a, r := mustCreate(t, s, allocation, "10.64.4.0/22"), mustCreate(t, s, reserved, "10.64.8.0/24")
	six := mustCreate(t, s, pool, "fd00::/48")
	for prefix, want := range map[string][]provisioning.Range{
		"10.64.5.7/32":       {p, region, a},
		"10.64.4.0/22":       {p, region, a},
		"10.64.0.0/21":       {p, region, a},
		"10.0.0.0/8":         {p, region, a, r},
		"10.64.9.0/24":       {p},
		"10.65.0.0/24":       nil,
		"192.168.178.20/32":  {wide, narrow, twin, here, told},
		"192.168.178.128/25": {wide, narrow, twin, here},
		"192.168.179.0/24":   {wide},
		"0.0.0.0/0":          {p, region, a, r, wide, narrow, twin, here, told},
		"::/0":               {six},
		"fd00::1/128":        {six},
	} {
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().Overlapping(netip.MustParsePrefix(prefix))
			same(t, prefix, want, got)
			return err
		})
	}
	view(t, s, func(tx store.Tx) error {
		if _, err := tx.Ranges().Overlapping(netip.MustParsePrefix("10.64.0.1/24")); err == nil {
			t.Error("a prefix with host bits overlaps something")
		}
		return nil
	})
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
	var made, quarantined provisioning.Range
	changes("create", true, func(tx store.Tx) (err error) {
		made, err = tx.Ranges().Create(RangeOf(pool, "10.64.0.0/16"))
		return err
	})
	changes("refused", false, func(tx store.Tx) error { _, err := tx.Ranges().Create(RangeOf(pool, "10.64.0.0/16")); return err })
	changes("given up", false, func(tx store.Tx) error {
		_, err := tx.Ranges().Create(RangeOf(pool, "10.65.0.0/16"))
		return errors.Join(err, errGiveUp)
	})
	changes("another noun", false, func(tx store.Tx) error { return tx.Sites().Create(site("berlin")) })
	changes("an idle sweep", false, func(tx store.Tx) error { _, err := tx.Ranges().Sweep(now()); return err })
	changes("another create", true, func(tx store.Tx) (err error) {
		quarantined, err = tx.Ranges().Create(RangeOf(allocation, "10.64.1.0/24"))
		return err
	})
	changes("describe", false, func(tx store.Tx) error { return tx.Ranges().Describe(quarantined.ID, "a", "b") })
	changes("end", false, func(tx store.Tx) error { return tx.Ranges().End(quarantined.ID, now()) })
	changes("quarantine", false, func(tx store.Tx) error { return tx.Ranges().Quarantine(quarantined.ID, now()) })
	changes("a sweep", true, func(tx store.Tx) error { _, err := tx.Ranges().Sweep(now()); return err })
	changes("remove", true, func(tx store.Tx) error { return tx.Ranges().Remove(made.ID) })
	changes("two in one transaction", true, func(tx store.Tx) error {
		for _, p := range []string{"10.66.0.0/16", "10.67.0.0/16"} {
			before, err1 := tx.Ranges().Revision()
			_, err2 := tx.Ranges().Create(RangeOf(pool, p))
			after, err3 := tx.Ranges().Revision()
			if err := errors.Join(err1, err2, err3); err != nil || before == after {
				t.Errorf("revision %d, then %d, %v", before, after, err)
			}
		}
		return nil
	})
}
