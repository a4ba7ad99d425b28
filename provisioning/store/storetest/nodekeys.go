package storetest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func testNodeKeys(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin")
	box, other := node(sites[0], 1), node(sites[0], 2)
	box.State, box.Reason, box.Since = provisioning.NodeWaiting, "nobody has approved it", now()
	box.Origin = netip.MustParseAddr("2001:db8::7")
	box.Rotate, box.NextKey, box.Member = wire.RotateWait, wgkey.PublicKey{9}, &wire.SignedMember{Payload: []byte("p"), Signature: []byte("s")}
	other.Kind, other.Name = wire.Unmanaged, "fritz"
	box.Rank, box.Endpoint = 1, "a.example.net:51820"
	check := func(what string, want provisioning.Node) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Nodes().ByID(want.ID)
			same(t, what, want, got)
			return err
		})
	}
	update(t, s, func(tx store.Tx) error { return errors.Join(tx.Nodes().Create(box), tx.Nodes().Create(other)) })
	check("as created", box)
	check("as created", other)
	third := node(sites[0], 3)
	third.Name = other.Name
	refused(t, s, store.ErrExists, "the same name at a site", func(tx store.Tx) error { return tx.Nodes().Create(third) })

	rekey := func(key, next wgkey.PublicKey, step wire.RotateStep) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Nodes().Rekey(other.ID, key, next, step) }
	}
	refused(t, s, store.ErrExists, "a key of another node", rekey(box.PublicKey, wgkey.PublicKey{}, ""))
	refused(t, s, store.ErrExists, "a next key of another node", rekey(other.PublicKey, box.NextKey, wire.RotateWait))
	fails(t, s, "the same key as next", rekey(other.PublicKey, other.PublicKey, wire.RotateWait))
	fails(t, s, "an unknown step", rekey(other.PublicKey, wgkey.PublicKey{}, "soon"))
	other.PublicKey, other.NextKey, other.Rotate = wgkey.PublicKey{11}, wgkey.PublicKey{12}, wire.RotateTurn
	update(t, s, rekey(other.PublicKey, other.NextKey, other.Rotate))
	check("after a step of rotation", other)
	other.PublicKey, other.NextKey, other.Rotate = wgkey.PublicKey{12}, wgkey.PublicKey{}, ""
	update(t, s, rekey(other.PublicKey, other.NextKey, other.Rotate))
	check("after the rotation", other)

	other.State, other.Reason, other.Since = provisioning.NodeQuarantined, "seen in two places", now().Add(time.Minute)
	update(t, s, func(tx store.Tx) error { return tx.Nodes().SetState(other.ID, other.State, other.Reason, other.Since) })
	check("quarantined", other)
	fails(t, s, "an unknown state", func(tx store.Tx) error { return tx.Nodes().SetState(other.ID, "odd", "", now()) })

	box.Applied, box.LastSeen, box.Conditions = 7, now(), []wire.Condition{{Code: "c", Since: now()}}
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Report(box) })
	spare := box
	spare.PublicKey, spare.Facts.Serial, spare.Origin = wgkey.PublicKey{21}, "S2", netip.MustParseAddr("192.0.2.1")
	spare.State, spare.Reason, spare.Since, spare.Enrolled = provisioning.NodeActive, "", time.Time{}, now().Add(time.Hour)
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Reenroll(spare) })
	spare.NextKey, spare.Rotate, spare.Member = wgkey.PublicKey{}, "", nil
	spare.Applied, spare.LastSeen, spare.Conditions, spare.Queues = 0, time.Time{}, nil, nil
	check("replaced", spare)
	spare.PublicKey = other.PublicKey
	refused(t, s, store.ErrExists, "a spare with a known key", func(tx store.Tx) error { return tx.Nodes().Reenroll(spare) })

	other.Member = &wire.SignedMember{Payload: []byte("q"), Signature: []byte("t")}
	update(t, s, func(tx store.Tx) error { return tx.Nodes().SetMember(other.ID, other.Member) })
	check("signed", other)
	other.Member = nil
	update(t, s, func(tx store.Tx) error { return tx.Nodes().SetMember(other.ID, nil) })
	check("not signed any more", other)

	spare.PublicKey, spare.Rank, spare.Endpoint = wgkey.PublicKey{21}, 2, "b.example.net:51820"
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Place(spare.ID, spare.Rank, spare.Endpoint) })
	check("ranked", spare)
	fails(t, s, "a rank below 0", func(tx store.Tx) error { return tx.Nodes().Place(spare.ID, -1, "") })

	gone := node(sites[0], 99)
	for what, fn := range map[string]func(store.Tx) error{
		"state":    func(tx store.Tx) error { return tx.Nodes().SetState(gone.ID, "", "", now()) },
		"place":    func(tx store.Tx) error { return tx.Nodes().Place(gone.ID, 1, "") },
		"rekey":    func(tx store.Tx) error { return tx.Nodes().Rekey(gone.ID, gone.PublicKey, wgkey.PublicKey{}, "") },
		"reenroll": func(tx store.Tx) error { return tx.Nodes().Reenroll(gone) },
		"member":   func(tx store.Tx) error { return tx.Nodes().SetMember(gone.ID, nil) },
	} {
		refused(t, s, store.ErrNotFound, what+" of no node", fn)
	}
}
