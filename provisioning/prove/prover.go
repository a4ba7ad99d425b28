package prove

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// ErrUnknown means that something was to be removed that is not there.
var ErrUnknown = errors.New("the prover does not know it")

// Prove proves the whole input. The error is a *RefutedError, or says why there can be no proof at all.
func Prove(in Input, s Stamp) (Certificate, error) {
	p, err := NewProver()
	if err != nil {
		return Certificate{}, err
	}
	if err := p.Update(Input{}, in); err != nil {
		return Certificate{}, err
	}
	return p.Prove(s)
}

// Prover proves one input after another and looks again only at what a change can touch.
type Prover struct {
	plan     *plan
	facts    *bag
	maps     *bag
	hub      Hub
	hubLeaf  hash
	sites    map[string]*siteState
	nodes    map[string]*nodeState
	services map[string]*serviceState
	grants   map[grantKey][]Grant
	keys     map[wgkey.PublicKey]map[string]bool // the Nodes that claim a key
	next     map[wgkey.PublicKey]map[string]bool // those that claim one as the next
	hubPeers map[wgkey.PublicKey][]HubPeer
	dirty    map[unit]bool
	results  map[unit]result
	// refuted are the results that are bad.
	refuted map[unit]bool
	counts  Counts
	named   int
	waiting int
	// unmanaged are the Nodes of that kind.
	unmanaged int
}

type siteState struct {
	decls []Site
	nodes map[string]bool
	// offers and uses are the names of services.
	offers, uses map[string]bool
	// own are the allocations in use, mappings what those of them that are mapped stand for.
	own      []netip.Prefix
	mappings []ipam.Mapping
	// extras is what extras found, nil when it has to look again.
	extras []netip.Prefix
	// sound is what nodesOf found, nil when it has to look again.
	sound []Node
}

type nodeState struct {
	decls []Node
	maps  []*mapState
}

type serviceState struct {
	decls []Service
	users map[string]bool
}

type grantKey struct{ service, site string }

// unit is what is proven at once. What a unit's proof reads is written where it is marked, see Prover.mark and its callers.
type unit struct{ kind, a, b string }

// result is what came of a unit, kept only if it is not zero.
type result struct {
	bad []CounterExample
	// named are targets that are names; waiting are users of a Grant without an endpoint at either side; pending is 1 for a Grant without Nodes.
	named, waiting, pending int
}

// NewProver makes a Prover that knows nothing.
func NewProver() (*Prover, error) {
	plan, err := newPlan()
	if err != nil {
		return nil, err
	}
	return &Prover{
		plan: plan, facts: newBag(), maps: newBag(),
		sites: map[string]*siteState{}, nodes: map[string]*nodeState{}, services: map[string]*serviceState{},
		grants: map[grantKey][]Grant{}, keys: map[wgkey.PublicKey]map[string]bool{}, next: map[wgkey.PublicKey]map[string]bool{},
		hubPeers: map[wgkey.PublicKey][]HubPeer{},
		dirty:    map[unit]bool{{kind: "hub"}: true}, results: map[unit]result{}, refuted: map[unit]bool{},
	}, nil
}

// Update takes things away and adds others. What changed is removed as it was and added as it is, with two exceptions: a Hub replaces the
// one before, and the maps of one Update replace all earlier ones of their Nodes, so of Maps in remove only Self.Node counts.
//
// The error is ErrUnknown for what is not there; then the Prover is of no use any more.
func (p *Prover) Update(remove, add Input) error {
	dropped := map[string][]*mapState{}
	for _, m := range slices.Concat(remove.Maps, add.Maps) {
		if _, done := dropped[m.Self.Node]; !done {
			dropped[m.Self.Node] = p.dropMaps(m.Self.Node)
		}
	}
	if err := errors.Join(
		each(remove.Grants, p.removeGrant), each(remove.Services, p.removeService), each(remove.Nodes, p.removeNode),
		each(remove.HubPeers, p.removeHubPeer), each(remove.Sites, p.removeSite), each(remove.Plan.Entries, p.removeRange),
	); err != nil {
		return err
	}
	if add.Hub != nil {
		if err := p.setHub(*add.Hub); err != nil {
			return err
		}
	}
	if err := errors.Join(
		each(add.Plan.Entries, p.addRange), each(add.Sites, p.addSite), each(add.HubPeers, p.addHubPeer), each(add.Nodes, p.addNode),
		each(add.Services, p.addService), each(add.Grants, p.addGrant), each(add.Maps, p.addMap),
	); err != nil {
		return err
	}
	for id, old := range dropped {
		p.markMap(id, old)
	}
	return nil
}

