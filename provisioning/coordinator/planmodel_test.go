package coordinator_test

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// model is the plan as a list. Everything about it is found out by comparing each with each, and it shares no code with what it is
// compared to: where a range goes is decided by trying every block of a pool.
type model struct {
	rows       []row
	sites      []string
	nodes      []modelNode
	now        time.Time
	quarantine time.Duration
}

// row is a range with the name of its owner.
type row struct {
	kind    provisioning.RangeKind
	prefix  netip.Prefix
	owner   string
	purpose provisioning.RangePurpose
	label   string
	until   time.Time
}

type modelNode struct {
	site            string
	address, former netip.Addr
}

func (m *model) clone() *model {
	c := *m
	c.rows, c.sites, c.nodes = slices.Clone(m.rows), slices.Clone(m.sites), slices.Clone(m.nodes)
	return &c
}

// The codes of refusals; "" is none.
const (
	fine     = provisioning.Code("")
	invalid  = provisioning.Invalid
	conflict = provisioning.Conflict
	notFound = provisioning.NotFound
)

func inside(inner, outer netip.Prefix) bool {
	return outer.Addr().BitLen() == inner.Addr().BitLen() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func (r row) taken() bool {
	return r.kind == provisioning.RangeAllocation || r.kind == provisioning.RangeReserved
}

func (m *model) sweep() {
	m.rows = slices.DeleteFunc(m.rows, func(r row) bool { return r.owner == "" && !r.until.IsZero() && !r.until.After(m.now) })
}

// meets is the second rule, "one exclusion over everything", for two ranges that overlap.
func meets(a, b row) bool {
	is := func(x, y provisioning.RangeKind) bool {
		return a.kind == x && b.kind == y || a.kind == y && b.kind == x
	}
	const pool, alloc, res = provisioning.RangePool, provisioning.RangeAllocation, provisioning.RangeReserved
	switch {
	case !a.prefix.Overlaps(b.prefix):
		return false
	case is(pool, pool):
		return a.prefix == b.prefix
	case is(pool, alloc):
		p, x := a, b
		if a.kind == alloc {
			p, x = b, a
		}
		return x.prefix.Bits() < p.prefix.Bits()
	case a.kind == pool || b.kind == pool:
		return is(pool, provisioning.RangeLAN)
	case a.kind == alloc || b.kind == alloc:
		return true
	case is(res, res):
		return true
	}
	return is(provisioning.RangeLAN, provisioning.RangeLAN) && a.prefix == b.prefix && a.owner == b.owner
}

// pools are in the order of the plan.
func (m *model) pools() []netip.Prefix {
	var out []netip.Prefix
	for _, r := range m.rows {
		if r.kind == provisioning.RangePool {
			out = append(out, r.prefix)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

// around are the pools that hold p, the narrowest first.
func (m *model) around(p netip.Prefix) []netip.Prefix {
	out := slices.DeleteFunc(m.pools(), func(q netip.Prefix) bool { return !inside(p, q) })
	slices.SortFunc(out, func(a, b netip.Prefix) int { return cmp.Compare(b.Bits(), a.Bits()) })
	return out
}

func (m *model) home(p netip.Prefix) netip.Prefix {
	if a := m.around(p); len(a) > 0 {
		return a[0]
	}
	return netip.Prefix{}
}

// put adds a row, or says why not.
func (m *model) put(r row) provisioning.Code {
	if r.kind == provisioning.RangeAllocation && !m.home(r.prefix).IsValid() {
		return invalid
	}
	for _, o := range m.rows {
		if meets(r, o) || r.label != "" && o.label == r.label {
			return conflict
		}
	}
	m.rows = append(m.rows, r)
	return fine
}

// free reports whether nothing of a pool was given to somebody in p, or to a narrower pool.
func (m *model) free(pool, p netip.Prefix) bool {
	return !slices.ContainsFunc(m.rows, func(r row) bool {
		if r.kind == provisioning.RangePool && (r.prefix == pool || !inside(r.prefix, pool)) {
			return false
		}
		return r.prefix.Overlaps(p)
	})
}

// blocks are all of a length in p, by address.
func blocks(p netip.Prefix, bits int) []netip.Prefix {
	var out []netip.Prefix
	for a := p.Addr(); p.Contains(a); {
		q := netip.PrefixFrom(a, bits)
		out = append(out, q)
		a = plus(a, hostsIn(q))
	}
	return out
}

func plus(a netip.Addr, n *big.Int) netip.Addr {
	sum := new(big.Int).Add(new(big.Int).SetBytes(a.AsSlice()), n)
	if sum.BitLen() > a.BitLen() {
		return netip.Addr{}
	}
	out, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, a.BitLen()/8)))
	return out
}

func hostsIn(p netip.Prefix) *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
}

