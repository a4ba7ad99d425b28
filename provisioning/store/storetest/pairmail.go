package storetest

import (
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// testPairMail leaves messages among three nodes, replaces one, takes some away, and removes a node.
func testPairMail(t *testing.T, s store.Store) {
	sites := withSites(t, s, "aachen")
	a, b, c := node(sites[0], 1), node(sites[0], 2), node(sites[0], 3)
	mail := func(from, to provisioning.Node, id string, after time.Duration) provisioning.PairMail {
		return provisioning.PairMail{From: from.ID, To: to.ID, ID: id, Body: []byte(id + "\x00"), Posted: now().Add(after)}
	}
	put := func(all ...provisioning.PairMail) {
		t.Helper()
		update(t, s, func(tx store.Tx) error {
			for _, m := range all {
				if err := tx.PairMail().Put(m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	update(t, s, func(tx store.Tx) error {
		for _, n := range []provisioning.Node{a, b, c} {
			if err := tx.Nodes().Create(n); err != nil {
				return err
			}
		}
		return nil
	})
	first, second, back := mail(a, b, "one", time.Hour), mail(c, b, "two", 0), mail(b, a, "back", 0)
	put(first, second, back)
	to := func(n provisioning.Node, limit int, want ...provisioning.PairMail) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			got, err := tx.PairMail().For(n.ID, limit)
			if len(got) == 0 {
				got = nil
			}
			same(t, "for "+string(n.ID), want, got)
			return err
		})
	}
	to(b, 10, second, first)
	to(b, 1, second)
	to(a, 10, back)
	to(c, 10)
	newer := mail(c, b, "three", 2*time.Hour)
	put(newer)
	to(b, 10, first, newer)
	update(t, s, func(tx store.Tx) error { return tx.PairMail().Remove(b.ID, "two") }) // which was replaced
	update(t, s, func(tx store.Tx) error { return tx.PairMail().Remove(a.ID, "one") }) // which is another's
	to(b, 10, first, newer)
	update(t, s, func(tx store.Tx) error { return tx.PairMail().Remove(b.ID, "one") })
	to(b, 10, newer)
	refused(t, s, store.ErrNotFound, "for an unknown node", func(tx store.Tx) error {
		m := first
		m.To = "node_none"
		return tx.PairMail().Put(m)
	})
	update(t, s, func(tx store.Tx) error { return tx.PairMail().RemoveBefore(now().Add(time.Minute)) })
	to(a, 10)
	to(b, 10, newer)
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Remove(c.ID) })
	to(b, 10)
}
