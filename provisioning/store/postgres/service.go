package postgres

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// services implements store.Services.
type services struct{ t *tx }

const selectService = `SELECT id, site, name, protocol, ae_title, receiver, mode, target, port, address, options, created FROM services `

func scanService(s scanner) (provisioning.Service, error) {
	var v provisioning.Service
	var created engine.Stamp
	var options engine.Options
	err := s.Scan(text(&v.ID), text(&v.Site), text(&v.Name), text(&v.Protocol), text(&v.AETitle), text(&v.Receiver), text(&v.Mode), text(&v.Target), &v.Port,
		&v.Address, &options, &created)
	v.Created, v.HL7, v.DICOM, v.Queue = created.Time, options.HL7, options.DICOM, options.Queue
	return v, err
}

func (g services) Create(s provisioning.Service) error {
	err := engine.CheckOptionalAddress(s.Address)
	if err == nil {
		_, err = g.t.exec(`INSERT INTO services (id, site, name, protocol, ae_title, receiver, mode, target, port, address, options, created)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`, s.ID, s.Site, s.Name, s.Protocol, s.AETitle, s.Receiver, s.Mode, s.Target,
			s.Port, s.Address, []byte(engine.OptionsText(engine.Options{HL7: s.HL7, DICOM: s.DICOM, Queue: s.Queue})), engine.Nanos(s.Created))
	}
	return engine.Wrap(engine.Orphan(err), "create the service %q", s.Name)
}

func (g services) ByID(id provisioning.ServiceID) (provisioning.Service, error) {
	v, err := one(g.t, scanService, selectService+`WHERE id = $1`, id)
	return v, engine.Wrap(err, "read the service %q", id)
}

func (g services) ByName(name string) (provisioning.Service, error) {
	v, err := one(g.t, scanService, selectService+`WHERE name = $1`, name)
	return v, engine.Wrap(err, "read the service %q", name)
}

func (g services) List() ([]provisioning.Service, error) {
	v, err := all(g.t, scanService, selectService+`ORDER BY name`)
	return v, engine.Wrap(err, "list the services")
}

func (g services) Readdress(id provisioning.ServiceID, address netip.Addr) error {
	err := engine.CheckOptionalAddress(address)
	if err == nil {
		err = g.t.change(`UPDATE services SET address = $1 WHERE id = $2`, address, id)
	}
	return engine.Wrap(err, "give the service %q the address %v", id, address)
}

func (g services) Configure(s provisioning.Service) error {
	return engine.Wrap(g.t.change(`UPDATE services SET options = $1 WHERE id = $2`, []byte(engine.OptionsText(engine.Options{HL7: s.HL7, DICOM: s.DICOM, Queue: s.Queue})), s.ID),
		"write the options of the service %q", s.ID)
}

func (g services) Remove(id provisioning.ServiceID) error {
	return engine.Wrap(g.t.change(`DELETE FROM services WHERE id = $1`, id), "remove the service %q", id)
}

// grants implements store.Grants.
type grants struct{ t *tx }

func scanGrant(s scanner) (provisioning.Grant, error) {
	var v provisioning.Grant
	var created engine.Stamp
	var options engine.GrantOptions
	err := s.Scan(text(&v.Service), text(&v.Site), &v.LANPort, &created, &options)
	v.Created, v.Poll = created.Time, options.Poll
	return v, err
}

func (g grants) Create(v provisioning.Grant) error {
	_, err := g.t.exec(`INSERT INTO grants (service, site, lan_port, created, options) VALUES ($1, $2, $3, $4, $5)`,
		v.Service, v.Site, v.LANPort, engine.Nanos(v.Created), engine.OptionsText(engine.GrantOptions{Poll: v.Poll}))
	return engine.Wrap(engine.Orphan(err), "grant the service %q to the site %q", v.Service, v.Site)
}

func (g grants) List() ([]provisioning.Grant, error) {
	v, err := all(g.t, scanGrant, `SELECT service, site, lan_port, created, options FROM grants ORDER BY service, site`)
	return v, engine.Wrap(err, "list the grants")
}

func (g grants) Of(site provisioning.SiteID) ([]provisioning.Grant, error) {
	v, err := all(g.t, scanGrant, `SELECT service, site, lan_port, created, options FROM grants WHERE site = $1 ORDER BY service`, site)
	return v, engine.Wrap(err, "list the grants to the site %q", site)
}

func (g grants) Remove(service provisioning.ServiceID, site provisioning.SiteID) error {
	return engine.Wrap(g.t.change(`DELETE FROM grants WHERE service = $1 AND site = $2`, service, site),
		"withdraw the service %q from the site %q", service, site)
}
