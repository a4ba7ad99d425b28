package sqlite

import (
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// sites implements store.Sites.
type sites struct{ t *tx }

const selectSite = `SELECT id, name, kind, title, endpoint, lan_tls, devices, spool_key, created FROM sites `

func scanSite(s scanner) (provisioning.Site, error) {
	var v provisioning.Site
	var created engine.Stamp
	var devices engine.Devices
	err := s.Scan(&v.ID, &v.Name, &v.Kind, &v.Title, &v.Endpoint, engine.Document{Into: &v.LANTLS}, &devices, &v.SpoolKey, &created)
	v.Created, v.Devices = created.Time, devices
	return v, err
}

func (g sites) Create(s provisioning.Site) error {
	_, err := g.t.exec(`INSERT INTO sites (id, name, kind, title, endpoint, lan_tls, devices, spool_key, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.ID, s.Name, s.Kind, s.Title, s.Endpoint, engine.LANTLSText(s.LANTLS), engine.DevicesText(s.Devices), s.SpoolKey, engine.Nanos(s.Created))
	return engine.Wrap(err, "create the site %q", s.Name)
}

func (g sites) ByID(id provisioning.SiteID) (provisioning.Site, error) {
	v, err := one(g.t, scanSite, selectSite+`WHERE id = ?`, id)
	return v, engine.Wrap(err, "read the site %q", id)
}

func (g sites) ByName(name string) (provisioning.Site, error) {
	v, err := one(g.t, scanSite, selectSite+`WHERE name = ?`, name)
	return v, engine.Wrap(err, "read the site %q", name)
}

func (g sites) List() ([]provisioning.Site, error) {
	v, err := all(g.t, scanSite, selectSite+`ORDER BY name`)
	return v, engine.Wrap(err, "list the sites")
}

// Update leaves the time of creation as it is.
func (g sites) Update(s provisioning.Site) error {
	err := g.t.change(`UPDATE sites SET name = ?, kind = ?, title = ?, endpoint = ?, lan_tls = ?, devices = ?, spool_key = ? WHERE id = ?`,
		s.Name, s.Kind, s.Title, s.Endpoint, engine.LANTLSText(s.LANTLS), engine.DevicesText(s.Devices), s.SpoolKey, s.ID)
	return engine.Wrap(err, "change the site %q", s.ID)
}

func (g sites) Remove(id provisioning.SiteID) error {
	return engine.Wrap(g.t.change(`DELETE FROM sites WHERE id = ?`, id), "remove the site %q", id)
}
