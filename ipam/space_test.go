package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, pfx(s))
	}
	return out
}

func cmpPrefix() cmp.Option { return cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }) }

func mustSpace(t *testing.T, pool string, taken ...string) *Space {
	t.Helper()
	s, err := NewSpace(pfx(pool), prefixes(taken...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFindTakesTheSmallestBuddyThatFits(t *testing.T) {
	tests := []struct {
		name  string
		pool  string
		taken []string
		bits  int
		want  string
	}{
		{"empty pool", "10.64.0.0/16", nil, 24, "10.64.0.0/24"},
		{"whole pool", "10.64.0.0/16", nil, 16, "10.64.0.0/16"},
		{"next to the first", "10.64.0.0/16", []string{"10.64.0.0/24"}, 24, "10.64.1.0/24"},
		{"smaller hole before larger, even behind it", "10.64.0.0/16", []string{"10.64.0.0/18", "10.64.192.0/19"}, 19, "10.64.224.0/19"},
		{"lowest on ties", "10.64.0.0/16", []string{"10.64.1.0/24", "10.64.3.0/24"}, 24, "10.64.0.0/24"},
		{"foreign range larger than the pool elsewhere", "10.64.0.0/16", []string{"10.0.0.0/11"}, 24, "10.64.0.0/24"},
		{"nested foreign ranges", "10.64.0.0/16", []string{"10.64.0.0/17", "10.64.0.0/24", "10.64.5.0/24"}, 17, "10.64.128.0/17"},
		{"single address", "10.64.0.0/30", []string{"10.64.0.0/32", "10.64.0.1/32", "10.64.0.3/32"}, 32, "10.64.0.2/32"},
		{"unique local", "fd00:1:2::/48", []string{"fd00:1:2::/64", "fd00:1:2:2::/64"}, 64, "fd00:1:2:1::/64"},
		{"one address of IPv6", "fd00::/48", []string{"fd00::/128"}, 128, "fd00::1/128"},
		{"the other family does not matter", "10.64.0.0/16", []string{"fd00::/8"}, 20, "10.64.0.0/20"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mustSpace(t, tt.pool, tt.taken...).Find(tt.bits)
			if err != nil || got != pfx(tt.want) {
				t.Errorf("Find(%d) = %v, %v, want %s", tt.bits, got, err, tt.want)
			}
		})
	}
}

func TestFindSaysWhatIsLeft(t *testing.T) {
	s := mustSpace(t, "10.64.0.0/16", "10.64.0.0/17", "10.64.128.0/20")
	_, err := s.Find(17)
	full, ok := errors.AsType[*FullError](err)
	if !ok || full.Largest != pfx("10.64.192.0/18") {
		t.Errorf("got %v, want a FullError with the free 10.64.192.0/18", err)
	}
	if err := s.Take(pfx("10.0.0.0/8")); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Find(32); err == nil || err.Error() != "the pool 10.64.0.0/16 is full" {
		t.Errorf("got %v, want a full pool", err)
	}
	for _, bits := range []int{15, 33, -1} {
		if _, err := s.Find(bits); !errors.Is(err, ErrMalformed) {
			t.Errorf("Find(%d) = %v, want ErrMalformed", bits, err)
		}
	}
}

func TestSpaceRefusesMalformed(t *testing.T) {
	bad := []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 24), pfx("::ffff:10.0.0.0/104")}
	s := mustSpace(t, "10.64.0.0/16")
	for _, p := range bad {
		if _, err := NewSpace(p); !errors.Is(err, ErrMalformed) {
			t.Errorf("NewSpace(%v) = %v, want ErrMalformed", p, err)
		}
		if err := s.Take(p); !errors.Is(err, ErrMalformed) {
			t.Errorf("Take(%v) = %v, want ErrMalformed", p, err)
		}
		if err := s.Release(p); !errors.Is(err, ErrMalformed) {
			t.Errorf("Release(%v) = %v, want ErrMalformed", p, err)
		}
	}
	if _, err := NewSpace(pfx("0.0.0.0/0")); !errors.Is(err, ErrMalformed) {
		t.Errorf("a pool of all addresses: got %v, want ErrMalformed", err)
	}
}

func TestReleaseNeedsATake(t *testing.T) {
	s := mustSpace(t, "10.64.0.0/16", "10.64.0.0/24", "10.64.0.0/24")
	for i, want := range []bool{true, true, false} {
		err := s.Release(pfx("10.64.0.0/24"))
		if _, refused := errors.AsType[*NotTakenError](err); refused == want {
			t.Errorf("release %d: %v", i, err)
		}
	}
	if err := s.Release(pfx("10.64.0.0/25")); err == nil {
		t.Error("a half of nothing was released")
	}
	if err := s.Release(pfx("192.168.0.0/24")); err != nil {
		t.Errorf("outside the pool: %v", err)
	}
}

func TestGrow(t *testing.T) {
	s := mustSpace(t, "10.64.0.0/16", "10.64.0.0/24", "10.64.1.0/24", "10.64.4.0/24", "10.64.12.7/32")
	if got, err := s.Grow(pfx("10.64.4.0/24"), 22); err != nil || got != pfx("10.64.4.0/22") {
		t.Errorf("got %v, %v, want 10.64.4.0/22", got, err)
	}
	_, err := s.Grow(pfx("10.64.4.0/24"), 20)
	if o, ok := errors.AsType[*OverlapError](err); !ok || o.Prefix != pfx("10.64.0.0/20") {
		t.Errorf("got %v, want an OverlapError of 10.64.0.0/20", err)
	}
	if _, err := s.Grow(pfx("10.64.5.0/24"), 23); err == nil {
		t.Error("a prefix that is not taken grew")
	}
	if _, err := s.Grow(pfx("10.64.4.0/24"), 25); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed for a longer prefix", err)
	}
	if with, hit := s.Meets(pfx("10.64.4.0/24")); !hit || with != pfx("10.64.4.0/24") {
		t.Errorf("growing changed the space: %v, %v", with, hit)
	}
}

