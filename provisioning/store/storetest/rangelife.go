package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

func quarantine(id int64, until time.Time) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Ranges().Quarantine(id, until) }
}

func end(id int64, until time.Time) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Ranges().End(id, until) }
}

func describe(id int64, label, note string) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Ranges().Describe(id, label, note) }
}

func sweep(t *testing.T, s store.Store, at time.Time, want ...provisioning.Range) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		got, err := tx.Ranges().Sweep(at)
		same(t, fmt.Sprint("swept at ", at), want, got)
		return err
	})
}

func testRangeQuarantine(t *testing.T, s store.Store) {
	p := mustCreate(t, s, pool, "10.64.0.0/16")
	net := mustCreate(t, s, foreign, "10.99.0.0/16")
	lan := mustCreate(t, s, lan, "192.168.1.0/24")
	labeled := mappedTo("10.64.2.0/24", "192.168.1.0/24")
	labeled.Label = "x-ray"
	a, r := mustCreateAs(t, s, labeled), mustCreate(t, s, reserved, "10.64.1.0/24")
	kept := mustCreate(t, s, allocation, "10.64.3.0/24")
	until := now().Add(30 * 24 * time.Hour)
	update(t, s, quarantine(a.ID, until))
	update(t, s, quarantine(r.ID, until.Add(1)))
	for _, o := range []provisioning.Range{p, net, lan, {ID: 1 << 40}} {
		refused(t, s, store.ErrNotFound, fmt.Sprintf("%s in quarantine", o.Kind), quarantine(o.ID, until))
	}
	if err := s.Update(t.Context(), quarantine(kept.ID, time.Time{})); err == nil {
		t.Error("a quarantine without end")
	}
	a.Owner, a.Label, a.Until = "", "", until
	r.Owner, r.Until = "", until.Add(1)
	same(t, "quarantined", []provisioning.Range{p, r, a, kept, net, lan}, listRanges(t, s))
	for _, taken := range []string{"10.64.1.0/24", "10.64.2.0/24"} {
		if _, err := create(t, s, RangeOf(allocation, taken)); !errors.Is(err, store.ErrOverlap) {
			t.Errorf("an allocation over the quarantined %s: %v", taken, err)
		}
	}
	// The label is free again.
	update(t, s, describe(kept.ID, "x-ray", "new"))
	kept.Label, kept.Note = "x-ray", "new"
	sweep(t, s, until.Add(-1))
	sweep(t, s, until, a)
	sweep(t, s, until)
	same(t, "left", []provisioning.Range{p, r, kept, net, lan}, listRanges(t, s))
	again := mustCreate(t, s, allocation, "10.64.2.0/24")
	update(t, s, quarantine(again.ID, until))
	again.Owner, again.Until = "", until
	sweep(t, s, until.Add(time.Hour), r, again)
	sweep(t, s, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	same(t, "left in the end", []provisioning.Range{p, kept, net, lan}, listRanges(t, s))
	mustCreate(t, s, allocation, "10.64.1.0/24")
}

// testRangeQuarantinedAtOnce imports a quarantine.
func testRangeQuarantinedAtOnce(t *testing.T, s store.Store) {
	mustCreate(t, s, pool, "10.64.0.0/16")
	var want []provisioning.Range
	for _, r := range []provisioning.Range{RangeOf(allocation, "10.64.1.0/24"), RangeOf(reserved, "10.64.2.0/24")} {
		r.Owner, r.Until = "", now()
		want = append(want, mustCreateAs(t, s, r))
	}
	sweep(t, s, now(), want...)
}

func testRangeEnd(t *testing.T, s store.Store) {
	p, r := mustCreate(t, s, pool, "10.64.0.0/16"), mustCreate(t, s, reserved, "10.64.9.0/24")
	labeled := RangeOf(allocation, "10.64.2.0/24")
	labeled.Label = "old"
	a, b, gone := mustCreateAs(t, s, labeled), mustCreate(t, s, allocation, "10.64.1.0/24"), mustCreate(t, s, allocation, "10.64.3.0/24")
	at := now().Add(time.Hour)
	update(t, s, quarantine(gone.ID, at))
	for what, id := range map[string]int64{"a pool": p.ID, "a reservation": r.ID, "what is quarantined": gone.ID, "nothing": 1 << 40} {
		refused(t, s, store.ErrNotFound, "the end of "+what, end(id, at))
		refused(t, s, store.ErrNotFound, "no end of "+what, end(id, time.Time{}))
	}
	update(t, s, end(a.ID, at))
	update(t, s, end(b.ID, at.Add(1)))
	a.Until, b.Until = at, at.Add(1)
	gone.Owner, gone.Until = "", at
	same(t, "ending", []provisioning.Range{p, b, a, gone, r}, listRanges(t, s))
	ended := func(now time.Time, want ...provisioning.Range) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().Ended(now)
			same(t, "ended", want, got)
			return err
		})
	}
	ended(at.Add(-1))
	ended(at, a)
	ended(at.Add(time.Hour), b, a)
	if _, err := create(t, s, RangeOf(allocation, "10.64.2.0/24")); !errors.Is(err, store.ErrOverlap) {
		t.Errorf("an allocation over an ending one: %v", err)
	}
	// What has an owner is not swept, however long it has ended.
	sweep(t, s, at.Add(time.Hour), gone)
	update(t, s, end(b.ID, time.Time{}))
	b.Until = time.Time{}
	ended(at.Add(time.Hour), a)
	update(t, s, quarantine(a.ID, at.Add(2*time.Hour)))
	ended(at.Add(time.Hour))
	a.Owner, a.Label, a.Until = "", "", at.Add(2*time.Hour)
	same(t, "in the end", []provisioning.Range{p, b, a, r}, listRanges(t, s))
	sweep(t, s, at.Add(2*time.Hour), a)
}

