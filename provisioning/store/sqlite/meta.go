package sqlite

import (
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// Generation implements store.Meta.
func (t *tx) Generation() (uint64, error) { return t.generation, nil }

// Bump implements store.Meta.
func (t *tx) Bump() (uint64, error) {
	if t.bumped {
		return t.generation, nil
	}
	if _, err := t.exec(`UPDATE network SET generation = ?`, t.generation+1); err != nil {
		return 0, engine.Wrap(err, "raise the generation")
	}
	t.generation++
	t.bumped = true
	return t.generation, nil
}

// Rise implements store.Meta.
func (t *tx) Rise(above uint64) (uint64, error) {
	if t.generation > above {
		return t.Bump()
	}
	if err := engine.CheckGeneration(above); err != nil {
		return 0, err
	}
	if _, err := t.exec(`UPDATE network SET generation = ?`, above+1); err != nil {
		return 0, engine.Wrap(err, "raise the generation")
	}
	t.generation = above + 1
	t.bumped = true
	return t.generation, nil
}

// Setting implements store.Meta.
func (t *tx) Setting(key string) (string, error) {
	v, err := one(t, text, `SELECT value FROM settings WHERE key = ?`, key)
	return v, engine.Wrap(err, "read the setting %q", key)
}

// SetSetting implements store.Meta.
func (t *tx) SetSetting(key, value string) error {
	_, err := t.exec(`INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return engine.Wrap(err, "write the setting %q", key)
}

var _ store.Tx = (*tx)(nil)

func text(s scanner) (string, error) {
	var v string
	err := s.Scan(&v)
	return v, err
}
