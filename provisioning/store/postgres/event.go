package postgres

import (
	"errors"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// events implements store.Events.
type events struct{ t *tx }

// verifyPage is how many events Verify holds at once.
const verifyPage = 1000

const selectEvent = `SELECT seq, at, actor, action, subject, detail, prev, hash FROM events `

func scanEvent(s scanner) (provisioning.Event, error) {
	var v provisioning.Event
	var at int64
	err := s.Scan(&v.Seq, &at, text(&v.Actor), text(&v.Action), text(&v.Subject), text(&v.Detail),
		engine.Fixed(v.Prev[:]), engine.Fixed(v.Hash[:]))
	v.At = time.Unix(0, at).UTC()
	return v, err
}

func (g events) Append(e provisioning.Event) (provisioning.Event, error) {
	v, err := g.append(e)
	return v, engine.Wrap(err, "append the event %q", e.Action)
}

func (g events) append(e provisioning.Event) (provisioning.Event, error) {
	if err := engine.CheckEventTime(e.At); err != nil {
		return e, err
	}
	last, err := one(g.t, scanEvent, selectEvent+`ORDER BY seq DESC LIMIT 1`)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return e, err
	}
	e.At = e.At.UTC()
	e = store.Seal(last, e)
	_, err = g.t.exec(`INSERT INTO events (seq, at, actor, action, subject, detail, prev, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		int64(e.Seq), e.At.UnixNano(), e.Actor, e.Action, e.Subject, e.Detail, e.Prev[:], e.Hash[:])
	return e, err
}

func (g events) List(after uint64, limit int) ([]provisioning.Event, error) {
	v, err := all(g.t, scanEvent, selectEvent+`WHERE seq > $1 ORDER BY seq LIMIT $2`, int64(min(after, 1<<63-1)), max(limit, 0))
	return v, engine.Wrap(err, "list the events")
}

func (g events) Verify() (uint64, error) {
	var prev provisioning.Event
	for {
		page, err := g.List(prev.Seq, verifyPage)
		if err != nil || len(page) == 0 {
			return 0, engine.Wrap(err, "verify the events")
		}
		for _, e := range page {
			if !store.Follows(prev, e) {
				return e.Seq, nil
			}
			prev = e
		}
	}
}
