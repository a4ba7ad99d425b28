package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// planModel is the naive Plan: two lists.
type planModel struct{ pools, took []netip.Prefix }

// depth is how many bits below the shortest prefix anything in a model goes.
const depth = 7

func (m *planModel) poolOf(q netip.Prefix) (netip.Prefix, bool) {
	var best netip.Prefix
	for _, pool := range m.pools {
		if holds(pool, q) && (!best.IsValid() || best.Bits() < pool.Bits()) {
			best = pool
		}
	}
	return best, best.IsValid()
}

// space is the model of one pool.
func (m *planModel) space(pool netip.Prefix, longest int) *model {
	s := &model{pool: pool, longest: longest, took: slices.Clone(m.took)}
	for _, o := range m.pools {
		if o != pool && holds(pool, o) {
			s.took = append(s.took, o)
		}
	}
	return s
}

func (m *planModel) find(bits, longest int, in []netip.Prefix) netip.Prefix {
	for _, pool := range in {
		if q := m.space(pool, longest).find(bits); q.IsValid() && bits >= pool.Bits() {
			return q
		}
	}
	return netip.Prefix{}
}

func (m *planModel) findBeside(q netip.Prefix, bits, longest int) netip.Prefix {
	pool, ok := m.poolOf(q)
	if !ok {
		return netip.Prefix{}
	}
	s := m.space(pool, longest)
	for n := q.Bits(); n > pool.Bits(); n-- {
		around := netip.PrefixFrom(q.Addr(), n-1).Masked()
		for _, half := range s.blocks(n) {
			if holds(around, half) && !holds(half, q) && n <= bits && s.isFree(half) {
				return netip.PrefixFrom(half.Addr(), bits)
			}
		}
	}
	return m.find(bits, longest, []netip.Prefix{pool})
}

func (m *planModel) grow(q netip.Prefix, bits int, own []netip.Prefix) netip.Prefix {
	pool, ok := m.poolOf(q)
	wide := netip.PrefixFrom(q.Addr(), bits).Masked()
	if !ok || !holds(pool, wide) || !slices.Contains(m.took, q) || bits > q.Bits() {
		return netip.Prefix{}
	}
	may := slices.Clone(own)
	if !slices.Contains(may, q) {
		may = append(may, q)
	}
	rest := slices.Clone(m.took)
	for _, o := range may {
		i := slices.Index(rest, o)
		if i < 0 {
			return netip.Prefix{}
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, o := range m.pools {
		if o != pool && holds(wide, o) {
			return netip.Prefix{}
		}
	}
	if slices.ContainsFunc(rest, wide.Overlaps) {
		return netip.Prefix{}
	}
	return wide
}

// TestPlanAgainstModel nests pools and what is taken in the last addresses of IPv4 and across bit 64 of IPv6.
func TestPlanAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := rapid.SampledFrom(prefixes("255.255.255.128/25", "10.0.0.0/24", "fd00:0:0:ff80::/61")).Draw(t, "root")
		longest := root.Bits() + depth
		within := func(shortest int) *rapid.Generator[netip.Prefix] {
			return rapid.Custom(func(t *rapid.T) netip.Prefix {
				b := blockOf(root)
				for range rapid.IntRange(shortest, depth).Draw(t, "bits") {
					b = b.half(rapid.IntRange(0, 1).Draw(t, "bit"))
				}
				return b.prefix(FamilyOf(root))
			})
		}
		length := rapid.IntRange(root.Bits(), longest)
		p, m := NewPlan(), &planModel{}
		t.Repeat(map[string]func(*rapid.T){
			"add pool": func(t *rapid.T) {
				q := within(0).Draw(t, "pool")
				if err := p.AddPool(q); (err != nil) != slices.Contains(m.pools, q) {
					t.Fatal(err)
				} else if err == nil {
					m.pools = append(m.pools, q)
				}
			},
			"remove pool": func(t *rapid.T) {
				q := within(0).Draw(t, "pool")
				if len(m.pools) > 0 && rapid.Bool().Draw(t, "known") {
					q = rapid.SampledFrom(m.pools).Draw(t, "which")
				}
				i := slices.Index(m.pools, q)
				if err := p.RemovePool(q); (err == nil) != (i >= 0) {
					t.Fatal(err)
				} else if i >= 0 {
					m.pools = slices.Delete(m.pools, i, i+1)
				}
			},
			"take": func(t *rapid.T) {
				q := within(0).Draw(t, "prefix")
				if rapid.IntRange(0, 9).Draw(t, "around") == 0 {
					q = netip.PrefixFrom(root.Addr(), root.Bits()-8).Masked()
				}
				if err := p.Take(q); err != nil {
					t.Fatal(err)
				}
				m.took = append(m.took, q)
			},
			"release": func(t *rapid.T) {
				q := within(0).Draw(t, "prefix")
				if len(m.took) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
					q = rapid.SampledFrom(m.took).Draw(t, "which")
				}
				i := slices.Index(m.took, q)
				if err := p.Release(q); (err == nil) != (i >= 0) {
					t.Fatal(err)
				} else if i >= 0 {
					m.took = slices.Delete(m.took, i, i+1)
				}
			},
			"find": func(t *rapid.T) {
				if len(m.pools) == 0 {
					t.Skip("no pool")
				}
				in := rapid.SliceOfN(rapid.SampledFrom(m.pools), 1, 3).Draw(t, "in")
				bits := length.Draw(t, "length")
				got, err := p.Find(bits, in...)
				if want := m.find(bits, longest, in); got != want || (err == nil) != want.IsValid() {
					t.Fatalf("Find(%d, %v) = %v, %v, the model says %v", bits, in, got, err, want)
				}
			},
			"find beside": func(t *rapid.T) {
				q, bits := within(0).Draw(t, "prefix"), length.Draw(t, "length")
				got, err := p.FindBeside(q, bits)
				if want := m.findBeside(q, bits, longest); got != want || (err == nil) != want.IsValid() {
					t.Fatalf("FindBeside(%v, %d) = %v, %v, the model says %v", q, bits, got, err, want)
				}
			},
			"grow": func(t *rapid.T) {
				q, bits := within(0).Draw(t, "prefix"), length.Draw(t, "length")
				var own []netip.Prefix
				if len(m.took) > 0 {
					q = rapid.SampledFrom(m.took).Draw(t, "which")
					own = rapid.SliceOfNDistinct(rapid.SampledFrom(m.took), 0, 3, rapid.ID[netip.Prefix]).Draw(t, "own")
				}
				got, err := p.Grow(q, bits, own...)
				if want := m.grow(q, bits, own); got != want || (err == nil) != want.IsValid() {
					t.Fatalf("Grow(%v, %d, %v) = %v, %v, the model says %v", q, bits, own, got, err, want)
				}
			},
			"": func(t *rapid.T) { compare(t, p, m, longest) },
		})
	})
}

