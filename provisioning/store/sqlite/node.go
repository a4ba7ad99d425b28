package sqlite

import (
	"encoding/json"
	"errors"
	"net/netip"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// nodes implements store.Nodes.
type nodes struct{ t *tx }

const selectNode = `SELECT n.id, n.site, n.kind, n.public_key, n.address, n.facts, n.enrolled, n.last_seen, n.applied, n.apply_error,
	n.conditions, n.queues FROM nodes AS n `

func scanNode(s scanner) (provisioning.Node, error) {
	var v provisioning.Node
	var address [16]byte
	var enrolled, seen stamp
	var applied int64
	err := s.Scan(&v.ID, &v.Site, &v.Kind, fixed(v.PublicKey[:]), fixed(address[:]), document{&v.Facts}, &enrolled, &seen, &applied,
		&v.ApplyError, document{&v.Conditions}, document{&v.Queues})
	v.Address, v.Enrolled, v.LastSeen, v.Applied = addrOf(address), enrolled.Time, seen.Time, uint64(applied)
	return v, err
}

// documents encodes what a Node reports of itself.
func documents(n provisioning.Node) (facts, conditions, queues string, err error) {
	f, err1 := json.Marshal(n.Facts)
	c, err2 := json.Marshal(n.Conditions)
	q, err3 := json.Marshal(n.Queues)
	return string(f), string(c), string(q), errors.Join(err1, err2, err3)
}

func (g nodes) Create(n provisioning.Node) error {
	if !n.Address.IsValid() || n.Address.Is4In6() || n.Address.Zone() != "" {
		return wrap(provisioning.Errorf(provisioning.Invalid, "%v is no address for a node", n.Address), "create the node %q", n.ID)
	}
	facts, conditions, queues, err := documents(n)
	if err != nil {
		return wrap(err, "create the node %q", n.ID)
	}
	_, err = g.t.exec(`INSERT INTO nodes (id, site, kind, public_key, address, address_text, facts, enrolled, last_seen, applied,
		apply_error, conditions, queues) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		n.ID, n.Site, n.Kind, n.PublicKey[:], blobOf(n.Address), n.Address.String(), facts, nanos(n.Enrolled), nanos(n.LastSeen),
		int64(n.Applied), n.ApplyError, conditions, queues)
	return wrap(orphan(err), "create the node %q", n.ID)
}

func (g nodes) ByID(id provisioning.NodeID) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.id = ?`, id)
	return v, wrap(err, "read the node %q", id)
}

func (g nodes) ByKey(k wgkey.PublicKey) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.public_key = ?`, k[:])
	return v, wrap(err, "read the node with key %v", k)
}

func (g nodes) ByAddress(a netip.Addr) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.address = ?`, blobOf(a))
	return v, wrap(err, "read the node at %v", a)
}

func (g nodes) List() ([]provisioning.Node, error) {
	v, err := all(g.t, scanNode, selectNode+`JOIN sites AS s ON s.id = n.site ORDER BY s.name, n.address`)
	return v, wrap(err, "list the nodes")
}

func (g nodes) Report(n provisioning.Node) error {
	facts, conditions, queues, err := documents(n)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET facts = ?, last_seen = ?, applied = ?, apply_error = ?, conditions = ?, queues = ? WHERE id = ?`,
			facts, nanos(n.LastSeen), int64(n.Applied), n.ApplyError, conditions, queues, n.ID)
	}
	return wrap(err, "write the report of the node %q", n.ID)
}

func (g nodes) Remove(id provisioning.NodeID) error {
	return wrap(g.t.change(`DELETE FROM nodes WHERE id = ?`, id), "remove the node %q", id)
}
