package hub_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// The hub's relay hears of who may meet with each generation, and nobody is told of it where it is off.
func TestHubTellsItsRelay(t *testing.T) {
	for _, on := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t, provisioningtest.Options{Relay: on})
			n.Center(t, "lab", "")
			n.Clinic(t, "nord")
			n.DICOM(t, "lab", "pacs", "PACS")
			d := &fakeDevice{}
			var mu sync.Mutex
			var told []wire.RelayTable
			h := hub.New(hub.Config{Device: d, Stack: d, Coordinator: n.Coordinator, Relay: func(r wire.RelayTable) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, r)
				return nil
			}})
			last := func() wire.RelayTable {
				time.Sleep(2 * configureTime)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				return told[len(told)-1]
			}
			ended := make(chan error, 1)
			go func() { ended <- h.Run(t.Context()) }()
			<-h.Ready()
			lab, nord := n.Node(t, "lab"), n.Node(t, "nord")
			if r := last(); len(r.Members) != 0 {
				t.Errorf("without a grant the relay forwards %+v", r)
			}
			n.Grant(t, "pacs", "nord")
			r := last()
			_, m, err := n.NetMapFor(t.Context(), nord.ID)
			if err != nil || len(m.Peers) != 1 {
				t.Fatalf("%+v, %v", m, err)
			}
			if !on {
				if len(r.Members) != 0 || len(m.Peers[0].Relays) != 0 {
					t.Errorf("a hub that is no relay forwards %+v and the clinic's peer is %+v", r, m.Peers[0])
				}
				return
			}
			keys := []wire.RelayMember{{PublicKey: lab.Map().Self.PublicKey}, {PublicKey: nord.Map().Self.PublicKey}}
			if len(r.Pairs) != 1 || len(r.Members) != 2 || !slices.Contains(r.Members, keys[0]) || !slices.Contains(r.Members, keys[1]) {
				t.Errorf("the relay forwards %+v", r)
			}
			if p := m.Peers[0]; !slices.Equal(p.Relays, m.Hub.Endpoints) || p.Keepalive == 0 {
				t.Errorf("the clinic's peer is %+v", p)
			}
			n.Remove(t, nord.ID)
			if r := last(); len(r.Members) != 0 {
				t.Errorf("after the removal the relay forwards %+v", r)
			}
		})
	}
}
