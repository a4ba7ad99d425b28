package storetest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func testSites(t *testing.T, s store.Store) {
	made := withSites(t, s, "berlin", "aachen")
	view(t, s, func(tx store.Tx) error {
		byID, err := tx.Sites().ByID(made[0].ID)
		if err != nil {
			return err
		}
		byName, err := tx.Sites().ByName("aachen")
		if err != nil {
			return err
		}
		list, err := tx.Sites().List()
		same(t, "by id", made[0], byID)
		same(t, "by name", made[1], byName)
		same(t, "by name, sorted", []provisioning.Site{made[1], made[0]}, list)
		return err
	})
	refused(t, s, store.ErrExists, "same id", func(tx store.Tx) error {
		v := site("chemnitz")
		v.ID = made[0].ID
		return tx.Sites().Create(v)
	})
	refused(t, s, store.ErrExists, "same name", func(tx store.Tx) error {
		v := site("berlin")
		v.ID = "site_other"
		return tx.Sites().Create(v)
	})
	refused(t, s, store.ErrExists, "renamed to a name that is taken", func(tx store.Tx) error {
		v := made[0]
		v.Name = "aachen"
		return tx.Sites().Update(v)
	})
	changed := made[0]
	changed.Name, changed.Title, changed.Endpoint, changed.Kind, changed.SpoolKey = "bonn", "Zentrum", "", wire.Center, wire.SpoolKeyCoordinator
	changed.LANTLS = &wire.LANTLS{
		DICOMPort: 2762, Names: []string{"gateway.local"}, Ports: map[string]uint16{"pacs": 2763},
		Cleartext: []wire.CleartextRule{{Device: netip.MustParsePrefix("192.168.1.40/32"), Until: now().Truncate(time.Second)}, {}},
	}
	changed.Devices = []wire.Device{
		{AETitle: "CT 1", Address: netip.MustParseAddr("192.168.1.7"), Report: "ct1.lan:104"}, {AETitle: `OLD "<&>"`, Denied: true},
	}
	update(t, s, func(tx store.Tx) error { return tx.Sites().Update(changed) })
	view(t, s, func(tx store.Tx) error {
		got, err := tx.Sites().ByName("bonn")
		same(t, "changed", changed, got)
		return err
	})
	update(t, s, func(tx store.Tx) error { return tx.Sites().Remove(changed.ID) })
	for what, fn := range map[string]func(store.Tx) error{
		"by id":   func(tx store.Tx) error { _, err := tx.Sites().ByID(changed.ID); return err },
		"by name": func(tx store.Tx) error { _, err := tx.Sites().ByName("bonn"); return err },
		"update":  func(tx store.Tx) error { return tx.Sites().Update(changed) },
		"remove":  func(tx store.Tx) error { return tx.Sites().Remove(changed.ID) },
	} {
		refused(t, s, store.ErrNotFound, what+" of a removed site", fn)
	}
}

