package coordinator_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// step draws what to do and does it.
func (p *player) step(clock *time.Time) {
	switch rapid.SampledFrom([]string{
		"site", "allocate", "allocate", "reserve", "reserve", "release", "grow", "grow", "renumber", "renumber", "end", "time", "time",
		"add", "add", "remove", "remove site", "import", "import", "quarantine", "node", "node", "node gone",
	}).Draw(p.T, "action") {
	case "site":
		p.createSite()
	case "allocate":
		p.allocate()
	case "reserve":
		p.reserve()
	case "release":
		p.release()
	case "grow":
		p.grow()
	case "renumber":
		p.renumber()
	case "end":
		p.endRenumbering()
	case "time":
		p.passTime(clock)
	case "add":
		p.addRange()
	case "remove":
		p.removeRange()
	case "remove site":
		p.removeSite()
	case "import":
		p.importDocument()
	case "quarantine":
		p.setQuarantine()
	case "node":
		p.addNode()
	case "node gone":
		p.removeNode()
	}
}

// name is mostly that of a site that there is.
func (p *player) name() string {
	if len(p.model.sites) > 0 && rapid.IntRange(0, 9).Draw(p.T, "known") != 7 {
		return rapid.SampledFrom(p.model.sites).Draw(p.T, "site")
	}
	return rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(p.T, "site")
}

func (p *player) label() string {
	return rapid.SampledFrom([]string{"", "", "", "", "north", "south"}).Draw(p.T, "label")
}

func (p *player) size() coordinator.Size {
	if rapid.Bool().Draw(p.T, "by hosts") {
		return coordinator.Size{Hosts: rapid.SampledFrom([]int{1, 2, 3, 5, 6, 7, 14, 14, 15, 30, 31, 100, 254, 255}).Draw(p.T, "hosts")}
	}
	return coordinator.Size{Bits: rapid.SampledFrom([]int{22, 24, 25, 26, 26, 27, 27, 28, 28, 29, 30, 31, 32, 122, 128}).Draw(p.T, "bits")}
}

// anyPool is one that there may be, or none.
func (p *player) anyPool() (netip.Prefix, string) {
	q := rapid.SampledFrom([]string{"", "", "", "", "10.64.0.0/22", "10.64.0.0/22", "10.64.1.0/24", "10.64.2.0/23", "10.65.0.0/24", "fd00:1:2::/120"}).Draw(p.T, "pool")
	if q == "" {
		return netip.Prefix{}, ""
	}
	return prefix(q), q
}

// place is a range, mostly in the pool.
func (p *player) place() netip.Prefix {
	if rapid.IntRange(0, 15).Draw(p.T, "IPv6") == 7 {
		return netip.PrefixFrom(prefix("fd00:1:2::/120").Addr(), rapid.IntRange(118, 128).Draw(p.T, "bits")).Masked()
	}
	a := rapid.IntRange(0x10, 0x42f).Draw(p.T, "address")
	bits := rapid.SampledFrom([]int{21, 23, 24, 25, 26, 26, 27, 27, 28, 28, 28, 29, 29, 30, 31, 32}).Draw(p.T, "bits")
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(a >> 8), byte(a)}), bits).Masked()
}

// where is a certain range, or a size and perhaps a pool.
func (p *player) where() (at netip.Prefix, s coordinator.Size, pool netip.Prefix, ref string) {
	if rapid.IntRange(0, 2).Draw(p.T, "certain") == 1 {
		return p.place(), s, pool, ""
	}
	pool, ref = p.anyPool()
	return at, p.size(), pool, ref
}

func (p *player) createSite() {
	at, s, pool, ref := p.where()
	if s.Bits != 0 {
		s = coordinator.Size{Hosts: 14}
	}
	n := coordinator.NewSite{
		Name: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(p.T, "new site"), Kind: wire.Clinic, Prefix: at, Hosts: s.Hosts, Pool: ref,
	}
	if rapid.IntRange(0, 3).Draw(p.T, "with LAN") == 2 {
		n.LAN = rapid.SampledFrom([]netip.Prefix{prefix("192.168.178.0/24"), prefix("10.64.3.0/24"), prefix("10.66.0.0/24")}).Draw(p.T, "LAN")
	}
	p.create(n, pool)
}

