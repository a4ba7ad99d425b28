package postgres

import "github.com/towpath/towpath/provisioning/store/internal/engine"

// Generation implements store.Meta.
func (t *tx) Generation() (uint64, error) { return t.generation, nil }

// Bump implements store.Meta.
func (t *tx) Bump() (uint64, error) {
	if t.bumped {
		return t.generation, nil
	}
	if _, err := t.exec(`UPDATE network SET generation = $1`, int64(t.generation)+1); err != nil {
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
	if _, err := t.exec(`UPDATE network SET generation = $1`, int64(above)+1); err != nil {
		return 0, engine.Wrap(err, "raise the generation")
	}
	t.generation = above + 1
	t.bumped = true
	return t.generation, nil
}

// Setting implements store.Meta.
func (t *tx) Setting(key string) (string, error) {
	v, err := one(t, value, `SELECT value FROM settings WHERE key = $1`, key)
	return v, engine.Wrap(err, "read the setting %q", key)
}

// SetSetting implements store.Meta.
func (t *tx) SetSetting(key, value string) error {
	_, err := t.exec(`INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return engine.Wrap(err, "write the setting %q", key)
}

func value(s scanner) (string, error) {
	var v string
	err := s.Scan(text(&v))
	return v, err
}