// Prepared is a map as Replace takes it. To prepare a map is most of what it costs, and needs no Prover.
type Prepared struct{ state *mapState }

// Prepare arranges a map for a proof. It keeps m, which must not change any more.
func Prepare(m wire.NetMap) (Prepared, error) {
	s, err := newMapState(m)
	if err != nil {
		return Prepared{}, fmt.Errorf("prepare the map of node %s: %w", m.Self.Node, err)
	}
	return Prepared{s}, nil
}

// Replace is an Update that removes the maps of some Nodes and adds others.
func (p *Prover) Replace(nodes []string, maps []Prepared) {
	dropped := map[string][]*mapState{}
	for _, id := range nodes {
		dropped[id] = append(dropped[id], p.dropMaps(id)...)
	}
	for _, m := range maps {
		id := m.state.m.Self.Node
		dropped[id] = append(dropped[id], p.dropMaps(id)...)
	}
	for _, m := range maps {
		p.holdMap(m.state)
	}
	for id, old := range dropped {
		p.markMap(id, old)
	}
}

func each[T any](list []T, do func(T) error) error {
	for _, v := range list {
		if err := do(v); err != nil {
			return err
		}
	}
	return nil
}

// Prove looks at all that changed since the last call. The error is a *RefutedError.
func (p *Prover) Prove(s Stamp) (Certificate, error) {
	bad := p.look(nil)
	if len(bad) > 0 {
		slices.SortFunc(bad, CounterExample.compare)
		total := len(bad)
		return Certificate{}, &RefutedError{CounterExamples: bad[:min(total, MaxCounterExamples)], Total: total}
	}
	return p.certificate(s), nil
}

// Without looks at all that changed but the maps of some Nodes, which are to come with a later Update, and returns what is unsafe
// (CounterExample.Safety) of all others. What it finds of a Node's map does not rest on the maps of others, so that those of which it finds
// nothing are as safe as Prove will say.
func (p *Prover) Without(later map[string]bool) []CounterExample {
	bad := slices.DeleteFunc(p.look(later), func(c CounterExample) bool { return !c.Safety() })
	slices.SortFunc(bad, CounterExample.compare)
	return bad
}

// look proves what changed, but the maps of some Nodes, and returns all that is known to be wrong.
func (p *Prover) look(later map[string]bool) []CounterExample {
	left := map[unit]bool{}
	for u := range p.dirty {
		if u.kind == "node" && later[u.a] {
			left[u] = true
			continue
		}
		old := p.results[u]
		now := p.prove(u)
		p.named += now.named - old.named
		p.waiting += now.waiting - old.waiting
		p.counts.PendingGrants += now.pending - old.pending
		if now.bad == nil && now.named == 0 && now.waiting == 0 && now.pending == 0 {
			delete(p.results, u)
		} else {
			p.results[u] = now
		}
		if len(now.bad) > 0 {
			p.refuted[u] = true
		} else {
			delete(p.refuted, u)
		}
	}
	p.dirty = left
	bad := p.plan.check()
	for u := range p.refuted {
		if left[u] {
			continue
		}
		bad = append(bad, p.results[u].bad...)
		// The words about what is wrong may rest on more than what would make it right.
		p.dirty[u] = true
	}
	return bad
}

