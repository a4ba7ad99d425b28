package coordinator_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// TestAPictureMovesOnAsIfRead has two coordinators of one database, of which one or the other makes each change, and somebody who goes around
// both. What each has moved on to, seldom having read the database, is what a third one reads; and the proof that each has made step by
// step has the digests of that one's.
func TestAPictureMovesOnAsIfRead(t *testing.T) {
	for name, open := range map[string]func(testing.TB) store.Store{"sqlite": openStore, "postgres": openPostgres} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" && testing.Short() {
				t.Skip("slow")
			}
			st := open(t)
			first := provisioningtest.New(t, st, provisioningtest.Options{Relay: true})
			first.Center(t, "lab", "192.0.2.1:51820")
			first.DICOM(t, "lab", "pacs", "PACS")
			replicas := []*provisioningtest.Network{first, provisioningtest.Open(t, st, provisioningtest.Options{Relay: true})}
			made := 0
			rapid.Check(t, func(rt *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(rt, "steps") {
					made++
					change(rt, replicas[rapid.IntRange(0, 1).Draw(rt, "replica")], made)
					if rapid.IntRange(0, 2).Draw(rt, "look") == 0 {
						sameAsRead(rt, st, first, replicas)
					}
				}
				sameAsRead(rt, st, first, replicas)
			})
		})
	}
}

// change does one thing, which may be refused.
func change(t *rapid.T, n *provisioningtest.Network, i int) {
	ctx := context.Background()
	site := fmt.Sprintf("s%d", rapid.IntRange(0, 5).Draw(t, "site"))
	service := fmt.Sprintf("v%d", rapid.IntRange(0, 3).Draw(t, "service"))
	nodes, err := n.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	around := func(fn func(store.Tx) error) {
		if err := n.Store.Update(ctx, func(tx store.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			_, err := tx.Bump()
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	switch rapid.IntRange(0, 12).Draw(t, "change") {
	case 0, 1:
		_, _ = n.CreateSite(ctx, "test", coordinator.NewSite{Name: site, Kind: rapid.SampledFrom([]wire.SiteKind{wire.Clinic, wire.Center}).Draw(t, "kind"), Hosts: 6})
	case 2:
		_ = n.SetSiteEndpoint(ctx, "test", site, rapid.SampledFrom([]string{"", "a.example:1", "b.example:2"}).Draw(t, "endpoint"))
	case 3, 4:
		_, _ = n.CreateService(ctx, "test", coordinator.NewService{
			Site: site, Name: service, Protocol: wire.DICOM, AETitle: "AE", Target: "192.168.1.9:104",
		})
	case 5:
		_ = n.RemoveService(ctx, "test", service)
	case 6, 7:
		_, _ = n.Allow(ctx, "test", rapid.SampledFrom([]string{"pacs", service}).Draw(t, "granted"), site, 0)
	case 8:
		_ = n.Disallow(ctx, "test", rapid.SampledFrom([]string{"pacs", service}).Draw(t, "withdrawn"), site)
	case 9:
		_ = n.RemoveSite(ctx, "test", site)
	case 10:
		around(func(tx store.Tx) error { return addBox(tx, site, i) })
	case 11:
		if len(nodes) > 0 {
			_ = n.RemoveNode(ctx, "test", nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "node")].ID)
		}
	case 12:
		_ = n.Tend(ctx)
	}
}

// addBox puts a node at a free address of a site, if there is one: each third is a relay.
func addBox(tx store.Tx, site string, i int) error {
	s, err := tx.Sites().ByName(site)
	if err != nil {
		return nil //nolint:nilerr // there is no such site now
	}
	ranges, err := tx.Ranges().Of(string(s.ID))
	if err != nil || len(ranges) == 0 {
		return err
	}
	nodes, err := tx.Nodes().List()
	at := ranges[0].Prefix.Addr().Next()
	if err != nil || slices.ContainsFunc(nodes, func(n provisioning.Node) bool { return n.Site == s.ID || n.Address == at }) {
		return err
	}
	kind := wire.Gateway
	if i%3 == 0 {
		kind = wire.Relay
	}
	return tx.Nodes().Create(provisioning.Node{
		ID: provisioning.NewNodeID(), Site: s.ID, Kind: kind, PublicKey: wgkey.PublicKey{0: byte(i), 1: byte(i >> 8), 31: 9}, Address: at,
	})
}

// sameAsRead compares what all replicas have with what one has that begins now.
func sameAsRead(t *rapid.T, st store.Store, first *provisioningtest.Network, replicas []*provisioningtest.Network) {
	ctx := context.Background()
	fresh, err := coordinator.New(st, first.Keys, coordinator.Options{Relay: true})
	if err != nil {
		t.Fatal(err)
	}
	want, err := fresh.Proof(ctx)
	if err != nil || want.Certificate == nil {
		t.Fatal(want.CounterExamples, err)
	}
	nodes, err := fresh.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range replicas {
		got, err := r.Proof(ctx)
		if err != nil || got.Certificate == nil {
			t.Fatal(i, got.CounterExamples, err)
		}
		if d := cmp.Diff(want.Certificate, got.Certificate, cmpopts.EquateApproxTime(time.Hour)); d != "" {
			t.Fatalf("replica %d: -read +moved on\n%s", i, d)
		}
		for _, n := range nodes {
			_, a, err := fresh.NetMapFor(ctx, n.ID)
			if err != nil {
				t.Fatal(err)
			}
			_, b, err := r.NetMapFor(ctx, n.ID)
			if err != nil {
				t.Fatal(err)
			}
			x, errX := netmap.Hash(a)
			y, errY := netmap.Hash(b)
			if x != y || errX != nil || errY != nil {
				t.Fatalf("replica %d has another map of %s: %v %v", i, n.ID, errX, errY)
			}
		}
	}
}