func testRangeLabels(t *testing.T, s store.Store) {
	as := func(r provisioning.Range, label string) provisioning.Range {
		r.Label = label
		return r
	}
	p := mustCreateAs(t, s, as(RangeOf(pool, "10.64.0.0/16"), "north"))
	a := mustCreateAs(t, s, as(RangeOf(allocation, "10.64.1.0/24"), `größer\`))
	r, net := mustCreate(t, s, reserved, "10.64.2.0/24"), mustCreate(t, s, foreign, "10.99.0.0/16")
	find := func(label string, want provisioning.Range) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().ByLabel(label)
			same(t, label, want, got)
			return err
		})
	}
	find("north", p)
	find(`größer\`, a)
	for _, none := range []string{"", "south", "North"} {
		refused(t, s, store.ErrNotFound, fmt.Sprintf("the label %q", none), func(tx store.Tx) error { _, err := tx.Ranges().ByLabel(none); return err })
	}
	for _, kind := range []provisioning.RangeKind{pool, allocation, reserved} {
		if _, err := create(t, s, as(RangeOf(kind, "10.64.3.0/24"), "north")); !errors.Is(err, store.ErrExists) {
			t.Errorf("a %s range with a label that is taken: %v", kind, err)
		}
	}
	refused(t, s, store.ErrExists, "a label that is taken", describe(r.ID, "north", ""))
	refused(t, s, store.ErrNotFound, "a label for nothing", describe(1<<40, "void", ""))
	if e, ok := errors.AsType[*provisioning.Error](s.Update(t.Context(), describe(net.ID, "hospital", ""))); !ok || e.Code != provisioning.Invalid {
		t.Errorf("a label for a foreign range: %v", e)
	}
	update(t, s, describe(net.ID, "", "the hospital"))
	update(t, s, describe(p.ID, "north", "its own label again"))
	update(t, s, describe(a.ID, "", "no label"))
	update(t, s, describe(r.ID, `größer\`, ""))
	net.Note, p.Note, a.Label, a.Note, r.Label, r.Note = "the hospital", "its own label again", "", "no label", `größer\`, ""
	find(`größer\`, r)
	same(t, "described", []provisioning.Range{p, a, r, net}, listRanges(t, s))
	remove(t, s, r)
	mustCreateAs(t, s, as(RangeOf(reserved, "10.64.2.0/24"), `größer\`))
}

func testRangeMaps(t *testing.T, s store.Store) {
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, pool, "fd00::/48")
	var want []provisioning.Range
	// Two Sites may have the same LAN; each gets a range of its own.
	for prefix, maps := range map[string]string{
		"10.64.1.0/24": "192.168.178.0/24", "10.64.2.0/24": "192.168.178.0/24", "10.64.3.7/32": "192.168.178.20/32",
		"fd00:0:0:1::/64": "fd12:3456::/64", "10.64.4.0/23": "10.64.4.0/23",
	} {
		want = append(want, mustCreateAs(t, s, mappedTo(prefix, maps)))
	}
	for _, r := range want {
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Ranges().ByID(r.ID)
			same(t, "mapped", r, got)
			return err
		})
	}
	view(t, s, func(tx store.Tx) error {
		got, err := tx.Ranges().Overlapping(netip.MustParsePrefix("192.168.178.0/24"))
		same(t, "where the LANs are", 0, len(got))
		return err
	})
}