func testNodes(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin", "aachen")
	last, first, second := node(sites[0], 1), node(sites[1], 200), node(sites[1], 3)
	// Compared as text, .200 would come before .3.
	six := node(sites[1], 9)
	six.Address = netip.MustParseAddr("fd00::1")
	update(t, s, func(tx store.Tx) error {
		for _, n := range []provisioning.Node{last, first, second, six} {
			if err := tx.Nodes().Create(n); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(tx store.Tx) error {
		byID, err := tx.Nodes().ByID(first.ID)
		if err != nil {
			return err
		}
		byKey, err := tx.Nodes().ByKey(second.PublicKey)
		if err != nil {
			return err
		}
		byAddress, err := tx.Nodes().ByAddress(six.Address)
		if err != nil {
			return err
		}
		list, err := tx.Nodes().List()
		same(t, "by id", first, byID)
		same(t, "by key", second, byKey)
		same(t, "by address", six, byAddress)
		same(t, "by site, then address", []provisioning.Node{second, first, six, last}, list)
		return err
	})
	other := node(sites[0], 77)
	for what, change := range map[string]func(*provisioning.Node){
		"id":      func(n *provisioning.Node) { n.ID = first.ID },
		"key":     func(n *provisioning.Node) { n.PublicKey = first.PublicKey },
		"address": func(n *provisioning.Node) { n.Address = first.Address },
	} {
		n := other
		change(&n)
		refused(t, s, store.ErrExists, "same "+what, func(tx store.Tx) error { return tx.Nodes().Create(n) })
	}
	other.Site = "site_unknown"
	refused(t, s, store.ErrNotFound, "unknown site", func(tx store.Tx) error { return tx.Nodes().Create(other) })
	refused(t, s, store.ErrInUse, "a site with nodes", func(tx store.Tx) error { return tx.Sites().Remove(sites[0].ID) })

	update(t, s, func(tx store.Tx) error { return tx.Nodes().Remove(last.ID) })
	update(t, s, func(tx store.Tx) error { return tx.Sites().Remove(sites[0].ID) })
	for what, fn := range map[string]func(store.Tx) error{
		"by id":      func(tx store.Tx) error { _, err := tx.Nodes().ByID(last.ID); return err },
		"by key":     func(tx store.Tx) error { _, err := tx.Nodes().ByKey(wgkey.PublicKey{}); return err },
		"by address": func(tx store.Tx) error { _, err := tx.Nodes().ByAddress(netip.MustParseAddr("10.9.9.9")); return err },
		"report":     func(tx store.Tx) error { return tx.Nodes().Report(last) },
		"remove":     func(tx store.Tx) error { return tx.Nodes().Remove(last.ID) },
	} {
		refused(t, s, store.ErrNotFound, what+" of no node", fn)
	}
}

func testNodeReports(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin", "aachen")
	was := node(sites[0], 1)
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Create(was) })

	report := was
	report.Facts.Version = "v2"
	report.LastSeen = now().Add(time.Hour)
	// A box may claim any number.
	report.Applied, report.ApplyError = 1<<64-1, "no route"
	report.Conditions = []wire.Condition{{Code: "disk.full", Severity: "error", Message: "the disk is full", Since: now()}}
	report.Queues = []wire.Queue{{Name: "pacs", Queued: 3, Parked: 1, Bytes: 1 << 40, Delivered: 9}}
	want := report
	// What is not part of a report must stay.
	report.Site, report.PublicKey, report.Address = sites[1].ID, wgkey.PublicKey{5}, netip.MustParseAddr("10.99.0.1")
	report.Enrolled, report.Kind, report.Former = time.Time{}, "spare", netip.MustParseAddr("10.99.0.2")
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Report(report) })
	view(t, s, func(tx store.Tx) error {
		got, err := tx.Nodes().ByID(was.ID)
		same(t, "after the report", want, got)
		return err
	})
}

