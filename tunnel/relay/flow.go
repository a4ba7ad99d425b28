package relay

import (
	"net/netip"
	"slices"
	"time"
)

// member is a Member and what is known of it.
type member struct {
	Member

	macs []*macKey
	// mates are all whom it may meet.
	mates map[*member]*pair
	// at is where it is, until then; both are zero if that is not known. Table.at leads back.
	at    netip.AddrPort
	until time.Time
	// seen is the handshake that said so.
	seen time.Time
	// work limits the keys that are tried for it, door the unknown who call it.
	work, door bucket
	round      uint64
}

func (m *member) fits(p []byte) bool {
	return slices.ContainsFunc(m.macs, func(k *macKey) bool { return k.fits(p) })
}

// hasDoor reports whether a plain device may call m.
func (m *member) hasDoor() bool {
	if m.Unmanaged {
		return false
	}
	for mate := range m.mates {
		if mate.Unmanaged {
			return true
		}
	}
	return false
}

// pair is two members that may meet.
type pair struct {
	a, b *member
	// asks and sessions are oldest first.
	asks, sessions []*flow
	bytes          bucket
	// calls are the initiations of a and of b.
	calls [2]bucket
	round uint64
}

// callsOf is the limit of one of the two.
func (p *pair) callsOf(m *member) *bucket {
	if p.a == m {
		return &p.calls[0]
	}
	return &p.calls[1]
}

// stage is how far a handshake is.
type stage byte

const (
	// asked: an initiation has passed.
	asked stage = iota
	// answered: a response has passed.
	answered
	// open: the initiator has used the index that the response told it, so that its address is its own.
	open
)

// end is one of the two of a flow.
type end struct {
	who   *member // nil while it is not known who calls
	at    netip.AddrPort
	index uint32
}

// flow is one handshake and the session that comes of it.
type flow struct {
	pair     *pair // nil while it is not known who calls
	from, to end
	stage    stage
	// credit is how many bytes may still go to the initiator before it has proven its address; tries are responses that did not fit.
	credit, tries int
	until, used   time.Time

	list       *flowList
	prev, next *flow
}

// route is how a packet is found that belongs to a flow: by where it comes from and the index of whom it is for.
type route struct {
	from  netip.AddrPort
	index uint32
}

// toInitiator is the route of what the responder sends, toResponder of what the initiator sends.
func (f *flow) toInitiator() route { return route{f.to.at, f.from.index} }
func (f *flow) toResponder() route { return route{f.from.at, f.to.index} }

// flowList holds flows of one lifetime, oldest first.
type flowList struct {
	life        time.Duration
	first, last *flow
	size        int
}

func (l *flowList) add(f *flow, now time.Time) {
	f.list, f.prev, f.next, f.until = l, l.last, nil, now.Add(l.life)
	if l.last != nil {
		l.last.next = f
	} else {
		l.first = f
	}
	l.last = f
	l.size++
}

func (l *flowList) drop(f *flow) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.last = f.prev
	}
	f.list, f.prev, f.next = nil, nil, nil
	l.size--
}

// each calls do, which may drop the flow it is called with.
func (l *flowList) each(do func(*flow)) {
	for f := l.first; f != nil; {
		next := f.next
		do(f)
		f = next
	}
}

// remove forgets a flow.
func (t *Table) remove(f *flow) {
	t.unroute(f)
	f.list.drop(f)
	if p := f.pair; p != nil {
		p.asks = without(p.asks, f)
		p.sessions = without(p.sessions, f)
	}
}

func without(list []*flow, f *flow) []*flow {
	if i := slices.Index(list, f); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// unroute takes the routes of a flow away, routes it puts them in. It reports false, and does nothing, if one is another flow's or the
// device's own.
func (t *Table) unroute(f *flow) {
	for _, r := range [...]route{f.toInitiator(), f.toResponder()} {
		if t.flows[r] == f {
			delete(t.flows, r)
		}
	}
}

func (t *Table) route(f *flow) bool {
	if !t.free(f.toInitiator(), f) || f.stage != asked && !t.free(f.toResponder(), f) {
		return false
	}
	t.flows[f.toInitiator()] = f
	if f.stage != asked {
		t.flows[f.toResponder()] = f
	}
	return true
}

func (t *Table) free(r route, f *flow) bool {
	other := t.flows[r]
	return (other == nil || other == f) && !t.isOwn(r.index)
}

// expire forgets what is over. It costs what it forgets.
func (t *Table) expire(now time.Time) {
	for _, l := range [...]*flowList{&t.unknown, &t.asked, &t.sessions} {
		for l.first != nil && now.After(l.first.until) {
			t.remove(l.first)
		}
	}
	if now.After(t.ownTurn) {
		t.ownOld, t.ownNew = t.ownNew, make(map[uint32]owned, len(t.ownNew))
		t.ownTurn = now.Add(sessionLife)
	}
}
