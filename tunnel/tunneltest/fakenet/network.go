package fakenet

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

type packet struct {
	data     []byte
	src, dst netip.AddrPort
}

// Network is the internet. Its methods are safe for concurrent use.
type Network struct {
	mu    sync.Mutex
	delay time.Duration
	hosts []*Host
	relay netip.AddrPort
	ends  [2]netip.AddrPort // where the relay sees its ends
	lost  func(src, dst netip.AddrPort) bool
}

// New returns a Network with a delay in one direction.
func New(delay time.Duration) *Network { return &Network{delay: delay} }

// Lose has the network lose what f says, by the addresses that packets have in the open internet; nil loses nothing.
func (n *Network) Lose(f func(src, dst netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = f
}

// Relay places the relay.
func (n *Network) Relay(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relay = at
}

// Host adds a host with routers between it and the internet, the nearest first, each with its outside address.
func (n *Network) Host(at netip.AddrPort, kinds []Kind, outside []netip.Addr) *Host {
	h := &Host{net: n, at: at, in: make(chan packet, 1024)}
	for i, k := range kinds {
		h.boxes = append(h.boxes, newBox(k, outside[i]))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = append(n.hosts, h)
	return h
}

// Meet registers the hosts as the relay's ends and returns where the relay, which is also the hub, sees them. It is to be repeated within
// Age, as keepalives of sessions with the hub are.
func (n *Network) Meet(a, b *Host) [2]netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, h := range []*Host{a, b} {
		if at, ok := h.out(n.relay); ok {
			n.ends[i] = at
		}
	}
	return n.ends
}

// send is called with mu held.
func (n *Network) send(p packet) {
	if n.lost != nil && n.lost(p.src, p.dst) {
		return
	}
	time.AfterFunc(n.delay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.arrive(p)
	})
}

func (n *Network) arrive(p packet) {
	if p.dst == n.relay {
		if i := slices.Index(n.ends[:], p.src); i >= 0 {
			n.send(packet{p.data, n.relay, n.ends[1-i]})
		}
		return
	}
	for _, h := range n.hosts {
		if dst, ok := h.reach(p.src, p.dst); ok {
			if dst == h.at {
				select {
				case h.in <- packet{p.data, p.src, dst}:
				default: // a full queue
				}
			}
			return
		}
	}
}
