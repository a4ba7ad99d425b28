package postgres

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
	err := s.Scan(text(&v.To), text(&v.From), text(&v.ID), &v.Body, &posted)
	v.Posted = posted.Time
	return v, err
}

func (g pairMail) Put(m provisioning.PairMail) error {
	_, err := g.t.exec(`INSERT INTO pair_mail (recipient, sender, id, body, posted) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (recipient, sender) DO UPDATE SET id = excluded.id, body = excluded.body, posted = excluded.posted`,
		m.To, m.From, m.ID, m.Body, engine.Nanos(m.Posted))
	return engine.Wrap(engine.Orphan(err), "keep a message for the node %q", m.To)
}

func (g pairMail) For(to provisioning.NodeID, limit int) ([]provisioning.PairMail, error) {
	v, err := all(g.t, scanPairMail, `SELECT recipient, sender, id, body, posted FROM pair_mail WHERE recipient = $1 ORDER BY posted, sender LIMIT $2`, to, limit)
	return v, engine.Wrap(err, "read the messages for the node %q", to)
}

func (g pairMail) Remove(to provisioning.NodeID, id string) error {
	_, err := g.t.exec(`DELETE FROM pair_mail WHERE recipient = $1 AND id = $2`, to, id)
	return engine.Wrap(err, "take away a message for the node %q", to)
}

func (g pairMail) RemoveBefore(at time.Time) error {
	_, err := g.t.exec(`DELETE FROM pair_mail WHERE posted < $1`, engine.Nanos(at))
	return engine.Wrap(err, "take away old messages")
}
