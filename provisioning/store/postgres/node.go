package postgres

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// nodes implements store.Nodes.
type nodes struct{ t *tx }

const selectNode = `SELECT n.id, n.site, n.kind, n.name, n.public_key, n.state, n.reason, n.since, n.rotate, n.next_key, n.member,
	n.origin, n.address, n.former, n.facts, n.enrolled, n.last_seen, n.applied, n.apply_error,
	n.conditions, n.queues, n.rank, n.endpoint FROM nodes AS n `

func scanNode(s scanner) (provisioning.Node, error) {
	var v provisioning.Node
	var enrolled, seen, since engine.Stamp
	var applied int64
	err := s.Scan(text(&v.ID), text(&v.Site), text(&v.Kind), text(&v.Name), engine.Fixed(v.PublicKey[:]), text(&v.State), text(&v.Reason), &since,
		text(&v.Rotate), engine.Optional(v.NextKey[:]), engine.Document{Into: &v.Member}, engine.TextAddr{Into: &v.Origin}, &v.Address, &v.Former,
		engine.Document{Into: &v.Facts}, &enrolled, &seen, &applied,
		text(&v.ApplyError), engine.Document{Into: &v.Conditions}, engine.Document{Into: &v.Queues}, &v.Rank, text(&v.Endpoint))
	v.Since, v.Enrolled, v.LastSeen, v.Applied = since.Time, enrolled.Time, seen.Time, uint64(applied)
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
	member, err := engine.MemberDocument(n.Member)
	if err != nil {
		return engine.Wrap(err, "create the node %q", n.ID)
	}
	_, err = g.t.exec(`INSERT INTO nodes (id, site, kind, name, public_key, state, reason, since, rotate, next_key, member, origin, address, former,
		facts, enrolled, last_seen, applied, apply_error, conditions, queues, rank, endpoint)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		n.ID, n.Site, n.Kind, n.Name, n.PublicKey[:], string(n.State), n.Reason, engine.Nanos(n.Since), n.Rotate, engine.OptionalKey(n.NextKey), member,
		engine.AddrText(n.Origin), n.Address, n.Former, facts, engine.Nanos(n.Enrolled), engine.Nanos(n.LastSeen),
		int64(n.Applied), n.ApplyError, conditions, queues, n.Rank, n.Endpoint)
	return engine.Wrap(engine.Orphan(err), "create the node %q", n.ID)
}

func (g nodes) ByID(id provisioning.NodeID) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.id = $1`, id)
	return v, engine.Wrap(err, "read the node %q", id)
}

func (g nodes) ByKey(k wgkey.PublicKey) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.public_key = $1`, k[:])
	return v, engine.Wrap(err, "read the node with key %v", k)
}

func (g nodes) ByAddress(a netip.Addr) (provisioning.Node, error) {
	v, err := one(g.t, scanNode, selectNode+`WHERE n.address = $1 OR n.former = $1`, a)
	return v, engine.Wrap(err, "read the node at %v", a)
}

func (g nodes) List() ([]provisioning.Node, error) {
	v, err := all(g.t, scanNode, selectNode+`JOIN sites AS s ON s.id = n.site ORDER BY s.name, n.address`)
	return v, engine.Wrap(err, "list the nodes")
}

func (g nodes) Report(n provisioning.Node) error {
	facts, conditions, queues, err := engine.Documents(n)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET facts = $1, last_seen = $2, applied = $3, apply_error = $4, conditions = $5, queues = $6 WHERE id = $7`,
			facts, engine.Nanos(n.LastSeen), int64(n.Applied), n.ApplyError, conditions, queues, n.ID)
	}
	return engine.Wrap(err, "write the report of the node %q", n.ID)
}

func (g nodes) Readdress(id provisioning.NodeID, address, former netip.Addr) error {
	err := engine.CheckAddresses(address, former)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET address = $1, former = $2 WHERE id = $3`, address, former, id)
	}
	return engine.Wrap(err, "give the node %q the address %v", id, address)
}

func (g nodes) SetState(id provisioning.NodeID, s provisioning.NodeState, reason string, since time.Time) error {
	return engine.Wrap(g.t.change(`UPDATE nodes SET state = $1, reason = $2, since = $3 WHERE id = $4`, string(s), reason, engine.Nanos(since), id),
		"write the state of the node %q", id)
}

func (g nodes) Place(id provisioning.NodeID, rank int, endpoint string) error {
	return engine.Wrap(g.t.change(`UPDATE nodes SET rank = $1, endpoint = $2 WHERE id = $3`, rank, endpoint, id), "write the rank and endpoint of the node %q", id)
}

func (g nodes) Rekey(id provisioning.NodeID, key, next wgkey.PublicKey, step wire.RotateStep) error {
	return engine.Wrap(g.t.change(`UPDATE nodes SET public_key = $1, next_key = $2, rotate = $3 WHERE id = $4`,
		key[:], engine.OptionalKey(next), step, id), "write the keys of the node %q", id)
}

func (g nodes) Reenroll(n provisioning.Node) error {
	n.Conditions, n.Queues = nil, nil
	facts, conditions, queues, err := engine.Documents(n)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET public_key = $1, next_key = NULL, rotate = '', member = 'null', state = $2, reason = $3, since = $4,
			origin = $5, facts = $6, enrolled = $7, last_seen = NULL, applied = 0, apply_error = '', conditions = $8, queues = $9 WHERE id = $10`,
			n.PublicKey[:], string(n.State), n.Reason, engine.Nanos(n.Since), engine.AddrText(n.Origin), facts, engine.Nanos(n.Enrolled),
			conditions, queues, n.ID)
	}
	return engine.Wrap(err, "let another box take the place of the node %q", n.ID)
}

func (g nodes) SetMember(id provisioning.NodeID, m *wire.SignedMember) error {
	member, err := engine.MemberDocument(m)
	if err == nil {
		err = g.t.change(`UPDATE nodes SET member = $1 WHERE id = $2`, member, id)
	}
	return engine.Wrap(err, "write what was signed of the node %q", id)
}

func (g nodes) Remove(id provisioning.NodeID) error {
	return engine.Wrap(g.t.change(`DELETE FROM nodes WHERE id = $1`, id), "remove the node %q", id)
}
