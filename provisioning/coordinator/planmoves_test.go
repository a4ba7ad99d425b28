package coordinator_test

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// beside is where a reservation goes that a site may grow into.
func (m *model) beside(site string, pool netip.Prefix, s coordinator.Size) (netip.Prefix, provisioning.Code) {
	for _, q := range m.overlay(site, false) {
		home := m.home(q.prefix)
		if pool.IsValid() && home != pool {
			continue
		}
		bits := bitsOf(s, q.prefix)
		if bits > q.prefix.Addr().BitLen() {
			break
		}
		for length := min(bits, q.prefix.Bits()); length > home.Bits(); length-- {
			// The sibling is the other half of the block one bit shorter.
			for _, b := range blocks(netip.PrefixFrom(q.prefix.Addr(), length-1).Masked(), length) {
				if !inside(netip.PrefixFrom(q.prefix.Addr(), q.prefix.Addr().BitLen()), b) && m.free(home, b) {
					return netip.PrefixFrom(b.Addr(), bits), fine
				}
			}
		}
		if p, ok := m.find(home, bits); ok {
			return p, fine
		}
		break
	}
	return m.choose(pool, s, 0)
}

func (m *model) grow(r row, s coordinator.Size) (netip.Prefix, provisioning.Code) {
	bits := bitsOf(s, r.prefix)
	switch {
	case r.kind != provisioning.RangeAllocation || !r.until.IsZero():
		return netip.Prefix{}, conflict
	case bits >= r.prefix.Bits():
		return netip.Prefix{}, invalid
	case bits < m.home(r.prefix).Bits():
		return netip.Prefix{}, conflict
	}
	wide := netip.PrefixFrom(r.prefix.Addr(), bits).Masked()
	home := m.home(r.prefix)
	for _, o := range slices.Clone(m.rows) {
		switch {
		case !o.prefix.Overlaps(wide) || o == r:
		case o.kind == provisioning.RangeReserved && o.owner == r.owner:
			m.drop(o)
		case o.kind != provisioning.RangePool || o.prefix.Bits() > home.Bits():
			return netip.Prefix{}, conflict
		}
	}
	m.drop(r)
	r.prefix = wide
	return wide, m.put(r)
}

// usable are the addresses of hosts in p, the lowest first.
func usable(p netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, b := range blocks(p, p.Addr().BitLen()) {
		out = append(out, b.Addr())
	}
	if len(out) > 2 {
		out = out[1:]
		if p.Addr().Is4() {
			out = out[:len(out)-1]
		}
	}
	return out
}

// renumber moves a site. The zero prefix and size mean as much as it has.
func (m *model) renumber(site string, p, pool netip.Prefix, s coordinator.Size, keep time.Duration) (netip.Prefix, provisioning.Code) {
	olds := m.overlay(site, false)
	switch {
	case !slices.Contains(m.sites, site):
		return p, notFound
	case len(m.overlay(site, true)) > 0 || len(olds) == 0:
		return p, conflict
	}
	if !p.IsValid() {
		var code provisioning.Code
		if p, code = m.newPlace(olds, pool, s); code != fine {
			return p, code
		}
	}
	moves, ok := m.moves(site, olds, p)
	_, code := m.allocate(row{kind: provisioning.RangeAllocation, purpose: provisioning.PurposeOverlay, prefix: p, owner: site}, netip.Prefix{}, s)
	if code != fine || !ok {
		return p, cmp.Or(code, conflict)
	}
	for i := range m.rows {
		if slices.Contains(olds, m.rows[i]) {
			m.rows[i].until = m.now.Add(keep)
		}
	}
	for i, n := range m.nodes {
		if to, ok := moves[n.address]; ok && n.site == site {
			m.nodes[i] = modelNode{site: site, address: to, former: n.address}
		}
	}
	return p, fine
}

