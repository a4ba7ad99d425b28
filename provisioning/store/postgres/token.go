package postgres

import (
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// tokens implements store.Tokens.
type tokens struct{ t *tx }

//nolint:gosec // column names
const selectToken = `SELECT id, site, kind, hash, use_limit, uses, approval, replaces, address, created, expires, revoked
	FROM tokens `

func scanToken(s scanner) (provisioning.Token, error) {
	var v provisioning.Token
	var created, expires, revoked engine.Stamp
	err := s.Scan(text(&v.ID), text(&v.Site), text(&v.Kind), engine.Fixed(v.Hash[:]), &v.Limit, engine.Document{Into: &v.Uses}, &v.Approval,
		text(&v.Replaces), &v.Address, &created, &expires, &revoked)
	v.Created, v.Expires, v.Revoked = created.Time, expires.Time, revoked.Time
	if len(v.Uses) == 0 {
		v.Uses = nil
	}
	return v, err
}

func (g tokens) Create(k provisioning.Token) error {
	err := engine.CheckOptionalAddress(k.Address)
	if err == nil {
		_, err = g.t.exec(`INSERT INTO tokens (id, site, kind, hash, use_limit, uses, approval, replaces, address, created, expires, revoked)
			VALUES ($1, $2, $3, $4, $5, '[]', $6, $7, $8, $9, $10, $11)`, k.ID, k.Site, k.Kind, k.Hash[:], k.Limit, k.Approval, k.Replaces,
			k.Address, engine.Nanos(k.Created), engine.Nanos(k.Expires), engine.Nanos(k.Revoked))
	}
	return engine.Wrap(engine.Orphan(err), "create the token %q", k.ID)
}

func (g tokens) ByID(id provisioning.TokenID) (provisioning.Token, error) {
	v, err := one(g.t, scanToken, selectToken+`WHERE id = $1`, id)
	return v, engine.Wrap(err, "read the token %q", id)
}

func (g tokens) List() ([]provisioning.Token, error) {
	v, err := all(g.t, scanToken, selectToken+`ORDER BY created DESC, id`)
	return v, engine.Wrap(err, "list the tokens")
}

func (g tokens) Use(id provisioning.TokenID, u provisioning.TokenUse) error {
	use, err := engine.UseDocument(u)
	if err != nil {
		return engine.Wrap(err, "use the token %q", id)
	}
	n, err := g.t.exec(`UPDATE tokens SET uses = uses || $1::jsonb WHERE id = $2 AND jsonb_array_length(uses) < use_limit AND revoked IS NULL`,
		use, id)
	if err == nil && n == 0 {
		// It is there and spent, or not there.
		if _, err = g.ByID(id); err == nil {
			err = store.ErrExists
		}
	}
	return engine.Wrap(err, "use the token %q", id)
}

func (g tokens) Revoke(id provisioning.TokenID, at time.Time) error {
	return engine.Wrap(g.t.change(`UPDATE tokens SET revoked = coalesce(revoked, $1) WHERE id = $2`, engine.Nanos(at), id), "revoke the token %q", id)
}

func (g tokens) RemoveOf(site provisioning.SiteID) error {
	_, err := g.t.exec(`DELETE FROM tokens WHERE site = $1`, site)
	return engine.Wrap(err, "remove the tokens of the site %q", site)
}