func testTokens(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin", "aachen")
	token := func(name string, at time.Time) provisioning.Token {
		return provisioning.Token{
			ID: provisioning.TokenID("tok_" + name), Site: sites[0].ID, Kind: wire.Gateway, Hash: [32]byte{1, 2, 31: 3}, Limit: 1,
			Created: at, Expires: at.Add(time.Hour),
		}
	}
	old, fresh, withdrawn := token("old", now()), token("fresh", now().Add(2)), token("withdrawn", now().Add(1))
	// Two may promise the same address: which of them enrolls is not known yet.
	old.Limit, old.Approval, old.Replaces = 2, true, "node_7"
	old.Address, fresh.Address = netip.MustParseAddr("10.64.0.5"), netip.MustParseAddr("10.64.0.5")
	update(t, s, func(tx store.Tx) error {
		for _, k := range []provisioning.Token{old, fresh, withdrawn} {
			if err := tx.Tokens().Create(k); err != nil {
				return err
			}
		}
		return nil
	})
	refused(t, s, store.ErrExists, "same id", func(tx store.Tx) error { return tx.Tokens().Create(old) })
	refused(t, s, store.ErrNotFound, "unknown site", func(tx store.Tx) error {
		k := token("lost", now())
		k.Site = "site_unknown"
		return tx.Tokens().Create(k)
	})

	use := func(id provisioning.TokenID) func(store.Tx) error {
		return func(tx store.Tx) error {
			return tx.Tokens().Use(id, provisioning.TokenUse{Node: "node_1", At: now().Add(time.Minute), Key: wgkey.PublicKey{1, 2}})
		}
	}
	update(t, s, use(fresh.ID))
	refused(t, s, store.ErrExists, "used twice", use(fresh.ID))
	update(t, s, use(old.ID))
	update(t, s, func(tx store.Tx) error {
		return tx.Tokens().Use(old.ID, provisioning.TokenUse{Node: "node_2", At: now().Add(time.Hour)})
	})
	refused(t, s, store.ErrExists, "used three times", use(old.ID))
	fails(t, s, "a token for nobody", func(tx store.Tx) error {
		k := token("nobody", now())
		k.Limit = 0
		return tx.Tokens().Create(k)
	})
	update(t, s, func(tx store.Tx) error { return tx.Tokens().Revoke(withdrawn.ID, now().Add(time.Minute)) })
	update(t, s, func(tx store.Tx) error { return tx.Tokens().Revoke(withdrawn.ID, now().Add(time.Hour)) })
	refused(t, s, store.ErrExists, "use of a revoked token", use(withdrawn.ID))
	refused(t, s, store.ErrNotFound, "use of no token", use("tok_none"))
	refused(t, s, store.ErrNotFound, "revoke of no token", func(tx store.Tx) error { return tx.Tokens().Revoke("tok_none", now()) })

	fresh.Uses = []provisioning.TokenUse{{Node: "node_1", At: now().Add(time.Minute), Key: wgkey.PublicKey{1, 2}}}
	old.Uses = []provisioning.TokenUse{{Node: "node_1", At: now().Add(time.Minute), Key: wgkey.PublicKey{1, 2}}, {Node: "node_2", At: now().Add(time.Hour)}}
	withdrawn.Revoked = now().Add(time.Minute)
	view(t, s, func(tx store.Tx) error {
		got, err := tx.Tokens().ByID(fresh.ID)
		if err != nil {
			return err
		}
		list, err := tx.Tokens().List()
		same(t, "by id", fresh, got)
		same(t, "newest first", []provisioning.Token{fresh, withdrawn, old}, list)
		return err
	})

	update(t, s, func(tx store.Tx) error { return tx.Tokens().RemoveOf(sites[1].ID) })
	update(t, s, func(tx store.Tx) error { _, err := tx.Tokens().ByID(old.ID); return err })
	update(t, s, func(tx store.Tx) error { return tx.Tokens().RemoveOf(sites[0].ID) })
	refused(t, s, store.ErrNotFound, "removed with its site's", func(tx store.Tx) error { _, err := tx.Tokens().ByID(old.ID); return err })

	update(t, s, func(tx store.Tx) error { return tx.Tokens().Create(old) })
	update(t, s, func(tx store.Tx) error { return tx.Sites().Remove(sites[0].ID) })
	refused(t, s, store.ErrNotFound, "gone with the site", func(tx store.Tx) error { _, err := tx.Tokens().ByID(old.ID); return err })
}

func testServices(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin", "aachen")
	pacs, archive := service(sites[0], "pacs", 11112), service(sites[1], "archive", 11112)
	update(t, s, func(tx store.Tx) error {
		if err := tx.Services().Create(pacs); err != nil {
			return err
		}
		return tx.Services().Create(archive)
	})
	view(t, s, func(tx store.Tx) error {
		byID, err := tx.Services().ByID(pacs.ID)
		if err != nil {
			return err
		}
		byName, err := tx.Services().ByName("archive")
		if err != nil {
			return err
		}
		list, err := tx.Services().List()
		same(t, "by id", pacs, byID)
		same(t, "by name", archive, byName)
		same(t, "by name, sorted", []provisioning.Service{archive, pacs}, list)
		return err
	})
	for what, change := range map[string]func(*provisioning.Service){
		"same id":               func(v *provisioning.Service) { v.ID = pacs.ID },
		"same name":             func(v *provisioning.Service) { v.Name = archive.Name },
		"same port of the site": func(v *provisioning.Service) { v.Port = pacs.Port },
	} {
		v := service(sites[0], "third", 2575)
		change(&v)
		refused(t, s, store.ErrExists, what, func(tx store.Tx) error { return tx.Services().Create(v) })
	}
	refused(t, s, store.ErrNotFound, "unknown site", func(tx store.Tx) error {
		return tx.Services().Create(service(provisioning.Site{ID: "site_unknown"}, "lost", 1))
	})
	refused(t, s, store.ErrInUse, "a site with services", func(tx store.Tx) error { return tx.Sites().Remove(sites[0].ID) })
	// Configure writes the options and nothing else.
	set := archive
	set.HL7, set.DICOM = wire.HL7Options{}, wire.DICOMOptions{FarEcho: true, Callers: `A\\B C`}
	meant := set
	set.Name, set.Target, set.Port, set.Site = "other", "10.0.0.1:1", 9, sites[0].ID
	update(t, s, func(tx store.Tx) error { return tx.Services().Configure(set) })
	view(t, s, func(tx store.Tx) error {
		got, err := tx.Services().ByID(archive.ID)
		same(t, "configured", meant, got)
		return err
	})
	set.ID = "svc_none"
	refused(t, s, store.ErrNotFound, "options of no service", func(tx store.Tx) error { return tx.Services().Configure(set) })

	update(t, s, func(tx store.Tx) error { return tx.Services().Remove(pacs.ID) })
	for what, fn := range map[string]func(store.Tx) error{
		"by id":   func(tx store.Tx) error { _, err := tx.Services().ByID(pacs.ID); return err },
		"by name": func(tx store.Tx) error { _, err := tx.Services().ByName("pacs"); return err },
		"remove":  func(tx store.Tx) error { return tx.Services().Remove(pacs.ID) },
	} {
		refused(t, s, store.ErrNotFound, what+" of no service", fn)
	}
}

