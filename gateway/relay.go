package gateway

import (
	"slices"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
)

// Relay carries what others send to each other.
type Relay interface {
	// Admit makes true who may meet through the relay now.
	Admit(self wire.Self, t wire.RelayTable) error
	Status() localapi.Relay
}

const codeRelay = "relay"

// admit tells the relay who may meet through it.
func (g *Gateway) admit(m wire.NetMap) {
	if g.opt.Relay == nil {
		return
	}
	var t wire.RelayTable
	if m.Relay != nil {
		t = *m.Relay
	}
	err := g.opt.Relay.Admit(m.Self, t)
	switch {
	case err != nil:
		g.health.Raise(codeRelay, health.Error, "the relay goes on with what it had: "+err.Error(), time.Now())
	case m.Relay == nil:
		g.health.Raise(codeRelay, health.Warning, "this relay is not in service: its site needs an endpoint (\"towpath site set "+m.Self.Site+
			" --endpoint HOST:PORT\") and may have no gateway", time.Now())
	default:
		g.health.Clear(codeRelay)
	}
}

// endpointNames are all host:port of a map that lead somewhere, each once.
func endpointNames(m wire.NetMap) []string {
	names := slices.Clone(m.Hub.Endpoints)
	for _, p := range m.Peers {
		if len(p.Endpoints) > 0 {
			names = append(names, p.Endpoints...)
		} else {
			names = append(names, p.Relays...)
		}
	}
	for _, r := range m.Relays {
		names = append(names, r.Endpoints...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// calls reports whether it is for this box to keep the way to a peer open, so that a peer which was never heard is a fault.
func calls(p wire.Peer) bool {
	return len(p.Endpoints) > 0 || len(p.Relays) > 0 && p.Keepalive > 0
}
