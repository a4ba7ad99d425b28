package relay

import (
	"fmt"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Admission says who may meet through a relay. It replaces an earlier one as a whole.
type Admission struct {
	// Own are the keys of the device that has the port: what is for them is never forwarded.
	Own     []wgkey.PublicKey `json:"own"`
	Members []Member          `json:"members,omitempty"`
	// Pairs are places in Members.
	Pairs [][2]int `json:"pairs,omitempty"`
}

// Member is an end that others may be reached at.
type Member struct {
	Key wgkey.PublicKey `json:"key"`
	// Next is the key that the member will change to; the zero value means that it keeps its own.
	Next wgkey.PublicKey `json:"next,omitzero"`
	// Unmanaged is a plain WireGuard device, which has no session with the relay's own device.
	Unmanaged bool `json:"unmanaged,omitempty"`
}

func (m Member) keys() []wgkey.PublicKey {
	if m.Next.IsZero() {
		return []wgkey.PublicKey{m.Key}
	}
	return []wgkey.PublicKey{m.Key, m.Next}
}

// Check reports what makes no sense: a key of two, a pair of nobody, or more than a relay takes.
func (a Admission) Check() error {
	if len(a.Members) > maxMembers || len(a.Pairs) > maxPairs {
		return fmt.Errorf("%d members and %d pairs are more than the %d and %d that a relay takes", len(a.Members), len(a.Pairs), maxMembers, maxPairs)
	}
	seen := make(map[wgkey.PublicKey]bool, len(a.Members)+len(a.Own))
	take := func(k wgkey.PublicKey) error {
		if k.IsZero() || seen[k] {
			return fmt.Errorf("the key %v is no key, or that of two", k)
		}
		seen[k] = true
		return nil
	}
	for _, k := range a.Own {
		if err := take(k); err != nil {
			return err
		}
	}
	for _, m := range a.Members {
		for _, k := range m.keys() {
			if err := take(k); err != nil {
				return err
			}
		}
	}
	for _, p := range a.Pairs {
		if p[0] == p[1] || min(p[0], p[1]) < 0 || max(p[0], p[1]) >= len(a.Members) {
			return fmt.Errorf("there is no pair of members %d and %d", p[0], p[1])
		}
	}
	return nil
}

// Admit makes a what holds from now on. Sessions of pairs that stay are kept; those of others end at once. An error means that a makes no
// sense, and leaves all as it was.
func (t *Table) Admit(a Admission) error {
	if err := a.Check(); err != nil {
		return fmt.Errorf("admit to the relay: %w", err)
	}
	own, err := macKeys(a.Own)
	if err != nil {
		return err
	}
	t.round++
	members := make(map[wgkey.PublicKey]*member, len(a.Members))
	list := make([]*member, len(a.Members))
	for i, m := range a.Members {
		if list[i], err = t.renewed(m); err != nil {
			return err
		}
		for _, k := range m.keys() {
			members[k] = list[i]
		}
	}
	t.pairUp(list, a.Pairs)
	for _, m := range t.list {
		if m.round != t.round {
			t.leave(m)
		}
	}
	t.admission, t.own, t.members, t.list = a, own, members, list
	t.doors = t.doors[:0]
	for _, m := range list {
		if m.hasDoor() {
			t.doors = append(t.doors, m)
		}
	}
	return nil
}

func macKeys(keys []wgkey.PublicKey) ([]*macKey, error) {
	out := make([]*macKey, len(keys))
	for i, k := range keys {
		var err error
		if out[i], err = newMACKey(k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// renewed is the member that has one of the keys already, or a new one.
func (t *Table) renewed(m Member) (*member, error) {
	is := t.members[m.Key]
	if is == nil && !m.Next.IsZero() {
		is = t.members[m.Next]
	}
	if is != nil && (is.round == t.round || is.Unmanaged != m.Unmanaged) {
		is = nil
	}
	if is != nil && is.Member == m {
		is.round = t.round
		return is, nil
	}
	macs, err := macKeys(m.keys())
	if err != nil {
		return nil, err
	}
	if is == nil {
		is = &member{mates: map[*member]*pair{}}
	}
	is.Member, is.macs, is.round = m, macs, t.round
	return is, nil
}

// pairUp makes the pairs of the members exactly those that are listed.
func (t *Table) pairUp(list []*member, pairs [][2]int) {
	for _, p := range pairs {
		a, b := list[p[0]], list[p[1]]
		of := a.mates[b]
		if of == nil {
			of = &pair{a: a, b: b}
			a.mates[b], b.mates[a] = of, of
		}
		of.round = t.round
	}
	for _, m := range list {
		for _, of := range m.mates {
			if of.round != t.round {
				t.part(of)
			}
		}
	}
}

// part ends a pair.
func (t *Table) part(p *pair) {
	for len(p.asks) > 0 {
		t.remove(p.asks[0])
	}
	for len(p.sessions) > 0 {
		t.remove(p.sessions[0])
	}
	delete(p.a.mates, p.b)
	delete(p.b.mates, p.a)
}

// leave ends all that is known of a member.
func (t *Table) leave(m *member) {
	for _, p := range m.mates {
		t.part(p)
	}
	t.unknown.each(func(f *flow) {
		if f.to.who == m {
			t.remove(f)
		}
	})
	if t.at[m.at] == m {
		delete(t.at, m.at)
	}
}
