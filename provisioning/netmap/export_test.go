package netmap

import (
	"fmt"
	"net/netip"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Dump is all that an Index holds, in plain maps.
type Dump struct {
	Overlay     []netip.Prefix
	Allocations []provisioning.Range
	Own         map[string][]provisioning.Range
	Ranges      map[int64]provisioning.Range
	Sites       map[provisioning.SiteID]SiteDump
	Nodes       map[provisioning.NodeID]provisioning.Node
	Inactive    map[provisioning.NodeID]provisioning.Node
	Services    map[provisioning.ServiceID]ServiceDump
	Broken      map[provisioning.NodeID]string
	Relays      []string
	Ways        []string
	Sound       bool
	Keys, Next  map[wgkey.PublicKey]provisioning.NodeID
	Hosts       map[netip.Addr]bool
	Names       map[string]provisioning.SiteID
	Titles      map[string]provisioning.ServiceID
}

// SiteDump is a site of a Dump.
type SiteDump struct {
	provisioning.Site
	Nodes    []provisioning.Node
	Services []provisioning.ServiceID
	Uses     []use
	Mappings []ipam.Mapping
	Extras   []netip.Prefix
}

// ServiceDump is a service of a Dump.
type ServiceDump struct {
	provisioning.Service
	Places []netip.AddrPort
	Users  map[provisioning.SiteID]provisioning.Grant
}

// Dump returns it, with nil and empty alike.
func (x *Index) Dump() Dump {
	d := Dump{
		Overlay: plain(x.overlay, itself), Allocations: plain(x.allocations, at), Own: collect(x.own, func(v []*provisioning.Range) []provisioning.Range {
			return plain(v, at)
		}), Ranges: collect(x.ranges, at), Nodes: collect(x.nodes, at), Inactive: collect(x.inactive, at), Sound: x.Sound(), Broken: x.broken,
		Keys: collect(x.claims.keys, itself), Next: collect(x.claims.next, itself), Hosts: collect(x.claims.hosts, itself),
		Names: collect(x.claims.names, itself), Titles: collect(x.claims.titles, itself),
		Relays: plain(x.relays, func(r wire.RelayServer) string { return fmt.Sprintf("%+v", r) }), Ways: plain(x.ways, itself),
	}
	d.Sites = collect(x.sites, func(v *site) SiteDump {
		return SiteDump{
			v.Site, plain(v.nodes, at), plain(v.services, itself), plain(v.uses, itself), plain(v.mappings, itself), plain(v.extras, itself),
		}
	})
	d.Services = collect(x.services, func(v *service) ServiceDump {
		return ServiceDump{v.Service, plain(v.places, itself), collect(v.users, itself)}
	})
	return d
}

// Follow is Change where that makes no new Index.
func (x *Index) Follow(c Change) bool {
	e := newEditor(x, c)
	return x.Sound() && e.ranges() && e.renamed() && e.nodes() && e.services() && e.grants() && e.settle()
}

func itself[T any](v T) T { return v }

func at[T any](p *T) T { return *p }

func plain[T, U any](list []T, as func(T) U) []U {
	out := make([]U, 0, len(list))
	for _, v := range list {
		out = append(out, as(v))
	}
	return out
}

func collect[K comparable, T, U any](t table[K, T], as func(T) U) map[K]U {
	out := make(map[K]U, t.len())
	for k, v := range t.all() {
		out[k] = as(v)
	}
	return out
}
