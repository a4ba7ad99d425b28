package coordinator_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func (p *player) renumber() {
	r := coordinator.RenumberRequest{Site: p.name(), Keep: time.Duration(rapid.IntRange(1, 48).Draw(p.T, "hours")) * time.Hour}
	var pool netip.Prefix
	if r.Prefix, r.Size, pool, r.Pool = p.where(); !r.Prefix.IsValid() && rapid.Bool().Draw(p.T, "as large") {
		r.Size = coordinator.Size{}
	}
	p.try(fmt.Sprintf("renumber %+v", r), func(e *provisioningtest.Network) (netip.Prefix, error) {
		got, err := e.Renumber(context.Background(), "test", r)
		return got.New, err
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		return m.renumber(r.Site, r.Prefix, pool, r.Size, r.Keep)
	})
}

func (p *player) endRenumbering() {
	name := p.name()
	if r, ok := p.pick(func(r row) bool { return r.owner != "" && !r.until.IsZero() }); ok {
		name = r.owner
	}
	p.try("end renumbering "+name, func(e *provisioningtest.Network) (netip.Prefix, error) {
		return netip.Prefix{}, reason(e.EndRenumbering(context.Background(), "test", name))
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		switch {
		case !slices.Contains(m.sites, name):
			return netip.Prefix{}, notFound
		case !m.end(func(r row) bool { return r.owner == name }):
			return netip.Prefix{}, conflict
		}
		return netip.Prefix{}, fine
	})
}

// passTime moves the clock, with or without the coordinators looking at it.
func (p *player) passTime(clock *time.Time) {
	*clock = clock.Add(time.Duration(rapid.SampledFrom([]int{1, 24, 25, 48, 40 * 24}).Draw(p.T, "hours")) * time.Hour)
	p.model.now = *clock
	if rapid.Bool().Draw(p.T, "tend") {
		p.try("tend", func(e *provisioningtest.Network) (netip.Prefix, error) {
			return netip.Prefix{}, e.Tend(context.Background())
		}, func(m *model) (netip.Prefix, provisioning.Code) {
			m.end(func(r row) bool { return !r.until.After(m.now) })
			return netip.Prefix{}, fine
		})
	}
}

func (p *player) importDocument() {
	var d plandoc.Document
	for i := range rapid.IntRange(1, 4).Draw(p.T, "entries") {
		e := plandoc.Entry{Line: i + 1, Prefix: p.place(), Kind: rapid.SampledFrom([]plandoc.Kind{
			plandoc.Pool, plandoc.Allocation, plandoc.Allocation, plandoc.Allocation, plandoc.Reserved, plandoc.Foreign, plandoc.LAN,
		}).Draw(p.T, "kind")}
		if e.Kind != plandoc.Pool && e.Kind != plandoc.Foreign && rapid.IntRange(0, 4).Draw(p.T, "owned") > 0 {
			e.Owner = p.name()
		}
		if e.Kind == plandoc.Allocation {
			e.Purpose = string(provisioning.PurposeOverlay)
		}
		if e.Kind == plandoc.Allocation && rapid.IntRange(0, 3).Draw(p.T, "ends") == 0 || e.Kind == plandoc.Reserved && e.Owner == "" && i == 2 {
			e.Until = p.model.now.Add(time.Duration(rapid.IntRange(1, 100).Draw(p.T, "hours")) * time.Hour)
		}
		if known, ok := p.pick(row.taken); ok && i == 3 {
			e = plandoc.Entry{
				Kind: plandoc.Kind(known.kind), Prefix: known.prefix, Owner: known.owner, Purpose: string(known.purpose), Label: known.label, Until: known.until, Line: 4,
			}
			if rapid.Bool().Draw(p.T, "altered") && e.Kind == plandoc.Allocation {
				e.Purpose = plandoc.Services
			}
		}
		d.Entries = append(d.Entries, e)
	}
	create := rapid.IntRange(0, 3).Draw(p.T, "create sites") != 2
	p.try(fmt.Sprintf("import %+v", d.Entries), func(e *provisioningtest.Network) (netip.Prefix, error) {
		dry, err := e.Import(context.Background(), "test", d, coordinator.ImportOptions{CreateSites: create, DryRun: true})
		if err != nil {
			return netip.Prefix{}, err
		}
		got, err := e.Import(context.Background(), "test", d, coordinator.ImportOptions{CreateSites: create})
		if err != nil {
			return netip.Prefix{}, err
		}
		if dry.Done || !slices.Equal(dry.Problems, got.Problems) || len(dry.Changes) != len(got.Changes) || !slices.Equal(dry.Sites, got.Sites) {
			p.Fatalf("the dry run says %+v, then it is %+v", dry, got)
		}
		if !got.Done {
			return netip.Prefix{}, provisioning.Errorf(conflict, "%v", got.Problems)
		}
		return netip.Prefix{}, nil
	}, func(m *model) (netip.Prefix, provisioning.Code) {
		if !m.take(d.Entries, create) {
			return netip.Prefix{}, conflict
		}
		return netip.Prefix{}, fine
	})
}

func (p *player) setQuarantine() {
	d := time.Duration(rapid.SampledFrom([]int{0, 1, 24, 30 * 24}).Draw(p.T, "hours")) * time.Hour
	for _, e := range p.engines {
		if err := e.SetQuarantine(context.Background(), "test", d); err != nil {
			p.Fatal(err)
		}
	}
	p.model.quarantine = d
}

// addNode puts a box at a free address of a site, past the ceremony of enrolment.
func (p *player) addNode() {
	name := p.name()
	var free []netip.Addr
	for _, r := range p.model.overlay(name, false) {
		for _, a := range usable(r.prefix) {
			if !slices.ContainsFunc(p.model.nodes, func(n modelNode) bool { return n.address == a || n.former == a }) {
				free = append(free, a)
			}
		}
	}
	if len(free) == 0 {
		return
	}
	at := rapid.SampledFrom(free).Draw(p.T, "address")
	p.boxes++
	n := provisioning.Node{ID: provisioning.NewNodeID(), Kind: wire.Gateway, PublicKey: wgkey.PublicKey{0: p.boxes, 31: 9}, Address: at}
	for _, e := range p.engines {
		if err := e.Store.Update(context.Background(), func(tx store.Tx) error {
			s, err := tx.Sites().ByName(name)
			if err != nil {
				return err
			}
			n.Site = s.ID
			if err := tx.Nodes().Create(n); err != nil {
				return err
			}
			_, err = tx.Bump()
			return err
		}); err != nil {
			p.Fatal(err)
		}
	}
	p.model.nodes = append(p.model.nodes, modelNode{site: name, address: at})
}

func (p *player) removeNode() {
	if len(p.model.nodes) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.model.nodes)-1).Draw(p.T, "node")
	for _, e := range p.engines {
		if err := e.Store.Update(context.Background(), func(tx store.Tx) error {
			n, err := tx.Nodes().ByAddress(p.model.nodes[i].address)
			if err != nil {
				return err
			}
			if err := tx.Nodes().Remove(n.ID); err != nil {
				return err
			}
			_, err = tx.Bump()
			return err
		}); err != nil {
			p.Fatal(err)
		}
	}
	p.model.nodes = slices.Delete(p.model.nodes, i, i+1)
}
