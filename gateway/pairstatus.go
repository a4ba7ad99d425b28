package gateway

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/pairkey"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
)

// pairShown is what a status says of a pair.
type pairShown struct {
	standing pairkey.Standing
	deaf     bool
}

// describe says for people whether a peer's tunnel has a preshared key.
func (b *pairing) describe(p wire.Peer) string {
	if !reconcile.PairsWith(p) {
		return "no: a plain device"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.shown[p.Node]
	s := x.standing
	switch {
	case !ok:
		return "no: switched off"
	case s.Epoch > 0 && s.Fallen:
		return fmt.Sprintf("yes (epoch %d, because the box there lacks the newest)", s.Epoch)
	case s.Epoch > 0 && s.Proven:
		return fmt.Sprintf("yes (epoch %d)", s.Epoch)
	case s.Epoch > 0:
		return fmt.Sprintf("from the next handshake on (epoch %d)", s.Epoch)
	case x.deaf:
		return "no: the box there is too old"
	case s.Fallen:
		return "no: the box there has lost its keys"
	}
	return "no: not agreed yet"
}

// judge raises a Condition for every pair that should have a key and has none.
func (b *pairing) judge(v pairView, now time.Time) {
	var codes []string
	for _, peer := range v.peers {
		p := b.pairs[peer.Node]
		lacks := p.Lacking(now)
		required := v.self.PairKeys == wire.PairKeysRequired
		if lacks < pairLate && (!required || lacks < time.Minute) || b.deaf[peer.Node] && !required {
			continue
		}
		code := codePairKey + peer.Site
		codes = append(codes, code)
		if required {
			b.health.Raise(code, health.Error, fmt.Sprintf("there is no preshared key with site %s, and this network requires one, so there is no tunnel: %s",
				peer.Site, b.whyNot(peer.Node)), now)
			continue
		}
		b.health.Raise(code, health.Info, fmt.Sprintf("the tunnel with site %s has no post-quantum preshared key: %s", peer.Site, b.whyNot(peer.Node)), now)
	}
	b.health.Keep(codePairKey, codes)
}

func (b *pairing) whyNot(node string) string {
	switch {
	case b.silent:
		return "the coordinator does not carry messages about it now; see whether it runs, and is up to date"
	case b.deaf[node]:
		return "the software of the box there is too old: update it"
	}
	return "the box there has not answered; see whether it is connected to the coordinator"
}
