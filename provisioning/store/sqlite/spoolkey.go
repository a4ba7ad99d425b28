package sqlite

import (
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// spoolKeys implements store.SpoolKeys.
type spoolKeys struct{ t *tx }

func scanSpoolKey(s scanner) (provisioning.SpoolKey, error) {
	var v provisioning.SpoolKey
	var created engine.Stamp
	err := s.Scan(&v.Node, &v.ID, &v.Sealed, &created)
	v.Created = created.Time
	return v, err
}

func (g spoolKeys) Create(k provisioning.SpoolKey) error {
	_, err := g.t.exec(`INSERT INTO spool_keys (node, id, sealed, created) VALUES (?, ?, ?, ?)`, k.Node, k.ID, k.Sealed, engine.Nanos(k.Created))
	return engine.Wrap(engine.Orphan(err), "keep a queue's key for the node %q", k.Node)
}

func (g spoolKeys) Of(id provisioning.NodeID) ([]provisioning.SpoolKey, error) {
	v, err := all(g.t, scanSpoolKey, `SELECT node, id, sealed, created FROM spool_keys WHERE node = ? ORDER BY created, id`, id)
	return v, engine.Wrap(err, "read the queue's keys of the node %q", id)
}

func (g spoolKeys) Remove(node provisioning.NodeID, id string) error {
	return engine.Wrap(g.t.change(`DELETE FROM spool_keys WHERE node = ? AND id = ?`, node, id), "forget a queue's key of the node %q", node)
}