func (p *Prover) certificate(s Stamp) Certificate {
	c := Certificate{
		Format: Format, Network: p.hub.Network, Generation: s.Generation, Generated: s.At, Tool: s.Tool,
		Digests: Digests{Plan: p.plan.digest.digest(), Facts: p.facts.digest(), Maps: p.maps.digest()},
		Counts:  p.counts, Proven: statements(),
	}
	for k, n := range p.plan.byKind {
		c.Counts.Ranges += n
		if k == plandoc.Pool {
			c.Counts.Pools = n
		}
		if k == plandoc.Allocation {
			c.Counts.Allocations = n
		}
	}
	c.Counts.ClinicPairs = c.Counts.Clinics * (c.Counts.Clinics - 1) / 2
	c.Assumed = []string{
		"Every gateway applies its map and no other, and its firewall forwards no packet between peers.",
		"No offer's target is an address of a gateway's own LAN port, by which it could lead into a use.",
	}
	if p.named > 0 {
		c.Assumed = append(c.Assumed, fmt.Sprintf("%d offers name their target; the site's own name server answers with LAN addresses.", p.named))
	}
	if p.unmanaged > 0 {
		c.Assumed = append(c.Assumed, fmt.Sprintf("%d unmanaged devices get no maps; what theirs would say holds for what gateways let them do, whatever they send.", p.unmanaged))
	}
	if p.waiting > 0 {
		c.Assumed = append(c.Assumed, fmt.Sprintf("%d times a node may use a service and neither side has an endpoint; a path between them is found at run time.", p.waiting))
	}
	return c
}

func (p *Prover) prove(u unit) result {
	r := &report{}
	switch u.kind {
	case "hub":
		p.proveHub(r)
	case "key":
		p.proveHubPeer(r, u.a)
	case "site":
		p.proveSite(r, u.a)
	case "node":
		p.proveNode(r, u.a)
	case "service":
		p.proveService(r, u.a)
	case "grant":
		p.proveGrant(r, grantKey{u.a, u.b})
	}
	return r.result
}

// report gathers what is found of one unit; its fields name what that is about.
type report struct {
	result
	at CounterExample
}

func (r *report) bad(statement, format string, a ...any) {
	c := r.at
	c.Statement, c.Text = statement, fmt.Sprintf(format, a...)
	r.result.bad = append(r.result.bad, c)
}

// missing is bad for what only keeps something from being reached.
func (r *report) missing(statement, format string, a ...any) {
	r.bad(statement, format, a...)
	r.result.bad[len(r.result.bad)-1].Missing = true
}

// kindOf is the kind of a site that is there once, else "".
func (p *Prover) kindOf(site string) wire.SiteKind {
	if s := p.sites[site]; s != nil && len(s.decls) == 1 {
		return s.decls[0].Kind
	}
	return ""
}

// spoolKeyOf is where a Node keeps the key of its queues, as its site says. What has no queues has none.
func (p *Prover) spoolKeyOf(d Node) wire.SpoolKey {
	if s := p.sites[d.Site]; s != nil && len(s.decls) == 1 && d.Kind != wire.Relay && d.Kind != wire.Unmanaged {
		return s.decls[0].SpoolKey
	}
	return ""
}

// node returns a Node that is there once.
func (p *Prover) node(id string) (Node, bool) {
	if n := p.nodes[id]; n != nil && len(n.decls) == 1 {
		return n.decls[0], true
	}
	return Node{}, false
}

// service returns a Service that is there once.
func (p *Prover) service(name string) (Service, bool) {
	if v := p.services[name]; v != nil && len(v.decls) == 1 {
		return v.decls[0], true
	}
	return Service{}, false
}

// nodesOf returns the Nodes of a site by id. The caller must not change it.
func (p *Prover) nodesOf(site string) []Node {
	s := p.sites[site]
	switch {
	case s == nil:
		return nil
	case s.sound != nil:
		return s.sound
	}
	out := []Node{}
	for id := range s.nodes {
		if n, ok := p.node(id); ok && n.Site == site {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	s.sound = out
	return out
}

// neighbors are the sites that any Grant links with a site.
func (p *Prover) neighbors(site string) map[string]bool {
	out := map[string]bool{}
	s := p.sites[site]
	if s == nil {
		return out
	}
	for name := range s.uses {
		for _, v := range p.services[name].decls {
			out[v.Site] = true
		}
	}
	for name := range s.offers {
		for user := range p.services[name].users {
			out[user] = true
		}
	}
	return out
}
