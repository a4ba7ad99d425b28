package gateway

import (
	"errors"
	"slices"
	"testing"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

type fakeRelay struct {
	told []wire.RelayTable
	fail error
}

func (r *fakeRelay) Admit(_ wire.Self, t wire.RelayTable) error {
	r.told = append(r.told, t)
	return r.fail
}
func (r *fakeRelay) Status() localapi.Relay { return localapi.Relay{} }

func TestARelayIsToldAndSaysWhatIsWrong(t *testing.T) {
	r := &fakeRelay{}
	g := &Gateway{opt: Options{Relay: r}}
	conditions := func() (n int) {
		for _, c := range g.health.List() {
			if c.Code == codeRelay {
				n++
			}
		}
		return n
	}
	table := wire.RelayTable{Members: []wire.RelayMember{{PublicKey: wgkey.PublicKey{1}}}}
	for _, c := range []struct {
		m     wire.NetMap
		fail  error
		wrong int
	}{
		{wire.NetMap{Relay: &table}, nil, 0},
		{wire.NetMap{Self: wire.Self{Site: "relay-1"}}, nil, 1},
		{wire.NetMap{Relay: &table}, errors.New("too many"), 1},
		{wire.NetMap{Relay: &table}, nil, 0},
	} {
		r.fail = c.fail
		g.admit(c.m)
		got := len(r.told[len(r.told)-1].Members)
		if want := c.m.Relay != nil; want != (got == 1) || conditions() != c.wrong {
			t.Errorf("with %+v: told of %d members, %d conditions, want %d", c.m, got, conditions(), c.wrong)
		}
	}
	(&Gateway{}).admit(wire.NetMap{}) // a gateway is none
}

func TestEveryNameIsLookedUpOnce(t *testing.T) {
	m := wire.NetMap{
		Hub: wire.Hub{Endpoints: []string{"hub:1"}},
		Peers: []wire.Peer{
			{Endpoints: []string{"a:1"}, Relays: []string{"unused:1"}}, {Relays: []string{"r:1", "hub:1"}}, {Relays: []string{"r:1", "hub:1"}}, {},
		},
		Relays: []wire.RelayServer{{Endpoints: []string{"r:1"}}},
	}
	if got, want := endpointNames(m), []string{"a:1", "hub:1", "r:1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i, want := range []bool{true, false, false, false} {
		if calls(m.Peers[i]) != want {
			t.Errorf("peer %d: it is for this box to call: %v", i, !want)
		}
	}
	if !calls(wire.Peer{Relays: []string{"r:1"}, Keepalive: 25}) {
		t.Error("who opens a way through a relay does not call")
	}
}
