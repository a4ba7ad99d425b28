package relay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel/relay"
)

// model knows what may go where, without a table: by who was ever where, and who was ever told an index by whom.
type model struct {
	table *relay.Table
	now   time.Time
	adm   relay.Admission
	// was are the addresses that a member's sessions were seen at; live is the last one.
	was  map[int]map[netip.AddrPort]bool
	live map[int]netip.AddrPort
	// vouched are the addresses of plain devices that a member answered under their key.
	vouched map[int]map[netip.AddrPort]bool
	in, out map[netip.AddrPort]int // bytes
	proven  map[netip.AddrPort]bool
	answers map[answer]bool
}

// answer is an index that was told to an address.
type answer struct {
	to    netip.AddrPort
	index uint32
}

func (m *model) may(a, b int) bool {
	for _, p := range m.adm.Pairs {
		if p == [2]int{a, b} || p == [2]int{b, a} {
			return true
		}
	}
	return false
}

// whoIs are all members that an address may stand for.
func (m *model) whoIs(at netip.AddrPort) (who []int) {
	for i := range m.adm.Members {
		if m.was[i][at] || m.vouched[i][at] {
			who = append(who, i)
		}
	}
	return who
}

func (m *model) meets(from, to netip.AddrPort) bool {
	for _, a := range m.whoIs(from) {
		for _, b := range m.whoIs(to) {
			if m.may(a, b) {
				return true
			}
		}
	}
	return false
}

// packet sends one and holds the verdict against what the model knows. made says for which member a handshake message was made.
func (m *model) packet(t *rapid.T, from netip.AddrPort, made int, p []byte) {
	m.in[from] += len(p)
	if p[0] == 4 && m.answers[answer{from, uint32(p[4]) | uint32(p[5])<<8}] {
		m.proven[from] = true
	}
	v := m.table.Packet(m.now, from, p)
	if v.Action != relay.Forward {
		return
	}
	m.out[v.To] += len(p)
	switch p[0] {
	case 1:
		if m.adm.Members[made].Unmanaged {
			if !m.vouched[made][v.To] || !m.proven[v.To] {
				t.Fatalf("an initiation to the plain device %d goes to %v, where nobody has shown to be it", made, v.To)
			}
		} else if v.To != m.live[made] {
			t.Fatalf("an initiation to member %d goes to %v, it is at %v", made, v.To, m.live[made])
		}
		known := m.whoIs(from)
		door := false
		for i, c := range m.adm.Members {
			door = door || c.Unmanaged && m.may(i, made) && !m.adm.Members[made].Unmanaged
		}
		for _, a := range known {
			door = door || m.may(a, made)
		}
		if !door {
			t.Fatalf("an initiation from %v (%v) reached member %d", from, known, made)
		}
	case 2:
		met := false
		for _, a := range m.whoIs(from) {
			met = met || m.may(a, made)
		}
		if !met {
			t.Fatalf("a response from %v to member %d passed", from, made)
		}
		if m.adm.Members[made].Unmanaged {
			m.vouched[made][v.To] = true
		} else if !m.was[made][v.To] {
			t.Fatalf("a response to member %d went to %v, where it never was", made, v.To)
		}
		m.answers[answer{v.To, uint32(p[4]) | uint32(p[5])<<8}] = true
	case 4:
		if !m.meets(from, v.To) {
			t.Fatalf("data went from %v (%v) to %v (%v)", from, m.whoIs(from), v.To, m.whoIs(v.To))
		}
	}
	if !m.proven[v.To] && len(m.wasAnybody(v.To)) == 0 && m.out[v.To] > m.in[v.To] {
		t.Fatalf("%v got %d bytes for the %d that came from there", v.To, m.out[v.To], m.in[v.To])
	}
}

func (m *model) wasAnybody(at netip.AddrPort) (who []int) {
	for i := range m.adm.Members {
		if m.was[i][at] {
			who = append(who, i)
		}
	}
	return who
}

// Whatever comes from wherever: nothing passes between members that may not meet, no address that has not proven itself gets more than it
// sent, and the table does not grow beyond its limits.
func TestNothingPassesThatMayNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const members, places, indexes, limit = 5, 8, 6, 12
		m := &model{
			table: relay.NewTable(relay.Limits{Sessions: limit}), now: start,
			live: map[int]netip.AddrPort{}, in: map[netip.AddrPort]int{}, out: map[netip.AddrPort]int{}, proven: map[netip.AddrPort]bool{},
			answers: map[answer]bool{}, was: map[int]map[netip.AddrPort]bool{}, vouched: map[int]map[netip.AddrPort]bool{},
		}
		m.adm = relay.Admission{Own: admission().Own}
		for i := range members {
			m.adm.Members = append(m.adm.Members, relay.Member{Key: keyOf(i + 1), Unmanaged: i >= 3})
			m.was[i], m.vouched[i] = map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
		}
		readmit := func(t *rapid.T) {
			m.adm.Pairs = nil
			for a := range members {
				for b := range a {
					if rapid.IntRange(0, 2).Draw(t, "pair") == 0 {
						m.adm.Pairs = append(m.adm.Pairs, [2]int{a, b})
					}
				}
			}
			if err := m.table.Admit(m.adm); err != nil {
				t.Fatal(err)
			}
		}
		readmit(t)
		place := rapid.Custom(func(t *rapid.T) netip.AddrPort {
			return addr(fmt.Sprintf("192.0.2.%d:7", rapid.IntRange(1, places).Draw(t, "place")))
		})
		member, index := rapid.IntRange(0, members-1), rapid.Uint32Range(1, indexes)
		t.Repeat(map[string]func(*rapid.T){
			"readmit": func(t *rapid.T) { readmit(t) },
			"wait":    func(t *rapid.T) { m.now = m.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "s")) * time.Second) },
			"locate": func(t *rapid.T) {
				i, at := rapid.IntRange(0, 2).Draw(t, "who"), place.Draw(t, "at")
				m.was[i][at], m.live[i] = true, at
				for j, other := range m.live {
					if j != i && other == at {
						delete(m.live, j)
					}
				}
				m.now = m.now.Add(time.Millisecond)
				m.table.Locate(m.now, []relay.Place{{Key: keyOf(i + 1), At: at, Handshake: m.now}})
			},
			"initiation": func(t *rapid.T) {
				to := member.Draw(t, "to")
				m.packet(t, place.Draw(t, "from"), to, initiation(keyOf(to+1), index.Draw(t, "i")))
			},
			"response": func(t *rapid.T) {
				to := member.Draw(t, "to")
				m.packet(t, place.Draw(t, "from"), to, response(keyOf(to+1), index.Draw(t, "i"), index.Draw(t, "j")))
			},
			"cookie": func(t *rapid.T) { m.packet(t, place.Draw(t, "from"), 0, cookie(index.Draw(t, "i"))) },
			"data": func(t *rapid.T) {
				m.packet(t, place.Draw(t, "from"), 0, data(index.Draw(t, "i"), rapid.IntRange(32, 1500).Draw(t, "size")))
			},
			"": func(t *rapid.T) {
				if n := m.table.Counters().Sessions; n > limit {
					t.Fatalf("there are %d sessions", n)
				}
			},
		})
	})
}
