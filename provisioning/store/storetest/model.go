package storetest

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// plan is the naive address plan: a list, compared pair by pair.
type plan []provisioning.Range

// verdicts are the errors with which r may be refused; none means that it must be taken.
func (p plan) verdicts(r provisioning.Range) []error {
	inPool, hit := false, false
	planned := func(k provisioning.RangeKind) bool { return k == allocation || k == reserved }
	for _, o := range p {
		if !o.Prefix.Overlaps(r.Prefix) {
			continue
		}
		inPool = inPool || o.Kind == pool && o.Prefix.Bits() <= r.Prefix.Bits()
		hit = hit || r.Kind == pool && o.Kind == pool || planned(r.Kind) && planned(o.Kind) ||
			r.Kind == allocation && o.Kind == foreign || r.Kind == foreign && o.Kind == allocation
	}
	var out []error
	if hit {
		out = append(out, store.ErrOverlap)
	}
	if r.Kind == allocation && !inPool {
		out = append(out, store.ErrOutside)
	}
	return out
}

// inUse says whether r is a pool that holds an allocation.
func (p plan) inUse(r provisioning.Range) bool {
	return r.Kind == pool && slices.ContainsFunc(p, func(o provisioning.Range) bool {
		return o.Kind == allocation && o.Prefix.Overlaps(r.Prefix)
	})
}

// sorted is p in the order of Ranges.List.
func (p plan) sorted() plan {
	rank := func(r provisioning.Range) int {
		if r.Kind == pool {
			return 0
		}
		return 1
	}
	out := slices.Clone(p)
	slices.SortFunc(out, func(a, b provisioning.Range) int {
		if c := a.Prefix.Compare(b.Prefix); c != 0 {
			return c
		}
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return int(a.ID - b.ID)
	})
	return out
}

// anyPrefix draws from a few thousand addresses, so that ranges meet often. In IPv6 they lie across bit 64.
func anyPrefix() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		if rapid.Bool().Draw(t, "IPv6") {
			a := [16]byte{0xfd, 7: rapid.Byte().Draw(t, "a"), 8: rapid.Byte().Draw(t, "b")}
			return netip.PrefixFrom(netip.AddrFrom16(a), rapid.IntRange(56, 72).Draw(t, "bits")).Masked()
		}
		a := [4]byte{10, 64, rapid.Byte().Draw(t, "a"), rapid.Byte().Draw(t, "b")}
		return netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(16, 32).Draw(t, "bits")).Masked()
	})
}

// testRangeModel plays random plans against the naive one, each step in a transaction of its own.
func testRangeModel(t *testing.T, open func(*testing.T) store.Store) {
	s := open(t)
	prefixes := anyPrefix()
	kinds := rapid.SampledFrom([]provisioning.RangeKind{pool, allocation, allocation, allocation, reserved, foreign, foreign})
	rapid.Check(t, func(rt *rapid.T) {
		emptyPlan(t, s)
		var model plan
		for range 2 {
			r := provisioning.Range{Kind: pool, Prefix: rapid.SampledFrom([]netip.Prefix{
				netip.MustParsePrefix("10.64.0.0/16"), netip.MustParsePrefix("10.64.0.0/17"), netip.MustParsePrefix("fd00::/56"),
			}).Draw(rt, "pool")}
			if made, err := create(t, s, r); err == nil {
				model = append(model, made)
			}
		}
		at := now()
		pick := func(rt *rapid.T) int {
			if len(model) == 0 {
				rt.Skip("the plan is empty")
			}
			return rapid.IntRange(0, len(model)-1).Draw(rt, "which")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				r := provisioning.Range{Kind: kinds.Draw(rt, "kind"), Prefix: prefixes.Draw(rt, "prefix"), Owner: "site_x", Created: at}
				want := model.verdicts(r)
				got, err := create(t, s, r)
				switch {
				case len(want) == 0 && err == nil:
					model = append(model, got)
				case len(want) == 0:
					rt.Fatalf("%s %v: %v", r.Kind, r.Prefix, err)
				case !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }):
					rt.Fatalf("%s %v: got %v, want one of %v", r.Kind, r.Prefix, err, want)
				}
			},
			"remove": func(rt *rapid.T) {
				i := pick(rt)
				err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Ranges().Remove(model[i].ID) })
				if inUse := model.inUse(model[i]); inUse != errors.Is(err, store.ErrInUse) || !inUse && err != nil {
					rt.Fatalf("remove %s %v: %v", model[i].Kind, model[i].Prefix, err)
				} else if !inUse {
					model = slices.Delete(model, i, i+1)
				}
			},
			"quarantine": func(rt *rapid.T) {
				i := pick(rt)
				until := at.Add(time.Duration(rapid.IntRange(1, 5).Draw(rt, "hours")) * time.Hour)
				err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Ranges().Quarantine(model[i].ID, until) })
				if can := model[i].Kind == allocation || model[i].Kind == reserved; can != (err == nil) {
					rt.Fatalf("quarantine %s %v: %v", model[i].Kind, model[i].Prefix, err)
				} else if can {
					model[i].Owner, model[i].Until = "", until
				}
			},
			"sweep": func(rt *rapid.T) {
				at = at.Add(time.Hour)
				before := len(model)
				model = slices.DeleteFunc(model, func(r provisioning.Range) bool { return !r.Until.IsZero() && !r.Until.After(at) })
				var n int
				err := s.Update(t.Context(), func(tx store.Tx) (err error) {
					n, err = tx.Ranges().Sweep(at)
					return err
				})
				if err != nil || n != before-len(model) {
					rt.Fatalf("Sweep = %d, %v, want %d", n, err, before-len(model))
				}
			},
			"overlapping": func(rt *rapid.T) {
				p := prefixes.Draw(rt, "prefix")
				want := slices.DeleteFunc(model.sorted(), func(r provisioning.Range) bool { return !r.Prefix.Overlaps(p) })
				view(t, s, func(tx store.Tx) error {
					got, err := tx.Ranges().Overlapping(p)
					if err != nil || !slices.Equal(want, got) {
						rt.Fatalf("Overlapping(%v) = %v, %v, want %v", p, got, err, want)
					}
					return nil
				})
			},
			"": func(rt *rapid.T) {
				got := listRanges(t, s)
				if !slices.Equal(model.sorted(), got) {
					rt.Fatalf("the plan is %v, want %v", got, model.sorted())
				}
				disjoint(rt, got)
			},
		})
	})
}

// emptyPlan removes all ranges, pools last.
func emptyPlan(t *testing.T, s store.Store) {
	t.Helper()
	rows := listRanges(t, s)
	slices.SortStableFunc(rows, func(a, b provisioning.Range) int {
		switch {
		case a.Kind == pool && b.Kind != pool:
			return 1
		case a.Kind != pool && b.Kind == pool:
			return -1
		}
		return 0
	})
	update(t, s, func(tx store.Tx) error {
		for _, r := range rows {
			if err := tx.Ranges().Remove(r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
