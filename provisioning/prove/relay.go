package prove

import (
	"maps"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// servingRelay is what others are told of a relay.
type servingRelay struct {
	key, next wgkey.PublicKey
	endpoint  string
}

// servingRelays are those that others may meet through, by id: at a Site that has an endpoint and no gateway.
func servingRelays(in Input) map[string]servingRelay {
	endpoints := map[string]string{}
	for _, s := range in.Sites {
		endpoints[s.Name] = s.Endpoint
	}
	out := map[string]servingRelay{}
	for _, n := range in.Nodes {
		if n.gateway() {
			delete(endpoints, n.Site)
		}
	}
	for _, n := range in.Nodes {
		if e := endpoints[n.Site]; n.Kind == wire.Relay && e != "" {
			out[n.ID] = servingRelay{n.PublicKey, n.NextKey, e}
		}
	}
	return out
}

// relaysDiffer reports whether there are other relays in service than before, or something about one of them may have changed: then any map
// may.
func relaysDiffer(a, b Input, touched map[string]bool) bool {
	was, is := servingRelays(a), servingRelays(b)
	if !maps.Equal(was, is) {
		return true
	}
	for id := range is {
		if touched[id] {
			return true
		}
	}
	return false
}
