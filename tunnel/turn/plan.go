package turn

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// plan is a Config and what is known about its keys.
type plan struct {
	config tunnel.Config
	own    wgkey.PublicKey
	since  time.Time // when the device got the own key; zero if it had it already
	pairs  []pair    // of the peers with a Next, in their order
	calls  calls
}

// pair is the two keys of one peer.
type pair struct {
	key, next         wgkey.PublicKey
	observed          bool      // at least once
	keySeen, nextSeen time.Time // their last handshakes
	turned            bool      // next is in use
	endpoint          bool      // there is one for the key that is not in use
	keepalive         bool      // the peer is to be kept alive
	born              time.Time // when the pair was configured
	heard             time.Time // when either key had its last handshake
	knocked           time.Time // when the key that is not in use was called last
}

// newPlan takes over from the one before what is known about the same pairs. It shares no memory with c or old.
func newPlan(c tunnel.Config, own wgkey.PublicKey, old *plan) *plan {
	c.Addresses, c.Blackhole, c.Peers = slices.Clone(c.Addresses), slices.Clone(c.Blackhole), slices.Clone(c.Peers)
	p := &plan{config: c, own: own, since: old.since, calls: old.calls.clone()}
	known := make(map[[2]wgkey.PublicKey]pair, len(old.pairs))
	for _, o := range old.pairs {
		known[[2]wgkey.PublicKey{o.key, o.next}] = o
	}
	now := time.Now()
	for i, peer := range c.Peers {
		c.Peers[i].AllowedIPs = slices.Clone(peer.AllowedIPs)
		if peer.Next.IsZero() {
			continue
		}
		pr, ok := known[[2]wgkey.PublicKey{peer.PublicKey, peer.Next}]
		if !ok {
			pr = pair{key: peer.PublicKey, next: peer.Next, born: now}
		}
		pr.keepalive = peer.PersistentKeepalive > 0
		p.pairs = append(p.pairs, pr)
	}
	return p
}

// keys are those of all pairs.
func (p *plan) keys() []wgkey.PublicKey {
	list := make([]wgkey.PublicKey, 0, 2*len(p.pairs))
	for _, pr := range p.pairs {
		list = append(list, pr.key, pr.next)
	}
	return list
}

// observe learns from the device which keys are in use, and returns the pairs that turned.
func (p *plan) observe(s tunnel.Status) (turned []pair) {
	if len(p.pairs) == 0 {
		return nil
	}
	last := make(map[wgkey.PublicKey]tunnel.PeerStatus, 2*len(p.pairs))
	for _, pr := range p.pairs {
		last[pr.key], last[pr.next] = tunnel.PeerStatus{}, tunnel.PeerStatus{}
	}
	for _, ps := range s.Peers {
		if _, ok := last[ps.PublicKey]; ok {
			last[ps.PublicKey] = ps
		}
	}
	now := time.Now()
	for i := range p.pairs {
		if pr := &p.pairs[i]; pr.observe(last[pr.key], last[pr.next], now) {
			turned = append(turned, *pr)
		}
	}
	return turned
}

func (pr *pair) observe(key, next tunnel.PeerStatus, now time.Time) (turned bool) {
	keyNew := !key.LastHandshake.IsZero() && !key.LastHandshake.Equal(pr.keySeen)
	nextNew := !next.LastHandshake.IsZero() && !next.LastHandshake.Equal(pr.nextSeen)
	pr.keySeen, pr.nextSeen = key.LastHandshake, next.LastHandshake
	was := pr.turned
	switch {
	case keyNew && nextNew:
		pr.turned = next.LastHandshake.After(key.LastHandshake)
	case keyNew || nextNew:
		pr.turned = nextNew
	}
	if keyNew || nextNew {
		pr.heard = now
	}
	used, idle := key, next
	if pr.turned {
		used, idle = next, key
	}
	if !pr.observed && now.After(used.LastHandshake) {
		pr.heard = used.LastHandshake // long ago, or never
	}
	pr.observed, pr.endpoint = true, idle.Endpoint.IsValid()
	return pr.turned != was
}

