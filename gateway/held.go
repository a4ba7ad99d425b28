package gateway

import "github.com/towpath/towpath/provisioning/wire"

// held is the map of the box, and what is known of it.
func (g *Gateway) held() wire.Held {
	g.mu.Lock()
	defer g.mu.Unlock()
	return wire.Held{NetMap: g.netMap, Hash: g.hash, Generation: g.newest}
}

// beat is what the coordinator hears while the box watches.
func (g *Gateway) beat() wire.Beat {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := wire.Beat{Applied: g.applied, ApplyError: g.problem}
	if g.applied == g.netMap.Generation {
		b.Applied = g.newest // the map did not change since, and is true for the newest generation too
	}
	return b
}
