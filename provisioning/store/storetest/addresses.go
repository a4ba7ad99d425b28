package storetest

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func readdress(id provisioning.NodeID, address, former string) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Nodes().Readdress(id, addr(address), addr(former)) }
}

// nodeAt returns the node that answers at an address, in either role.
func nodeAt(t *testing.T, s store.Store, a string) (out provisioning.Node) {
	t.Helper()
	view(t, s, func(tx store.Tx) (err error) {
		out, err = tx.Nodes().ByAddress(addr(a))
		return err
	})
	return out
}

func testNodeAddresses(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin")
	one, two := node(sites[0], 1), node(sites[0], 2)
	one.Former = addr("10.65.0.1")
	offered := service(sites[0], "pacs", 104)
	offered.Address = addr("10.66.0.1")
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.Nodes().Create(one), tx.Nodes().Create(two), tx.Services().Create(offered))
	})
	same(t, "by address", one, nodeAt(t, s, "10.64.0.1"))
	same(t, "by former address", one, nodeAt(t, s, "10.65.0.1"))

	for what, at := range map[string][2]string{
		"the address of another":         {"10.64.0.1", ""},
		"the former of another":          {"10.65.0.1", ""},
		"of a service":                   {"10.66.0.1", ""},
		"former: the address of another": {"10.64.0.9", "10.64.0.1"},
		"former: the former of another":  {"10.64.0.9", "10.65.0.1"},
		"former: of a service":           {"10.64.0.9", "10.66.0.1"},
	} {
		refused(t, s, store.ErrExists, what, readdress(two.ID, at[0], at[1]))
		third := node(sites[0], 3)
		third.Address, third.Former = addr(at[0]), addr(at[1])
		refused(t, s, store.ErrExists, "a new node with "+what, func(tx store.Tx) error { return tx.Nodes().Create(third) })
	}
	for what, at := range map[string][2]string{
		"no address": {"", ""}, "both the same": {"10.64.0.9", "10.64.0.9"}, "IPv4 dressed as IPv6": {"::ffff:10.64.0.9", ""},
		"a zone": {"fe80::1%eth0", ""}, "a former with a zone": {"10.64.0.9", "fe80::1%eth0"},
	} {
		if e, ok := errors.AsType[*provisioning.Error](s.Update(t.Context(), readdress(two.ID, at[0], at[1]))); !ok || e.Code != provisioning.Invalid {
			t.Errorf("%s: %v", what, e)
		}
	}
	refused(t, s, store.ErrNotFound, "no such node", readdress("node_none", "10.64.0.9", ""))

	// Renumbered, back again, and for good.
	for _, at := range [][2]string{{"10.67.0.2", "10.64.0.2"}, {"10.64.0.2", "10.67.0.2"}, {"10.67.0.2", "10.64.0.2"}, {"10.67.0.2", ""}, {"fd00::2", "10.67.0.2"}} {
		update(t, s, readdress(two.ID, at[0], at[1]))
		two.Address, two.Former = addr(at[0]), addr(at[1])
		same(t, "renumbered", two, nodeAt(t, s, at[0]))
		if at[1] != "" {
			same(t, "at its former address", two, nodeAt(t, s, at[1]))
		}
	}
	refused(t, s, store.ErrNotFound, "an address given up", func(tx store.Tx) error { _, err := tx.Nodes().ByAddress(addr("10.64.0.2")); return err })
	view(t, s, func(tx store.Tx) error {
		list, err := tx.Nodes().List()
		same(t, "list", []provisioning.Node{one, two}, list)
		return err
	})
	// What a node gave up, or had when it was removed, is free.
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Remove(one.ID) })
	update(t, s, readdress(two.ID, "10.64.0.1", "10.65.0.1"))
	update(t, s, func(tx store.Tx) error { return tx.Services().Remove(offered.ID) })
	update(t, s, readdress(two.ID, "10.66.0.1", "10.64.0.1"))
	three := node(sites[0], 3)
	three.Address = addr("10.65.0.1")
	update(t, s, func(tx store.Tx) error { return tx.Nodes().Create(three) })
}

func testServiceAddresses(t *testing.T, s store.Store) {
	sites := withSites(t, s, "berlin")
	box := node(sites[0], 1)
	box.Former = addr("10.65.0.1")
	pacs, plain, bare := service(sites[0], "pacs", 104), service(sites[0], "plain", 105), service(sites[0], "bare", 106)
	pacs.Address = addr("10.66.0.1")
	update(t, s, func(tx store.Tx) error {
		return errors.Join(tx.Nodes().Create(box), tx.Services().Create(pacs), tx.Services().Create(plain), tx.Services().Create(bare))
	})
	move := func(id provisioning.ServiceID, a string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Services().Readdress(id, addr(a)) }
	}
	for what, a := range map[string]string{"another service": "10.66.0.1", "a node": "10.64.0.1", "a node in former times": "10.65.0.1"} {
		refused(t, s, store.ErrExists, "the address of "+what, move(plain.ID, a))
		v := service(sites[0], "third", 2575)
		v.Address = addr(a)
		refused(t, s, store.ErrExists, "a new service at the address of "+what, func(tx store.Tx) error { return tx.Services().Create(v) })
	}
	refused(t, s, store.ErrNotFound, "no such service", move("svc_none", "10.66.0.9"))
	for _, a := range []string{"::ffff:10.66.0.9", "fe80::1%eth0"} {
		if e, ok := errors.AsType[*provisioning.Error](s.Update(t.Context(), move(plain.ID, a))); !ok || e.Code != provisioning.Invalid {
			t.Errorf("%s: %v", a, e)
		}
	}
	for _, a := range []string{"10.66.0.2", "10.66.0.2", "fd00::7", "", "10.66.0.3"} {
		update(t, s, move(plain.ID, a))
		plain.Address = addr(a)
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Services().ByID(plain.ID)
			same(t, "moved", plain, got)
			return err
		})
	}
	update(t, s, move(pacs.ID, ""))
	update(t, s, move(plain.ID, "10.66.0.1"))
	pacs.Address, plain.Address = netip.Addr{}, addr("10.66.0.1")
	view(t, s, func(tx store.Tx) error {
		list, err := tx.Services().List()
		same(t, "list", []provisioning.Service{bare, pacs, plain}, list)
		return err
	})
}
