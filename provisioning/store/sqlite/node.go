package sqlite

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// nodes implements store.Nodes.
type nodes struct{ t *tx }

const selectNode = `SELECT n.id, n.site, n.kind, n.public_key, n.address, n.former, n.facts, n.enrolled, n.last_seen, n.applied, n.apply_error,
	n.conditions, n.queues FROM nodes AS n `

func scanNode(s scanner) (provisioning.Node, error) {
	var v provisioning.Node
	var address [16]byte
	var enrolled, seen engine.Stamp
	var applied int64
	err := s.Scan(&v.ID, &v.Site, &v.Kind, engine.Fixed(v.PublicKey[:]), engine.Fixed(address[:]), maybeAddr{&v.Former},
		engine.Document{Into: &v.Facts}, &enrolled, &seen, &applied,
		&v.ApplyError, engine.Document{Into: &v.Conditions}, engine.Document{Into: &v.Queues})
	v.Address, v.Enrolled, v.LastSeen, v.Applied = addrOf(address), enrolled.Time, seen.Time, uint64(applied)
	return v, err
}

func (g nodes) Create(n provisioning.Node) error {
	if err := engine.CheckAddresses(n.Address, n.Former); err != nil {
		return engine.Wrap(err, "create the node %q", n.ID)
	}
	facts, conditions, queues, err := engine.Documents(n)
	if err != nil {
		return engine.Wrap(err, "create the node %q", n.ID)
	}
	_, err = g.t.exec(`INSERT INTO nodes (id, site, kind, public_key, address, address_text, former, former_text, facts, enrolled, last_seen,
		applied, apply_error, conditions, queues) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		n.ID, n.Site, n.Kind, n.PublicKey[:], blobOf(n.Address), n.Address.String(), maybeBlobOf(n.Former), maybeText(n.Former),
		string(facts), engine.Nanos(n.Enrolled), engine.Nanos(n.LastSeen), int64(n.Applied), n.ApplyError, string(conditions), string(queues))
	return engine.Wrap(engine.Orphan(err), "create the node %q", n.ID)
}

func (g nodes) ByID(id provisioning.NodeID) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.id = ?`, id)
	return v, engine.Wrap(err, "read the node %q", id)
}

func (g nodes) ByKey(k wgkey.PublicKey) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.public_key = ?`, k[:])
	return v, engine.Wrap(err, "read the node with key %v", k)
}

func (g nodes) ByAddress(a netip.Addr) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.address = ?1 OR n.former = ?1`, blobOf(a))
	return v, engine.Wrap(err, "read the node at %v", a)
}

func (g nodes) List() ([]provisioning.Node, error) {
	v, err := all(g.t, scanNode, selectNode+`JOIN sites AS s ON s.id = n.site ORDER BY s.name, n.address`)
	return v, engine.Wrap(err, "list the nodes")
}

func (g nodes) Report(n provisioning.Node) error {
	facts, conditions, queues, err := engine.Documents(n)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET facts = ?, last_seen = ?, applied = ?, apply_error = ?, conditions = ?, queues = ? WHERE id = ?`,
			string(facts), engine.Nanos(n.LastSeen), int64(n.Applied), n.ApplyError, string(conditions), string(queues), n.ID)
	}
	return engine.Wrap(err, "write the report of the node %q", n.ID)
}

func (g nodes) Readdress(id provisioning.NodeID, address, former netip.Addr) error {
	err := engine.CheckAddresses(address, former)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET address = ?, address_text = ?, former = ?, former_text = ? WHERE id = ?`,
			blobOf(address), address.String(), maybeBlobOf(former), maybeText(former), id)
	}
	return engine.Wrap(err, "give the node %q the address %v", id, address)
}

func (g nodes) Remove(id provisioning.NodeID) error {
	return engine.Wrap(g.t.change(`DELETE FROM nodes WHERE id = ?`, id), "remove the node %q", id)
}
