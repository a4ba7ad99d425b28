package prove

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Delta is what a Prover's Update takes.
type Delta struct{ Remove, Add Input }

// Between returns what makes b of a. Where both have the same in the same order, it only compares. Of the maps it looks at every peer; who
// knows which ones changed leaves them out of a and b and adds those, see Affected.
func Between(a, b Input) Delta {
	var d Delta
	if b.Hub != nil && (a.Hub == nil || !a.Hub.equal(*b.Hub)) {
		d.Add.Hub = b.Hub
	}
	d.Remove.Plan.Entries, d.Add.Plan.Entries = differ(a.Plan.Entries, b.Plan.Entries, same[plandoc.Entry], key)
	d.Remove.Sites, d.Add.Sites = differ(a.Sites, b.Sites, same, itself[Site])
	d.Remove.Nodes, d.Add.Nodes = differ(a.Nodes, b.Nodes, Node.equal, nodeKeyOf)
	d.Remove.Services, d.Add.Services = differ(a.Services, b.Services, same, itself[Service])
	d.Remove.Grants, d.Add.Grants = differ(a.Grants, b.Grants, same, itself[Grant])
	d.Remove.HubPeers, d.Add.HubPeers = differ(a.HubPeers, b.HubPeers, HubPeer.equal, hubPeerKeyOf)
	d.Remove.Maps, d.Add.Maps = differMaps(a.Maps, b.Maps)
	return d
}

func same[T comparable](a, b T) bool { return a == b }

func itself[T any](v T) T { return v }

// nodeKey and hubPeerKey are what they are called after, but comparable.
type nodeKey struct {
	id, site           string
	kind               wire.NodeKind
	publicKey, nextKey wgkey.PublicKey
	rotate             wire.RotateStep
	address, former    netip.Addr
	mapped             string
	rank               int
	endpoint, member   string
}

func nodeKeyOf(n Node) nodeKey {
	k := nodeKey{n.ID, n.Site, n.Kind, n.PublicKey, n.NextKey, n.Rotate, n.Address, n.Former, joined(n.Mapped), n.Rank, n.Endpoint, ""}
	if n.Member != nil {
		k.member = fmt.Sprintf("%q %q", n.Member.Payload, n.Member.Signature)
	}
	return k
}

type hubPeerKey struct {
	publicKey, nextKey wgkey.PublicKey
	allowed            string
}

func hubPeerKeyOf(h HubPeer) hubPeerKey {
	return hubPeerKey{h.PublicKey, h.NextKey, joined(h.AllowedIPs)}
}

// joined is different for different lists.
func joined(prefixes []netip.Prefix) string {
	var b []byte
	for _, q := range prefixes {
		b = append(q.AppendTo(b), ' ')
	}
	return string(b)
}

// differ returns what only a and only b have, counting repetitions. What is the same has the same key. Ends that are the same, of which
// there are long ones when little has changed, cost a comparison each.
func differ[T any, K comparable](a, b []T, same func(T, T) bool, key func(T) K) (remove, add []T) {
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	n := make(map[K]int, len(a))
	for _, v := range a {
		n[key(v)]++
	}
	for _, v := range b {
		k := key(v)
		if n[k] == 0 {
			add = append(add, v)
			continue
		}
		n[k]--
	}
	for _, v := range slices.Backward(a) {
		k := key(v)
		if n[k] > 0 {
			n[k]--
			remove = append(remove, v)
		}
	}
	return remove, add
}

// differMaps returns all maps of the nodes of which not all are the same: an Update replaces the maps of a node at once.
func differMaps(a, b []wire.NetMap) (remove, add []wire.NetMap) {
	of := map[string][]wire.NetMap{}
	for _, m := range a {
		of[m.Self.Node] = append(of[m.Self.Node], m)
	}
	left := map[string][]wire.NetMap{}
	for _, m := range b {
		left[m.Self.Node] = append(left[m.Self.Node], m)
	}
	stays := map[string]bool{}
	for id, maps := range left {
		stays[id] = slices.EqualFunc(maps, of[id], sameMap)
	}
	return slices.DeleteFunc(slices.Clone(a), func(m wire.NetMap) bool { return stays[m.Self.Node] }),
		slices.DeleteFunc(slices.Clone(b), func(m wire.NetMap) bool { return stays[m.Self.Node] })
}

// sameMap leaves out what is no part of the proof, as mapLeaf does.
func sameMap(a, b wire.NetMap) bool {
	a.Generation, a.Issued, a.Expires = 0, time.Time{}, time.Time{}
	b.Generation, b.Issued, b.Expires = 0, time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}
