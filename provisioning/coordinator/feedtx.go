package coordinator

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// The groups of a fedTx note what is written through them. Whether it was written does not matter: what is noted is read at the end.

func (t *fedTx) Sites() store.Sites       { return fedSites{t.Tx.Sites(), t} }
func (t *fedTx) Nodes() store.Nodes       { return fedNodes{t.Tx.Nodes(), t} }
func (t *fedTx) Services() store.Services { return fedServices{t.Tx.Services(), t} }
func (t *fedTx) Grants() store.Grants     { return fedGrants{t.Tx.Grants(), t} }
func (t *fedTx) Ranges() store.Ranges     { return fedRanges{t.Tx.Ranges(), t} }

type fedSites struct {
	store.Sites
	t *fedTx
}

func (g fedSites) Create(v provisioning.Site) error {
	g.t.sites[v.ID] = true
	return g.Sites.Create(v)
}

func (g fedSites) Update(v provisioning.Site) error {
	g.t.sites[v.ID] = true
	return g.Sites.Update(v)
}

func (g fedSites) Remove(id provisioning.SiteID) error {
	g.t.sites[id] = true
	return g.Sites.Remove(id)
}

type fedNodes struct {
	store.Nodes
	t *fedTx
}

func (g fedNodes) Create(n provisioning.Node) error {
	g.t.nodes[n.ID] = true
	return g.Nodes.Create(n)
}

func (g fedNodes) Readdress(id provisioning.NodeID, address, former netip.Addr) error {
	g.t.nodes[id] = true
	return g.Nodes.Readdress(id, address, former)
}

func (g fedNodes) Place(id provisioning.NodeID, rank int, endpoint string) error {
	g.t.nodes[id] = true
	return g.Nodes.Place(id, rank, endpoint)
}

func (g fedNodes) SetState(id provisioning.NodeID, s provisioning.NodeState, reason string, since time.Time) error {
	g.t.nodes[id] = true
	return g.Nodes.SetState(id, s, reason, since)
}

func (g fedNodes) Rekey(id provisioning.NodeID, key, next wgkey.PublicKey, step wire.RotateStep) error {
	g.t.nodes[id] = true
	return g.Nodes.Rekey(id, key, next, step)
}

func (g fedNodes) Reenroll(n provisioning.Node) error {
	g.t.nodes[n.ID] = true
	return g.Nodes.Reenroll(n)
}

func (g fedNodes) SetMember(id provisioning.NodeID, m *wire.SignedMember) error {
	g.t.nodes[id] = true
	return g.Nodes.SetMember(id, m)
}

func (g fedNodes) Remove(id provisioning.NodeID) error {
	g.t.nodes[id] = true
	return g.Nodes.Remove(id)
}

type fedServices struct {
	store.Services
	t *fedTx
}

func (g fedServices) Create(v provisioning.Service) error {
	g.t.services[v.ID] = true
	return g.Services.Create(v)
}

func (g fedServices) Readdress(id provisioning.ServiceID, a netip.Addr) error {
	g.t.services[id] = true
	return g.Services.Readdress(id, a)
}

func (g fedServices) Configure(v provisioning.Service) error {
	g.t.services[v.ID] = true
	return g.Services.Configure(v)
}

func (g fedServices) Remove(id provisioning.ServiceID) error {
	g.t.services[id] = true
	return g.Services.Remove(id)
}

type fedGrants struct {
	store.Grants
	t *fedTx
}

// Create and Remove have to remember what is there, since nothing reads a single grant.
func (g fedGrants) Create(v provisioning.Grant) error {
	err := g.Grants.Create(v)
	if err == nil {
		if !v.Created.IsZero() {
			v.Created = v.Created.UTC().Round(0)
		}
		g.t.grants[grantID{Service: v.Service, Site: v.Site}] = &v
	}
	return err
}

func (g fedGrants) Remove(service provisioning.ServiceID, site provisioning.SiteID) error {
	err := g.Grants.Remove(service, site)
	if err == nil {
		g.t.grants[grantID{Service: service, Site: site}] = nil
	}
	return err
}

type fedRanges struct {
	store.Ranges
	t *fedTx
}

func (g fedRanges) Create(r provisioning.Range) (provisioning.Range, error) {
	if err := g.t.begin(); err != nil {
		return r, err
	}
	r, err := g.Ranges.Create(r)
	if err == nil {
		g.t.ranges[r.ID] = true
	}
	return r, err
}

func (g fedRanges) Describe(id int64, label, note string) error {
	g.t.ranges[id] = true
	return g.Ranges.Describe(id, label, note)
}

func (g fedRanges) End(id int64, until time.Time) error {
	g.t.ranges[id] = true
	return g.Ranges.End(id, until)
}

func (g fedRanges) Quarantine(id int64, until time.Time) error {
	g.t.ranges[id] = true
	return g.Ranges.Quarantine(id, until)
}

func (g fedRanges) Remove(id int64) error {
	if err := g.t.begin(); err != nil {
		return err
	}
	g.t.ranges[id] = true
	return g.Ranges.Remove(id)
}

func (g fedRanges) Sweep(now time.Time) ([]provisioning.Range, error) {
	if err := g.t.begin(); err != nil {
		return nil, err
	}
	swept, err := g.Ranges.Sweep(now)
	for _, r := range swept {
		g.t.ranges[r.ID] = true
	}
	return swept, err
}
