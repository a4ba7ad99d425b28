package storetest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// past makes the i-th event of a test.
func past(i int, r provisioning.Range) provisioning.RangeEvent {
	return provisioning.RangeEvent{
		At: now().Add(time.Duration(i)), Actor: "operator:anna", Action: provisioning.RangeCreated, Range: r, OwnerName: "praxis-nord",
	}
}

func appendPast(t *testing.T, s store.Store, ranges ...provisioning.Range) (out []provisioning.RangeEvent) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		for i, r := range ranges {
			e, err := tx.History().Append(past(i, r))
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	return out
}

func testHistory(t *testing.T, s store.Store) {
	full := mappedTo("10.64.1.0/24", "192.168.178.0/24")
	full.ID, full.Label, full.Note, full.Until = 77, "x-ray", "größer\x00\\", now().Add(time.Hour)
	bare := provisioning.Range{ID: 78, Kind: foreign, Prefix: netip.MustParsePrefix("10.64.1.0/25")}
	six := RangeOf(allocation, "fd00:0:0:1::/64")
	// The history has no rules: the same range, label and owner again and again.
	made := appendPast(t, s, RangeOf(pool, "10.64.0.0/16"), full, bare, RangeOf(reserved, "10.64.2.0/24"), full, six, RangeOf(foreign, "0.0.0.0/0"),
		RangeOf(foreign, "10.64.1.0/32"))
	for i, e := range made {
		want := past(i, e.Range)
		want.Seq = uint64(i + 1)
		same(t, "appended", want, e)
	}
	pick := func(seqs ...int) (out []provisioning.RangeEvent) {
		for _, i := range seqs {
			out = append(out, made[i-1])
		}
		return out
	}
	for _, tt := range []struct {
		prefix string
		limit  int
		want   []provisioning.RangeEvent
	}{
		{"10.64.1.0/24", 100, pick(1, 2, 3, 5, 7, 8)},
		{"10.64.1.7/32", 100, pick(1, 2, 3, 5, 7)},
		{"10.64.1.200/32", 100, pick(1, 2, 5, 7)},
		{"10.64.2.0/23", 100, pick(1, 4, 7)},
		{"0.0.0.0/0", 100, pick(1, 2, 3, 4, 5, 7, 8)},
		{"11.0.0.0/8", 100, pick(7)},
		{"fd00::/48", 100, pick(6)},
		{"fd00:0:0:1::7/128", 100, pick(6)},
		{"fd01::/48", 100, nil},
		{"::/0", 100, pick(6)},
		{"10.64.1.0/24", 3, pick(5, 7, 8)},
		{"10.64.1.0/24", 1, pick(8)},
		{"10.64.1.0/24", 0, nil},
		{"10.64.1.0/24", -1, nil},
	} {
		view(t, s, func(tx store.Tx) error {
			got, err := tx.History().Overlapping(netip.MustParsePrefix(tt.prefix), tt.limit)
			same(t, fmt.Sprintf("%s, %d", tt.prefix, tt.limit), tt.want, got)
			return err
		})
	}
}

func testHistoryErrors(t *testing.T, s store.Store) {
	good := past(0, RangeOf(pool, "10.64.0.0/16"))
	for what, change := range map[string]func(*provisioning.RangeEvent){
		"no time":   func(e *provisioning.RangeEvent) { e.At = time.Time{} },
		"no prefix": func(e *provisioning.RangeEvent) { e.Range.Prefix = netip.Prefix{} },
		"host bits": func(e *provisioning.RangeEvent) { e.Range.Prefix = netip.MustParsePrefix("10.64.0.1/16") },
		"no range":  func(e *provisioning.RangeEvent) { e.Range.Maps = e.Range.Prefix },
	} {
		bad := good
		change(&bad)
		if err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.History().Append(bad); return err }); err == nil {
			t.Errorf("%s: appended", what)
		}
	}
	if err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.History().Append(good); return err }); err == nil {
		t.Error("appended inside View")
	}
	refused(t, s, errGiveUp, "given up", func(tx store.Tx) error {
		if _, err := tx.History().Append(good); err != nil {
			return err
		}
		return errGiveUp
	})
	if made := appendPast(t, s, good.Range); made[0].Seq != 1 {
		t.Errorf("the first event that stayed has number %d", made[0].Seq)
	}
	view(t, s, func(tx store.Tx) error {
		if _, err := tx.History().Overlapping(netip.Prefix{}, 1); err == nil {
			t.Error("no prefix has a history")
		}
		return nil
	})
}