// find is best fit: of the free blocks that are in no larger free block and large enough, the smallest, and the lowest of these.
func (m *model) find(pool netip.Prefix, bits int) (netip.Prefix, bool) {
	for length := bits; length >= pool.Bits(); length-- {
		for _, b := range blocks(pool, length) {
			larger := netip.PrefixFrom(b.Addr(), length-1).Masked()
			if m.free(pool, b) && (length == pool.Bits() || !m.free(pool, larger)) {
				return netip.PrefixFrom(b.Addr(), bits), true
			}
		}
	}
	return netip.Prefix{}, false
}

// bitsOf is the shortest range with room for so many hosts, by counting them.
func bitsOf(s coordinator.Size, p netip.Prefix) int {
	if s.Bits != 0 {
		return s.Bits
	}
	for bits := p.Addr().BitLen(); ; bits-- {
		n := 1 << (p.Addr().BitLen() - bits)
		switch {
		case n > 2 && p.Addr().Is4():
			n -= 2
		case n > 2:
			n--
		}
		if n >= s.Hosts {
			return bits
		}
	}
}

// choose tries the pool, or all: the outermost first.
func (m *model) choose(pool netip.Prefix, s coordinator.Size, width int) (netip.Prefix, provisioning.Code) {
	pools := m.pools()
	if pool.IsValid() {
		if !slices.Contains(pools, pool) {
			return netip.Prefix{}, notFound
		}
		pools = []netip.Prefix{pool}
	}
	for depth := 1; depth <= len(m.pools()); depth++ {
		for _, p := range pools {
			if len(m.around(p)) != depth || width != 0 && p.Addr().BitLen() != width {
				continue
			}
			if bits := bitsOf(s, p); bits >= p.Bits() && bits <= p.Addr().BitLen() {
				if q, ok := m.find(p, bits); ok {
					return q, fine
				}
			}
		}
	}
	return netip.Prefix{}, conflict
}

// allocate is for what an owner gets, by range or by size.
func (m *model) allocate(r row, pool netip.Prefix, s coordinator.Size) (netip.Prefix, provisioning.Code) {
	if !r.prefix.IsValid() {
		p, code := m.choose(pool, s, 0)
		if code != fine {
			return p, code
		}
		r.prefix = p
		return p, m.put(r)
	}
	for _, o := range slices.Clone(m.rows) {
		if o.kind != provisioning.RangeReserved || o.owner != r.owner || !o.prefix.Overlaps(r.prefix) {
			continue
		}
		if o.prefix == r.prefix && r.label == "" {
			r.label = o.label
		}
		m.drop(o)
		// What is left: halve the reservation and keep the half that is not asked for.
		for whole := o.prefix; whole.Bits() < r.prefix.Bits(); {
			halves := blocks(whole, whole.Bits()+1)
			if inside(r.prefix, halves[1]) {
				slices.Reverse(halves)
			}
			whole = halves[0]
			m.rows = append(m.rows, row{kind: o.kind, prefix: halves[1], owner: o.owner, label: o.label})
			o.label = ""
		}
	}
	return r.prefix, m.put(r)
}

func (m *model) drop(r row) {
	m.rows = slices.DeleteFunc(m.rows, func(o row) bool { return o == r })
}

// release quarantines, or removes if that shall not be.
func (m *model) release(r row, now bool) {
	m.drop(r)
	if !now && m.quarantine > 0 {
		r.owner, r.label, r.until = "", "", m.now.Add(m.quarantine)
		m.rows = append(m.rows, r)
	}
}

// overlay are a site's own ranges for boxes, in the order of the plan.
func (m *model) overlay(site string, ending bool) []row {
	var out []row
	for _, r := range m.rows {
		if r.kind == provisioning.RangeAllocation && r.purpose == provisioning.PurposeOverlay && r.owner == site && r.until.IsZero() != ending {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.prefix.Addr().BitLen(), b.prefix.Addr().BitLen()), a.prefix.Addr().Compare(b.prefix.Addr()))
	})
	return out
}
