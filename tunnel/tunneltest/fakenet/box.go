package fakenet

import (
	"net/netip"
	"time"
)

// Filtering says whose packets come in (RFC 4787 §5).
type Filtering uint8

// Kinds of filtering.
const (
	Anyone       Filtering = iota // endpoint-independent
	SameAddress                   // address-dependent
	SameEndpoint                  // address and port-dependent
)

// Kind is a kind of router.
type Kind struct {
	Name string
	// Translates is false for a firewall, behind which addresses are public.
	Translates bool
	// PerDestination is endpoint-dependent mapping: another port for every destination, a "symmetric" NAT.
	PerDestination bool
	Filtering      Filtering
	// Only, if valid, is the one destination that packets may go to.
	Only netip.AddrPort
}

// Age is how long a mapping lives without a packet from the inside: a short one that is common.
const Age = 30 * time.Second

// maxFlows bounds the memory of a router.
const maxFlows = 1 << 14

type flow struct{ inside, remote netip.AddrPort }

// box is a router with its state.
type box struct {
	kind    Kind
	outside netip.Addr
	next    uint16
	maps    map[flow]netip.AddrPort           // remote is zero for mappings that do not depend on it
	back    map[netip.AddrPort]netip.AddrPort // outside to inside
	used    map[flow]time.Time                // inside is the mapped address here
}

func newBox(k Kind, outside netip.Addr) *box {
	return &box{kind: k, outside: outside, next: 40000, maps: map[flow]netip.AddrPort{}, back: map[netip.AddrPort]netip.AddrPort{}, used: map[flow]time.Time{}}
}

// out passes a packet to the outside and returns the source it has there.
func (b *box) out(src, dst netip.AddrPort) (netip.AddrPort, bool) {
	if b.kind.Only.IsValid() && dst != b.kind.Only || len(b.used) > maxFlows {
		return src, false
	}
	mapped := src
	if b.kind.Translates {
		key := flow{inside: src}
		if b.kind.PerDestination {
			key.remote = dst
		}
		m, ok := b.maps[key]
		if !ok {
			b.next++
			m = netip.AddrPortFrom(b.outside, b.next)
			b.maps[key], b.back[m] = m, src
		}
		mapped = m
	} else {
		b.back[src] = src
	}
	b.used[flow{mapped, dst}] = time.Now()
	return mapped, true
}

// in passes a packet to the inside and returns its destination there.
func (b *box) in(src, dst netip.AddrPort) (netip.AddrPort, bool) {
	inside, ok := b.back[dst]
	if !ok {
		return inside, false
	}
	for f, at := range b.used {
		if f.inside != dst || time.Since(at) > Age {
			continue
		}
		if b.kind.Filtering == Anyone || f.remote.Addr() == src.Addr() && (b.kind.Filtering == SameAddress || f.remote == src) {
			return inside, true
		}
	}
	return inside, false
}
