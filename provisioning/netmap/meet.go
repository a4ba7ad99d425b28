package netmap

import (
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Meet reports whether b is a Peer in the map of a. It does so without a map, which is large for a center.
func (x *Index) Meet(a, b provisioning.NodeID) bool {
	node, ok := x.nodes.get(a)
	far, there := x.nodes.get(b)
	if !ok || !there || a == b {
		return false
	}
	home, _ := x.sites.get(node.Site)
	own := node.Site == far.Site
	if far.Kind == wire.Gateway && mayUse(node.Kind, own) {
		for _, u := range home.uses {
			if v, _ := x.services.get(u.service); v.Site == far.Site {
				return true
			}
		}
	}
	if node.Kind == wire.Gateway && mayUse(far.Kind, own) {
		for v := range x.offered(home) {
			if v.users.has(far.Site) {
				return true
			}
		}
	}
	return false
}