func testGrants(t *testing.T, s store.Store) {
	sites := withSites(t, s, "center", "aachen", "berlin")
	pacs := service(sites[0], "pacs", 104)
	one := provisioning.Grant{Service: pacs.ID, Site: sites[1].ID, LANPort: 104, Created: now()}
	two := provisioning.Grant{
		Service: pacs.ID, Site: sites[2].ID, LANPort: 65535, Created: now(),
		Poll: wire.PollOptions{Target: "pacs:104", CalledAE: "PACS", Since: "2026-11-01", Move: true, Hours: "22:00-06:00", Modalities: "CT,MR", Every: 60},
	}
	update(t, s, func(tx store.Tx) error {
		if err := tx.Services().Create(pacs); err != nil {
			return err
		}
		if err := tx.Grants().Create(two); err != nil {
			return err
		}
		return tx.Grants().Create(one)
	})
	view(t, s, func(tx store.Tx) error {
		list, err := tx.Grants().List()
		same(t, "list", []provisioning.Grant{one, two}, list)
		if err != nil {
			return err
		}
		of, err := tx.Grants().Of(sites[2].ID)
		same(t, "those of a site", []provisioning.Grant{two}, of)
		return err
	})
	create := func(g provisioning.Grant) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Grants().Create(g) }
	}
	refused(t, s, store.ErrExists, "granted twice", create(one))
	refused(t, s, store.ErrNotFound, "unknown service", create(provisioning.Grant{Service: "svc_x", Site: sites[1].ID, LANPort: 1}))
	refused(t, s, store.ErrNotFound, "unknown site", create(provisioning.Grant{Service: pacs.ID, Site: "site_x", LANPort: 1}))
	refused(t, s, store.ErrInUse, "a granted service", func(tx store.Tx) error { return tx.Services().Remove(pacs.ID) })
	refused(t, s, store.ErrInUse, "a site with a grant", func(tx store.Tx) error { return tx.Sites().Remove(sites[1].ID) })
	update(t, s, func(tx store.Tx) error { return tx.Grants().Remove(one.Service, one.Site) })
	refused(t, s, store.ErrNotFound, "withdrawn twice", func(tx store.Tx) error { return tx.Grants().Remove(one.Service, one.Site) })
	view(t, s, func(tx store.Tx) error {
		list, err := tx.Grants().List()
		same(t, "list after removal", []provisioning.Grant{two}, list)
		return err
	})
}

func testSettings(t *testing.T, s store.Store) {
	refused(t, s, store.ErrNotFound, "never set", func(tx store.Tx) error { _, err := tx.Setting("network.key"); return err })
	for _, v := range []string{"one", "", "zwei\nmore"} {
		update(t, s, func(tx store.Tx) error { return tx.SetSetting("network.key", v) })
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Setting("network.key")
			same(t, "setting", v, got)
			return err
		})
	}
}