func (p *player) create(n coordinator.NewSite, pool netip.Prefix) {
	p.try(fmt.Sprintf("create site %+v", n), func(e *provisioningtest.Network) (netip.Prefix, error) {
		i, err := e.CreateSite(context.Background(), "test", n)
		if err != nil {
			return netip.Prefix{}, err
		}
		return i.Prefixes[0], nil
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if slices.Contains(m.sites, n.Name) {
			return n.Prefix, conflict
		}
		m.sites = append(m.sites, n.Name)
		r := row{kind: provisioning.RangeAllocation, purpose: provisioning.PurposeOverlay, owner: n.Name, prefix: n.Prefix}
		got, code := m.allocate(r, pool, coordinator.Size{Hosts: n.Hosts})
		if code == fine && n.LAN.IsValid() {
			code = m.put(row{kind: provisioning.RangeLAN, prefix: n.LAN, owner: n.Name})
		}
		return got, code
	})
}

func (p *player) allocate() {
	at, s, pool, ref := p.where()
	n := coordinator.NewAllocation{
		Site: p.name(), Prefix: at, Size: s, Pool: ref, Label: p.label(),
		Purpose: rapid.SampledFrom([]provisioning.RangePurpose{provisioning.PurposeOverlay, provisioning.PurposeServices, provisioning.PurposeWorkstation}).Draw(p.T, "purpose"),
	}
	p.try(fmt.Sprintf("allocate %+v", n), func(e *provisioningtest.Network) (netip.Prefix, error) {
		i, err := e.Allocate(context.Background(), "test", n)
		return i.Prefix, err
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if !slices.Contains(m.sites, n.Site) {
			return at, notFound
		}
		return m.allocate(row{kind: provisioning.RangeAllocation, purpose: n.Purpose, owner: n.Site, prefix: at, label: n.Label}, pool, s)
	})
}

func (p *player) reserve() {
	at, s, pool, ref := p.where()
	n := coordinator.NewReservation{Prefix: at, Size: s, Pool: ref, Label: p.label()}
	if rapid.Bool().Draw(p.T, "for a site") {
		n.Site = p.name()
	}
	p.try(fmt.Sprintf("reserve %+v", n), func(e *provisioningtest.Network) (netip.Prefix, error) {
		i, err := e.Reserve(context.Background(), "test", n)
		return i.Prefix, err
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if n.Site != "" && !slices.Contains(m.sites, n.Site) {
			return at, notFound
		}
		got := at
		if !at.IsValid() {
			if pool.IsValid() && !slices.Contains(m.pools(), pool) {
				return at, notFound
			}
			var code provisioning.Code
			if got, code = m.beside(n.Site, pool, s); code != fine {
				return got, code
			}
		}
		return got, m.put(row{kind: provisioning.RangeReserved, prefix: got, owner: n.Site, label: n.Label})
	})
}

// pick is one of the rows that there are, false if there is none.
func (p *player) pick(is func(row) bool) (row, bool) {
	rows := slices.DeleteFunc(slices.Clone(p.model.rows), func(r row) bool {
		over := r.owner == "" && !r.until.IsZero() && !r.until.After(p.model.now)
		return over || !is(r)
	})
	if len(rows) == 0 {
		return row{}, false
	}
	return rapid.SampledFrom(rows).Draw(p.T, "row"), true
}

func (p *player) release() {
	r, ok := p.pick(row.taken)
	if !ok {
		return
	}
	now := rapid.Bool().Draw(p.T, "now")
	ref := r.prefix.String()
	if r.label != "" {
		ref = r.label
	}
	p.try(fmt.Sprintf("release %s, now %v", ref, now), func(e *provisioningtest.Network) (netip.Prefix, error) {
		i, err := e.Release(context.Background(), "test", ref, now)
		return i.Prefix, err
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		used := r.prefix.Contains(netip.MustParseAddr("10.64.0.1"))
		for _, n := range m.nodes {
			used = used || r.prefix.Contains(n.address) || r.prefix.Contains(n.former)
		}
		if !r.until.IsZero() || used {
			return r.prefix, conflict
		}
		m.release(r, now)
		return r.prefix, fine
	})
}

