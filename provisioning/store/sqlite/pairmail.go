package sqlite

import (
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// pairMail implements store.PairMail.
type pairMail struct{ t *tx }

func scanPairMail(s scanner) (provisioning.PairMail, error) {
	var v provisioning.PairMail
	var posted engine.Stamp
	err := s.Scan(&v.To, &v.From, &v.ID, &v.Body, &posted)
	v.Posted = posted.Time
	return v, err
}

func (g pairMail) Put(m provisioning.PairMail) error {
	_, err := g.t.exec(`INSERT INTO pair_mail (recipient, sender, id, body, posted) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (recipient, sender) DO UPDATE SET id = excluded.id, body = excluded.body, posted = excluded.posted`,
		m.To, m.From, m.ID, m.Body, engine.Nanos(m.Posted))
	return engine.Wrap(engine.Orphan(err), "keep a message for the node %q", m.To)
}

func (g pairMail) For(to provisioning.NodeID, limit int) ([]provisioning.PairMail, error) {
	v, err := all(g.t, scanPairMail, `SELECT recipient, sender, id, body, posted FROM pair_mail WHERE recipient = ? ORDER BY posted, sender LIMIT ?`, to, limit)
	return v, engine.Wrap(err, "read the messages for the node %q", to)
}

func (g pairMail) Remove(to provisioning.NodeID, id string) error {
	_, err := g.t.exec(`DELETE FROM pair_mail WHERE recipient = ? AND id = ?`, to, id)
	return engine.Wrap(err, "take away a message for the node %q", to)
}

func (g pairMail) RemoveBefore(at time.Time) error {
	_, err := g.t.exec(`DELETE FROM pair_mail WHERE posted < ?`, engine.Nanos(at))
	return engine.Wrap(err, "take away old messages")
}