// compare holds all that can be read of a plan against the model.
func compare(t *rapid.T, p *Plan, m *planModel, longest int) {
	var tree []PoolNode
	for _, pool := range slices.SortedFunc(slices.Values(m.pools), netip.Prefix.Compare) {
		n := PoolNode{Prefix: pool}
		for _, o := range m.pools {
			if o == pool || !holds(o, pool) {
				continue
			}
			if n.Depth++; !n.Parent.IsValid() || n.Parent.Bits() < o.Bits() {
				n.Parent = o
			}
		}
		tree = append(tree, n)
	}
	if got := slices.Collect(p.Pools()); !slices.Equal(got, tree) {
		t.Fatalf("pools are %v, the model says %v", got, tree)
	}
	for _, pool := range m.pools {
		s, ok := p.Space(pool)
		if !ok {
			t.Fatalf("no space for %v", pool)
		}
		naive := m.space(pool, longest)
		if diff := cmp.Diff(naive.free(), slices.Collect(s.Free()), cmpPrefix()); diff != "" {
			t.Fatalf("free blocks of %v (-model +plan):\n%s", pool, diff)
		}
		parts := 1 << min(3, longest-pool.Bits())
		strip := make([]float64, parts)
		for i, part := range naive.blocks(pool.Bits() + min(3, longest-pool.Bits())) {
			all := (&model{pool: part}).blocks(longest)
			for _, one := range all {
				if !naive.isFree(one) {
					strip[i] += 1 / float64(len(all))
				}
			}
		}
		if got := s.Strip(parts); !slices.Equal(got, strip) {
			t.Fatalf("the strip of %v is %v, the model says %v", pool, got, strip)
		}
		for bits := pool.Bits(); bits <= longest; bits++ {
			n := uint64(0)
			for _, q := range naive.blocks(bits) {
				if naive.isFree(q) {
					n++
				}
			}
			if got := s.Fits(bits); got != n {
				t.Fatalf("%d /%d fit into %v, the model says %d", got, bits, pool, n)
			}
		}
	}
}