func (p *player) grow() {
	r, ok := p.pick(func(r row) bool { return r.kind == provisioning.RangeAllocation && r.until.IsZero() })
	if !ok || rapid.IntRange(0, 7).Draw(p.T, "anything") == 5 {
		if r, ok = p.pick(row.taken); !ok {
			return
		}
	}
	s := p.size()
	if rapid.Bool().Draw(p.T, "a little") {
		s = coordinator.Size{Bits: max(1, r.prefix.Bits()-rapid.IntRange(1, 2).Draw(p.T, "by"))}
	}
	if r.prefix.Addr().Is4() && s.Bits > 32 {
		s = coordinator.Size{Hosts: 30}
	}
	p.try(fmt.Sprintf("grow %v to %v", r.prefix, s), func(e *provisioningtest.Network) (netip.Prefix, error) {
		g, err := e.Grow(context.Background(), "test", r.prefix.String(), s)
		if err == nil && (g.Before.Prefix != r.prefix || g.Before.OwnerName != g.After.OwnerName) {
			p.Fatalf("it grew %+v", g)
		}
		return g.After.Prefix, err
	}, func(m *model) (netip.Prefix, provisioning.Code) { return m.grow(r, s) })
}

func (p *player) addRange() {
	n := coordinator.NewRange{
		Kind:   rapid.SampledFrom([]provisioning.RangeKind{provisioning.RangePool, provisioning.RangePool, provisioning.RangeForeign, provisioning.RangeReserved, provisioning.RangeLAN}).Draw(p.T, "kind"),
		Prefix: p.place(),
	}
	if n.Kind == provisioning.RangePool {
		n.Label = p.label()
		if q, _ := p.anyPool(); q.IsValid() {
			n.Prefix = q
		}
	}
	if n.Kind == provisioning.RangeLAN {
		n.Site = p.name()
	}
	p.try(fmt.Sprintf("add %+v", n), func(e *provisioningtest.Network) (netip.Prefix, error) {
		r, err := e.AddRange(context.Background(), "test", n)
		return r.Prefix, err
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if n.Kind == provisioning.RangeLAN && !slices.Contains(m.sites, n.Site) {
			return n.Prefix, notFound
		}
		return n.Prefix, m.put(row{kind: n.Kind, prefix: n.Prefix, owner: n.Site, label: n.Label})
	})
}

func (p *player) removeRange() {
	pools := rapid.Bool().Draw(p.T, "a pool")
	r, ok := p.pick(func(r row) bool { return pools == (r.kind == provisioning.RangePool) })
	if !ok {
		return
	}
	p.try(fmt.Sprintf("remove %s %v", r.kind, r.prefix), func(e *provisioningtest.Network) (netip.Prefix, error) {
		return netip.Prefix{}, e.RemoveRange(context.Background(), "test", idOf(p.T, e, r))
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if r.kind == provisioning.RangeAllocation && (r.owner != "" || r.until.IsZero()) {
			return netip.Prefix{}, conflict
		}
		// Of two equal foreign ranges one goes.
		m.rows = slices.Delete(m.rows, slices.Index(m.rows, r), slices.Index(m.rows, r)+1)
		for _, o := range m.rows {
			if o.kind == provisioning.RangeAllocation && !m.home(o.prefix).IsValid() {
				return netip.Prefix{}, conflict
			}
		}
		return netip.Prefix{}, fine
	})
}

func idOf(t *rapid.T, e *provisioningtest.Network, r row) int64 {
	plan, err := e.Plan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range plan.Pools {
		if r.kind == provisioning.RangePool && q.Prefix == r.prefix {
			return q.ID
		}
	}
	for _, q := range plan.Ranges {
		if q.Kind == r.kind && q.Prefix == r.prefix && q.OwnerName == r.owner {
			return q.ID
		}
	}
	t.Fatalf("there is no %v", r)
	return 0
}

func (p *player) removeSite() {
	name := p.name()
	p.try("remove site "+name, func(e *provisioningtest.Network) (netip.Prefix, error) {
		return netip.Prefix{}, e.RemoveSite(context.Background(), "test", name)
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		i := slices.Index(m.sites, name)
		switch {
		case i < 0:
			return netip.Prefix{}, notFound
		case slices.ContainsFunc(m.nodes, func(n modelNode) bool { return n.site == name }):
			return netip.Prefix{}, conflict
		}
		m.sites = slices.Delete(m.sites, i, i+1)
		for _, r := range slices.Clone(m.rows) {
			switch {
			case r.owner != name:
			case r.taken():
				m.release(r, false)
			default:
				m.drop(r)
			}
		}
		return netip.Prefix{}, fine
	})
}
