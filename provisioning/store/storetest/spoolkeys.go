package storetest

import (
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// testSpoolKeys keeps keys for two nodes, and removes one of these.
func testSpoolKeys(t *testing.T, s store.Store) {
	sites := withSites(t, s, "aachen")
	a, b := node(sites[0], 1), node(sites[0], 2)
	first := provisioning.SpoolKey{Node: a.ID, ID: "ff", Sealed: []byte{1, 0, 2}, Created: now()}
	second := provisioning.SpoolKey{Node: a.ID, ID: "00", Sealed: []byte{3}, Created: now().Add(time.Hour)}
	other := provisioning.SpoolKey{Node: b.ID, ID: "ff", Sealed: []byte{4}, Created: now()}
	update(t, s, func(tx store.Tx) error {
		for _, n := range []provisioning.Node{a, b} {
			if err := tx.Nodes().Create(n); err != nil {
				return err
			}
		}
		for _, k := range []provisioning.SpoolKey{second, first, other} {
			if err := tx.SpoolKeys().Create(k); err != nil {
				return err
			}
		}
		return nil
	})
	of := func(id provisioning.NodeID, want ...provisioning.SpoolKey) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			got, err := tx.SpoolKeys().Of(id)
			if len(got) == 0 {
				got = nil
			}
			same(t, "of "+string(id), want, got)
			return err
		})
	}
	of(a.ID, first, second)
	of(b.ID, other)
	refused(t, s, store.ErrExists, "the same key", func(tx store.Tx) error { return tx.SpoolKeys().Create(first) })
	refused(t, s, store.ErrNotFound, "of an unknown node", func(tx store.Tx) error {
		k := first
		k.Node = "node_none"
		return tx.SpoolKeys().Create(k)
	})
	refused(t, s, store.ErrNotFound, "remove what is not there", func(tx store.Tx) error { return tx.SpoolKeys().Remove(b.ID, "00") })
	update(t, s, func(tx store.Tx) error { return tx.SpoolKeys().Remove(a.ID, "ff") })
	of(a.ID, second)
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Remove(a.ID) })
	of(a.ID)
	of(b.ID, other)
}
