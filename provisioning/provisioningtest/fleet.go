package provisioningtest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// FleetPool has room for the clinics of Fleet, and before them for everything else.
func FleetPool() netip.Prefix { return netip.MustParsePrefix("10.192.0.0/12") }

// Fleet makes clinics with an enrolled box each that may all use a service, in one transaction: making thousands one after another takes
// minutes. The network's pool must be FleetPool. The boxes have their first map.
func (n *Network) Fleet(t testing.TB, service string, clinics int) []*Node {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	at := time.Now().UTC().Round(0)
	nodes := make([]*Node, clinics)
	for i := range nodes {
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			t.Fatalf("make a key: %v", err)
		}
		nodes[i] = &Node{n: n, Key: key, ID: provisioning.NewNodeID(), Network: n.Identity().Network}
	}
	err := n.Store.Update(ctx, func(tx store.Tx) error {
		v, err := tx.Services().ByName(service)
		if err != nil {
			return err
		}
		like, err := tx.Ranges().Of(string(v.Site))
		if err != nil || len(like) == 0 {
			return fmt.Errorf("the owner of %s has no range (%w)", service, err)
		}
		for i, b := range nodes {
			site := provisioning.Site{ID: provisioning.NewSiteID(), Name: fmt.Sprintf("clinic-%05d", i), Kind: wire.Clinic, Created: at}
			r, addr := like[0], netip.AddrFrom4([4]byte{10, byte(193 + i>>12), byte(i >> 4), byte(i << 4)})
			r.ID, r.Owner, r.Prefix = 0, string(site.ID), netip.PrefixFrom(addr, 28)
			pub, err := b.Key.Public()
			if err != nil {
				return err
			}
			if err := tx.Sites().Create(site); err != nil {
				return err
			}
			if _, err := tx.Ranges().Create(r); err != nil {
				return err
			}
			if err := tx.Nodes().Create(provisioning.Node{
				ID: b.ID, Site: site.ID, Kind: wire.Gateway, PublicKey: pub, Address: addr.Next(), Enrolled: at,
			}); err != nil {
				return err
			}
			if err := tx.Grants().Create(provisioning.Grant{Service: v.ID, Site: site.ID, LANPort: v.Port, Created: at}); err != nil {
				return err
			}
		}
		_, err = tx.Bump()
		return err
	})
	if err != nil {
		t.Fatalf("make %d clinics: %v", clinics, err)
	}
	for _, b := range nodes {
		signed, m, err := n.NetMapFor(ctx, b.ID)
		if err == nil {
			_, err = b.take(wire.Frame{NetMap: &signed, Generation: m.Generation})
		}
		if err != nil {
			t.Fatalf("give node %s its map: %v", b.ID, err)
		}
	}
	return nodes
}