// FuzzPlan runs a program of three bytes for each step on a plan of both families and holds it against itself: what Find returns is free,
// in every pool around it, and in the end an empty plan has all room again.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{0, 1, 8, 2, 4, 20, 4, 0, 24, 1, 1, 8})
	f.Add([]byte{0, 0, 1, 0, 0, 3, 2, 0, 2, 3, 0, 2, 1, 0, 1, 5, 7, 40})
	f.Fuzz(func(t *testing.T, program []byte) {
		p := NewPlan()
		pools, took := map[netip.Prefix]bool{}, map[netip.Prefix]int{}
		for ; len(program) >= 3 && len(pools)+len(took) < 60; program = program[3:] {
			q := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, program[1] & 0xf0, program[1] << 4}), int(program[2])%33).Masked()
			if program[0]&0x80 != 0 {
				q = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 7: program[1], 8: program[1]}), int(program[2])%129).Masked()
			}
			step(t, p, program[0]&0x7f%5, q, pools, took)
		}
		for q, n := range took {
			for range n {
				if err := p.Release(q); err != nil {
					t.Fatal(err)
				}
			}
		}
		for q := range pools {
			if err := p.RemovePool(q); err != nil {
				t.Fatal(err)
			}
			if err := p.AddPool(q); err != nil {
				t.Fatal(err)
			}
		}
		for q := range pools {
			if s, _ := p.Space(q); len(pools) == 1 && s.Fits(q.Bits()) != 1 {
				t.Fatalf("the empty %v is not free", q)
			}
		}
	})
}

// step is one of FuzzPlan.
func step(t *testing.T, p *Plan, op byte, q netip.Prefix, pools map[netip.Prefix]bool, took map[netip.Prefix]int) {
	switch op {
	case 0:
		if err := p.AddPool(q); (err == nil) != (q.Bits() > 0 && !pools[q]) {
			t.Fatalf("AddPool(%v): %v", q, err)
		} else if err == nil {
			pools[q] = true
		}
	case 1:
		if err := p.RemovePool(q); (err == nil) != pools[q] {
			t.Fatalf("RemovePool(%v): %v", q, err)
		}
		delete(pools, q)
	case 2:
		if err := p.Take(q); err != nil {
			t.Fatal(err)
		}
		took[q]++
	case 3:
		if err := p.Release(q); (err == nil) != (took[q] > 0) {
			t.Fatalf("Release(%v): %v", q, err)
		} else if err == nil {
			took[q]--
		}
	default:
		pool, ok := p.PoolOf(q)
		if !ok {
			return
		}
		found, err := p.FindBeside(q, q.Bits())
		if err != nil {
			return
		}
		for o, n := range took {
			if n > 0 && o.Overlaps(found) {
				t.Fatalf("%v is in %v, which is taken", found, o)
			}
		}
		for o := range pools {
			if o != pool && o.Overlaps(found) && !holds(o, pool) || !holds(pool, found) {
				t.Fatalf("%v of the pool %v is in the narrower %v", found, pool, o)
			}
		}
	}
}

// planOf is a plan of 16 pools in one, with n prefixes taken.
func planOf(b *testing.B, n int) (*Plan, []netip.Prefix) {
	b.Helper()
	p := NewPlan()
	pools := prefixes("10.0.0.0/8")
	for i := range 16 {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i * 16)}), 12))
	}
	for _, q := range pools {
		if err := p.AddPool(q); err != nil {
			b.Fatal(err)
		}
	}
	var made []netip.Prefix
	for i := range n {
		q, err := p.Find(26+i%4, pools[1+i%16])
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Take(q); err != nil {
			b.Fatal(err)
		}
		made = append(made, q)
	}
	return p, made
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		p, made := planOf(b, n)
		pools := slices.Collect(p.Pools())
		var ranges []netip.Prefix
		for _, q := range pools[1:] {
			ranges = append(ranges, q.Prefix)
		}
		b.Run(fmt.Sprintf("find-take-release/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				q, err := p.Find(25+i%6, ranges[i%16:]...)
				if err == nil {
					err = p.Take(q)
				}
				if err == nil {
					err = p.Release(q)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("find-beside/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := p.FindBeside(made[i%n], 26); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("grow/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if q, err := p.Grow(made[i%n], made[i%n].Bits()-1); err == nil && q.Bits() >= made[i%n].Bits() {
					b.Fatal(q)
				}
			}
		})
		b.Run(fmt.Sprintf("build/%d", n), func(b *testing.B) {
			for b.Loop() {
				planOf(b, n)
			}
		})
		s, _ := p.Space(ranges[3])
		b.Run(fmt.Sprintf("strip-and-fits/%d", n), func(b *testing.B) {
			for b.Loop() {
				s.Strip(64)
				s.Fits(24)
			}
		})
	}
}
