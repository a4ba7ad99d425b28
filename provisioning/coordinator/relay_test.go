package coordinator_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// A relay that follows hears of a pair when a grant makes it, and a clinic that follows of a relay that moves or goes.
func TestRelaysAreHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := provisioningtest.New(t, openStore(t), provisioningtest.Options{Relay: true})
		ctx := t.Context()
		n.Center(t, "lab", "")
		n.DICOM(t, "lab", "pacs", "PACS")
		n.Clinic(t, "nord")
		n.Clinic(t, "sued")
		n.Center(t, "relay-1", "relay-1.example.org:51820")
		_, token, err := n.CreateToken(ctx, "test", coordinator.NewToken{Site: "relay-1", Kind: wire.Relay})
		if err != nil {
			t.Fatal(err)
		}
		relay := n.Box(t)
		if err := relay.Enroll(ctx, token, wire.Facts{}); err != nil {
			t.Fatal(err)
		}
		nord := n.Node(t, "nord")
		n.Node(t, "sued")
		n.Node(t, "lab")
		n.Grant(t, "pacs", "nord")
		follow := func(b *provisioningtest.Node) *provisioningtest.Stream {
			s := b.Open(ctx, http.MethodGet, wire.Have{Diffs: true})
			t.Cleanup(s.Close)
			wantKind(t, s, b, "map", "a node without a map")
			return s
		}
		atRelay, atNord := follow(relay), follow(nord)
		pairs := func(what string, want int) {
			t.Helper()
			if r := relay.Map().Relay; r == nil || len(r.Pairs) != want || len(r.Members) != want+1 {
				t.Errorf("%s: the relay forwards %+v, want %d pairs", what, r, want)
			}
		}
		hub := nord.Map().Hub.Endpoints[0]
		ways := func(what string, want ...string) {
			t.Helper()
			m := nord.Map()
			if len(m.Peers) != 1 || !slices.Equal(m.Peers[0].Relays, want) || len(m.Relays) != len(want)-1 {
				t.Errorf("%s: the peers of the clinic are %+v, its relays %+v", what, m.Peers, m.Relays)
			}
		}
		pairs("at first", 1)
		ways("at first", "relay-1.example.org:51820", hub)

		began := time.Now()
		n.Grant(t, "pacs", "sued")
		wantKind(t, atRelay, relay, "map", "the relay, of a grant")
		pairs("with another grant", 2)
		for _, c := range []struct {
			endpoint string
			want     []string
		}{{"elsewhere.example.org:1", []string{"elsewhere.example.org:1", hub}}, {"", []string{hub}}} {
			if err := n.SetSiteEndpoint(ctx, "test", "relay-1", c.endpoint); err != nil {
				t.Fatal(err)
			}
			if f := next(t, atNord); nord.Take(f) != nil {
				t.Fatalf("the clinic is told %+v", f)
			}
			ways("at "+c.endpoint, c.want...)
		}
		if took := time.Since(began); took >= wire.HeartbeatEvery {
			t.Errorf("they heard of it with a heartbeat, after %v", took)
		}
	})
}
