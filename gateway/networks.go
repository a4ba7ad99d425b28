package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxConflicts bounds how many networks one message names.
const maxConflicts = 4

// look learns the box's networks anew and compares them with the plan.
func (g *Gateway) look() {
	if g.opt.Look != nil {
		f := g.opt.Look()
		g.mu.Lock()
		g.facts = f
		g.mu.Unlock()
	}
	g.checkNetworks(g.currentMap().Overlay)
}

// checkNetworks raises a Condition for networks of this box that the plan uses. What then happens is safe and not what the clinic wants: the
// box dials nothing of the plan on its LAN side, and the kernel's routes into the plan lead into the tunnel or nowhere.
func (g *Gateway) checkNetworks(overlay []netip.Prefix) {
	g.mu.Lock()
	list := conflicts(g.facts, overlay)
	g.mu.Unlock()
	if len(list) == 0 {
		if g.health.Clear(codeLANInPool) {
			g.opt.Log.Info("no network of this box is in the plan any more")
		}
		return
	}
	if more := len(list) - maxConflicts; more > 0 {
		list = append(list[:maxConflicts], fmt.Sprintf("and %d more", more))
	}
	message := strings.Join(list, "; ") + ". Give the box a network with other addresses, or ask the center to change its plan: " +
		"it sees this, too, with \"towpath plan check\""
	if g.health.Raise(codeLANInPool, health.Error, message, time.Now()) {
		g.opt.Log.Error("a network of this box is in the plan", "conflict", message)
	}
}

// conflicts says which networks meet a prefix of the plan, each with the widest such prefix and what does not work.
func conflicts(f wire.Facts, overlay []netip.Prefix) []string {
	var out []string
	for _, l := range []struct {
		prefixes      []netip.Prefix
		name, suffers string
	}{
		{f.LANs, "the LAN %v of this box", "devices there cannot be reached by the center, and may not reach the box"},
		{f.WANs, "the network %v between this box and the internet", "the box may not reach the coordinator and the other sites"},
		{f.Containers, "the network %v of containers on this box", "programs in them cannot be reached by the center, nor reach its services"},
	} {
		for _, p := range l.prefixes {
			if i := slices.IndexFunc(overlay, p.Overlaps); i >= 0 {
				out = append(out, fmt.Sprintf(l.name+" overlaps %v, which the address plan uses: %s", p, overlay[i], l.suffers))
			}
		}
	}
	return out
}