func TestUsage(t *testing.T) {
	s := mustSpace(t, "10.64.0.0/16", "10.64.0.0/17", "10.64.128.0/18", "10.64.192.0/24")
	u := s.Usage()
	if want := 0.75 + 1.0/256; u.Taken != want {
		t.Errorf("taken %v, want %v", u.Taken, want)
	}
	if u.Blocks != 6 || u.Largest != pfx("10.64.224.0/19") {
		t.Errorf("got %+v", u)
	}
	if err := s.Take(pfx("10.64.0.0/16")); err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u != (Usage{Taken: 1}) {
		t.Errorf("a full pool: %+v", u)
	}
}

// model is the naive Space: a list of what is taken, and every aligned block of a small pool tried in turn.
type model struct {
	pool netip.Prefix
	// longest is the longest prefix that was ever taken, so that nothing free is longer.
	longest int
	took    []netip.Prefix
}

func (m *model) isFree(p netip.Prefix) bool {
	return !slices.ContainsFunc(m.took, func(q netip.Prefix) bool { return q.Overlaps(p) })
}

// blocks lists all aligned blocks of one length in the pool.
func (m *model) blocks(bits int) []netip.Prefix {
	var out []netip.Prefix
	for p := netip.PrefixFrom(m.pool.Addr(), bits); m.pool.Contains(p.Addr()); {
		out = append(out, p)
		next := lastAddr(p).Next()
		if !next.IsValid() {
			break
		}
		p = netip.PrefixFrom(next, bits)
	}
	return out
}

// free lists the maximal free blocks: free, and the block one bit shorter is not.
func (m *model) free() []netip.Prefix {
	var out []netip.Prefix
	for bits := m.pool.Bits(); bits <= m.longest; bits++ {
		for _, p := range m.blocks(bits) {
			up := netip.PrefixFrom(p.Addr(), bits-1).Masked()
			if m.isFree(p) && (bits == m.pool.Bits() || !m.isFree(up)) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

func (m *model) find(bits int) netip.Prefix {
	var best netip.Prefix
	for _, p := range m.free() {
		if p.Bits() <= bits && (!best.IsValid() || p.Bits() > best.Bits()) {
			best = p
		}
	}
	if !best.IsValid() {
		return best
	}
	return netip.PrefixFrom(best.Addr(), bits)
}

// TestSpaceAgainstModel runs small pools at places where words end: the last addresses of IPv4, across bit 64 of IPv6 and at
// its end.
func TestSpaceAgainstModel(t *testing.T) {
	pools := prefixes("10.64.0.0/24", "255.255.255.0/24", "fd00:0:0:ff00::/56", "fd00::/60", "fd00::ff00/120")
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.SampledFrom(pools).Draw(t, "pool")
		// The model counts blocks down to depth bits below the pool.
		depth := 8
		if pool.Bits() < 64 {
			depth = 6
		}
		m := &model{pool: pool, longest: pool.Bits() + depth}
		s, err := NewSpace(pool)
		if err != nil {
			t.Fatal(err)
		}
		longest := m.longest
		anyPrefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			bits := rapid.IntRange(pool.Bits()-1, longest).Draw(t, "bits")
			b := blockOf(pool)
			for i := pool.Bits(); i < bits; i++ {
				b = b.half(rapid.IntRange(0, 1).Draw(t, "bit"))
			}
			return netip.PrefixFrom(b.prefix(FamilyOf(pool)).Addr(), bits).Masked()
		})
		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				bits := rapid.IntRange(pool.Bits(), longest).Draw(t, "length")
				got, err := s.Allocate(bits)
				want := m.find(bits)
				if (err == nil) != want.IsValid() || err == nil && got != want {
					t.Fatalf("Allocate(%d) = %v, %v, the model says %v", bits, got, err, want)
				}
				if err == nil {
					m.took = append(m.took, got)
				}
			},
			"take": func(t *rapid.T) {
				p := anyPrefix.Draw(t, "prefix")
				if err := s.Take(p); err != nil {
					t.Fatal(err)
				}
				m.took = append(m.took, p)
			},
			"release": func(t *rapid.T) {
				if len(m.took) == 0 {
					t.Skip("nothing taken")
				}
				i := rapid.IntRange(0, len(m.took)-1).Draw(t, "which")
				if err := s.Release(m.took[i]); err != nil {
					t.Fatal(err)
				}
				m.took = slices.Delete(m.took, i, i+1)
			},
			"meets": func(t *rapid.T) {
				p := anyPrefix.Draw(t, "prefix")
				with, hit := s.Meets(p)
				if hit == m.isFree(p) {
					t.Fatalf("Meets(%v) = %v, %v", p, with, hit)
				}
				if hit && (!with.Overlaps(p) || m.isFree(with)) {
					t.Fatalf("Meets(%v) names %v, which is not taken or not in the way", p, with)
				}
			},
			"": func(t *rapid.T) {
				want := m.free()
				if diff := cmp.Diff(want, slices.Collect(s.Free()), cmpPrefix()); diff != "" {
					t.Fatalf("free blocks (-model +space):\n%s", diff)
				}
			},
		})
		for len(m.took) > 0 {
			if err := s.Release(m.took[0]); err != nil {
				t.Fatal(err)
			}
			m.took = m.took[1:]
		}
		if s.root.child[0] != nil || s.root.child[1] != nil {
			t.Fatal("an empty space keeps nodes")
		}
	})
}