func (m *model) newPlace(olds []row, pool netip.Prefix, s coordinator.Size) (netip.Prefix, provisioning.Code) {
	width := olds[0].prefix.Addr().BitLen()
	if pool.IsValid() {
		if !slices.Contains(m.pools(), pool) {
			return pool, notFound
		}
		if s == (coordinator.Size{}) && pool.Addr().BitLen() != width {
			return pool, invalid
		}
	}
	if s == (coordinator.Size{}) {
		sum, room := new(big.Int), big.NewInt(1)
		for _, o := range olds {
			if o.prefix.Addr().BitLen() == width {
				sum.Add(sum, hostsIn(o.prefix))
			}
		}
		for s.Bits = width; room.Cmp(sum) < 0; s.Bits-- {
			room.Lsh(room, 1)
		}
	}
	if pool.IsValid() {
		return m.choose(pool, s, 0)
	}
	for _, p := range m.pools() {
		if p.Contains(olds[0].prefix.Addr()) && p.Bits() <= olds[0].prefix.Bits() && (!pool.IsValid() || p.Bits() > pool.Bits()) {
			pool = p
		}
	}
	if p, code := m.choose(pool, s, width); code == fine {
		return p, fine
	}
	return m.choose(netip.Prefix{}, s, width)
}

// moves are the new addresses by the old ones: as far from the first address as before where it can be, else the first that is free.
func (m *model) moves(site string, olds []row, to netip.Prefix) (map[netip.Addr]netip.Addr, bool) {
	var from []netip.Addr
	for _, n := range m.nodes {
		if n.site == site {
			from = append(from, n.address)
		}
	}
	slices.SortFunc(from, netip.Addr.Compare)
	out, free := map[netip.Addr]netip.Addr{}, usable(to)
	take := func(a, b netip.Addr) bool {
		i := slices.Index(free, b)
		if i < 0 {
			return false
		}
		free, out[a] = slices.Delete(free, i, i+1), b
		return true
	}
	var rest []netip.Addr
	for _, a := range from {
		number := big.NewInt(-1)
		for _, o := range olds {
			if o.prefix.Contains(a) && a.BitLen() == to.Addr().BitLen() {
				number = number.Sub(new(big.Int).SetBytes(a.AsSlice()), new(big.Int).SetBytes(o.prefix.Addr().AsSlice()))
			}
		}
		if number.Sign() < 0 || !take(a, plus(to.Addr(), number)) {
			rest = append(rest, a)
		}
	}
	for _, a := range rest {
		if len(free) == 0 {
			return nil, false
		}
		take(a, free[0])
	}
	return out, true
}

// end ends what is or was in the way of an end: of one site now, or of all that are over.
func (m *model) end(over func(row) bool) bool {
	any := false
	for _, r := range slices.Clone(m.rows) {
		if r.owner == "" || r.until.IsZero() || !over(r) {
			continue
		}
		any = true
		m.release(r, false)
		for i, n := range m.nodes {
			if n.former.IsValid() && n.site == r.owner && r.prefix.Contains(n.former) {
				m.nodes[i].former = netip.Addr{}
			}
		}
	}
	return any
}

// take is import. It reports whether the document has no problem.
func (m *model) take(entries []plandoc.Entry, create bool) bool {
	sound := true
	var rows []row
	for _, e := range entries {
		r := row{
			kind: provisioning.RangeKind(e.Kind), prefix: e.Prefix, owner: e.Owner, purpose: provisioning.RangePurpose(e.Purpose), label: e.Label, until: e.Until,
		}
		site := r.kind != provisioning.RangePool && r.kind != provisioning.RangeForeign
		if site && r.owner != "" && r.owner != "hub" && !slices.Contains(m.sites, r.owner) {
			sound = sound && create
			m.sites = append(m.sites, r.owner)
		}
		sound = sound && (site || r.owner == "") && (r.owner != "" || r.kind != provisioning.RangeLAN)
		sound = sound && (r.owner != "" || r.kind != provisioning.RangeAllocation || !r.until.IsZero())
		same := func(o row) bool { return o.kind == r.kind && o.prefix == r.prefix && o.owner == r.owner }
		sound = sound && (r.kind == provisioning.RangeForeign || !slices.ContainsFunc(rows, same))
		rows = append(rows, r)
	}
	for _, pools := range []bool{true, false} {
		known := slices.Clone(m.rows)
		for _, r := range rows {
			if (r.kind == provisioning.RangePool) != pools {
				continue
			}
			i := slices.IndexFunc(known, func(o row) bool { return o.kind == r.kind && o.prefix == r.prefix && o.owner == r.owner })
			if i < 0 {
				sound = m.put(r) == fine && sound
				continue
			}
			had := known[i]
			known = slices.Delete(known, i, i+1)
			sound = sound && had.purpose == r.purpose && (r.label == "" || r.label == had.label) && (r.until.IsZero() || r.until.Equal(had.until))
		}
	}
	return sound
}
