package relay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Place is where the device last heard one of its peers, by its own sessions.
type Place struct {
	Key wgkey.PublicKey
	At  netip.AddrPort
	// Handshake is that of the latest session; the zero value means that there was none.
	Handshake time.Time
}

// Locate tells where members are. Those that are not named stay where they were, until that is too long ago.
// The list is all that the device has.
func (t *Table) Locate(now time.Time, places []Place) {
	clear(t.others)
	for _, p := range places {
		m := t.members[p.Key]
		at := netip.AddrPortFrom(p.At.Addr().Unmap(), p.At.Port())
		if m == nil && !p.Handshake.IsZero() {
			t.others[at] = true
		}
		switch {
		case m == nil || m.Unmanaged || !at.IsValid() || at.Port() == 0 || p.Handshake.IsZero() || p.Handshake.Before(m.seen):
		case now.Sub(p.Handshake) > liveFor:
		default:
			m.seen = p.Handshake
			t.move(m, at, p.Handshake.Add(liveFor))
		}
	}
}

// move makes an address the place of a member, until some time. Sessions go with a managed member.
func (t *Table) move(m *member, at netip.AddrPort, until time.Time) {
	m.until = until
	if t.at[at] == m {
		return
	}
	if other := t.at[at]; other != nil {
		// One of them was there before: a box that was enrolled again, a translator that gave the port to another.
		if other.seen.After(m.seen) {
			return
		}
		other.at, other.until = netip.AddrPort{}, time.Time{}
	}
	was := m.at
	if t.at[was] == m {
		delete(t.at, was)
	}
	m.at = at
	t.at[at] = m
	if m.Unmanaged || !was.IsValid() {
		return
	}
	for _, p := range m.mates {
		for _, f := range slices.Concat(p.asks, p.sessions) {
			t.carry(f, m, was, at)
		}
	}
}

// carry moves one end of a flow. Where that would meet another flow, it ends.
func (t *Table) carry(f *flow, m *member, was, at netip.AddrPort) {
	t.unroute(f)
	for _, e := range [...]*end{&f.from, &f.to} {
		if e.who == m && e.at == was {
			e.at = at
		}
	}
	if !t.route(f) {
		t.remove(f)
	}
}

// prove notes that a plain device is where a session was opened from.
func (t *Table) prove(now time.Time, f *flow) {
	m := f.from.who
	if !m.Unmanaged {
		return
	}
	if other := t.at[f.from.at]; other != nil && !other.Unmanaged && now.Before(other.until) {
		return
	}
	m.seen = now
	t.move(m, f.from.at, now.Add(provenFor))
}

// owned is an index of the device itself.
type owned struct {
	peer netip.AddrPort
	used bool // by the peer
}

// NoteOwn tells of an index that the device itself has chosen, and of whom it talks to with it: what carries it is the device's, whatever
// else it could be.
func (t *Table) NoteOwn(index uint32, peer netip.AddrPort) { t.ownNew[index] = owned{peer: peer} }

func (t *Table) owns(index uint32) (owned, bool) {
	if o, ok := t.ownNew[index]; ok {
		return o, true
	}
	o, ok := t.ownOld[index]
	return o, ok
}

func (t *Table) isOwn(index uint32) bool {
	_, ok := t.owns(index)
	return ok
}

// knows reports whether the device has a session with somebody at an address.
func (t *Table) knows(at netip.AddrPort) bool { return t.at[at] != nil || t.others[at] }