// changed notes that the device gets another own key, and calls all peers that can be called, those heard last first. The first key of
// a device is no change: nobody waits for it.
func (p *plan) changed(s tunnel.Status) {
	p.since = time.Now()
	p.calls = calls{}
	if s.PublicKey.IsZero() {
		return
	}
	reachable := make(map[wgkey.PublicKey]netip.AddrPort, len(s.Peers))
	heard := make(map[wgkey.PublicKey]time.Time, len(s.Peers))
	for _, ps := range s.Peers {
		reachable[ps.PublicKey], heard[ps.PublicKey] = ps.Endpoint, ps.LastHandshake
	}
	var keys []wgkey.PublicKey
	for holder := range p.holders() {
		if holder.Endpoint.IsValid() || reachable[holder.PublicKey].IsValid() {
			keys = append(keys, holder.PublicKey)
		}
	}
	slices.SortStableFunc(keys, func(a, b wgkey.PublicKey) int { return heard[b].Compare(heard[a]) })
	p.calls.add(keys...)
}

// knock calls the keys that are not in use of those pairs whose other key is silent.
func (p *plan) knock(now time.Time) {
	for i := range p.pairs {
		pr := &p.pairs[i]
		idle := pr.next
		if pr.turned {
			idle = pr.key
		}
		wait := patience
		if bytes.Compare(p.own[:], idle[:]) > 0 { // the other end goes first
			wait *= 2
		}
		silent := pr.heard.IsZero() || pr.heard.Before(p.since) || pr.keepalive && now.Sub(pr.heard) > rejectAfter+wait
		early := now.Sub(p.since) < wait || now.Sub(pr.born) < wait || !pr.knocked.IsZero() && now.Sub(pr.knocked) < knockEvery
		if silent && !early && pr.endpoint {
			pr.knocked = now
			p.calls.add(idle)
		}
	}
}

// holders are the peers as the device sees them, except for keys that are not in use. The second value is the latter's peer, if any.
func (p *plan) holders() func(yield func(holder, idle tunnel.Peer) bool) {
	return func(yield func(holder, idle tunnel.Peer) bool) {
		n := 0
		for _, peer := range p.config.Peers {
			var idle tunnel.Peer
			if !peer.Next.IsZero() {
				idle = tunnel.Peer{PublicKey: peer.Next, PresharedKey: peer.PresharedKey, Endpoint: peer.Endpoint}
				if p.pairs[n].turned {
					peer.PublicKey, idle.PublicKey = idle.PublicKey, peer.PublicKey
				}
				peer.Next = wgkey.PublicKey{}
				n++
			}
			if !yield(peer, idle) {
				return
			}
		}
	}
}

// expand is what the device gets.
func (p *plan) expand() tunnel.Config {
	c := p.config
	c.Peers = make([]tunnel.Peer, 0, len(p.config.Peers)+len(p.pairs))
	for holder, idle := range p.holders() {
		holder.PersistentKeepalive = p.calls.keepalive(holder)
		c.Peers = append(c.Peers, holder)
		if !idle.PublicKey.IsZero() {
			idle.PersistentKeepalive = p.calls.keepalive(idle)
			c.Peers = append(c.Peers, idle)
		}
	}
	return c
}

// calls are the peers that are to send something at once. WireGuard does so when a keepalive that was off is turned on, so each
// waits with its keepalive off until its turn.
type calls struct {
	waiting []wgkey.PublicKey
	state   map[wgkey.PublicKey]call
}

type call int

const (
	waits call = iota + 1
	made
)

func (c *calls) clone() calls { return calls{slices.Clone(c.waiting), maps.Clone(c.state)} }

func (c *calls) empty() bool { return len(c.state) == 0 }

func (c *calls) add(keys ...wgkey.PublicKey) {
	if c.state == nil {
		c.state = make(map[wgkey.PublicKey]call, len(keys))
	}
	for _, k := range keys {
		if c.state[k] != waits {
			c.state[k] = waits
			c.waiting = append(c.waiting, k)
		}
	}
}

// advance ends the calls that were made and makes the next ones. It reports whether the device has to be configured for that.
func (c *calls) advance() bool {
	if c.empty() {
		return false
	}
	maps.DeleteFunc(c.state, func(_ wgkey.PublicKey, s call) bool { return s == made })
	n := min(callsAtOnce, len(c.waiting))
	for _, k := range c.waiting[:n] {
		c.state[k] = made
	}
	c.waiting = c.waiting[n:]
	return true
}

// keepalive is the interval that the peer gets now.
func (c *calls) keepalive(p tunnel.Peer) time.Duration {
	switch c.state[p.PublicKey] {
	case waits:
		return 0
	case made:
		if p.PersistentKeepalive == 0 {
			return tunnel.MaxKeepalive
		}
	}
	return p.PersistentKeepalive
}
