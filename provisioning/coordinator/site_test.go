package coordinator_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestInit(t *testing.T) {
	st := openStore(t)
	good := coordinator.InitOptions{HubEndpoints: []string{"vpn.example.org:51820"}, URLs: []string{"http://vpn.example.org"}}
	keys, err := coordinator.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, reason(coordinator.New(st, keys, coordinator.Options{})), provisioning.NotFound, "no network yet")
	for name, tc := range map[string]struct {
		edit func(*coordinator.InitOptions)
		code provisioning.Code
		says string
	}{
		"no endpoint":     {func(o *coordinator.InitOptions) { o.HubEndpoints = nil }, provisioning.Invalid, "51820"},
		"endpoint":        {func(o *coordinator.InitOptions) { o.HubEndpoints = []string{"vpn"} }, provisioning.Invalid, "vpn"},
		"no URL":          {func(o *coordinator.InitOptions) { o.URLs = nil }, provisioning.Invalid, "http://"},
		"URL with a path": {func(o *coordinator.InitOptions) { o.URLs = []string{"http://a/b"} }, provisioning.Invalid, "http://a/b"},
		"nine URLs":       {func(o *coordinator.InitOptions) { o.URLs = slices.Repeat([]string{"http://a"}, 9) }, provisioning.Invalid, "8"},
		"home pool":       {func(o *coordinator.InitOptions) { o.Pools = []netip.Prefix{prefix("192.168.0.0/16")} }, provisioning.Conflict, "router"},
		"host bits":       {func(o *coordinator.InitOptions) { o.Pools = []netip.Prefix{prefix("10.0.0.1/16")} }, provisioning.Invalid, "10.0.0.0/16"},
		"one pool twice": {
			func(o *coordinator.InitOptions) {
				o.Pools = []netip.Prefix{prefix("10.9.0.0/16"), prefix("10.9.0.0/16")}
			},
			provisioning.Conflict, "10.9.0.0/16 overlaps 10.9.0.0/16",
		},
		"pool too small": {func(o *coordinator.InitOptions) { o.Pools = []netip.Prefix{prefix("10.9.0.0/30")} }, provisioning.Conflict, "no room"},
	} {
		o := good
		tc.edit(&o)
		err := coordinator.Init(t.Context(), st, o)
		t.Run(name, func(t *testing.T) { wantCode(t, err, tc.code, tc.says) })
	}
	forced := good
	forced.Pools, forced.ForcePool = []netip.Prefix{prefix("192.168.0.0/16"), prefix("fd12:3456:789a::/48")}, true
	if err := coordinator.Init(t.Context(), st, forced); err != nil {
		t.Fatal(err)
	}
	wantCode(t, coordinator.Init(t.Context(), st, good), provisioning.Conflict, "holds a network already")

	c, err := coordinator.New(st, keys, coordinator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	net, err := c.Network(t.Context())
	if err != nil || net.ID != keys.NetworkID() || net.Hub.Address != netip.MustParseAddr("192.168.0.1") || net.Fingerprint != keys.Identity().Fingerprint() {
		t.Errorf("the network is %+v (%v)", net, err)
	}
	other, err := coordinator.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, reason(coordinator.New(st, other, coordinator.Options{})), provisioning.Conflict, keys.NetworkID(), other.NetworkID())
	if _, err := coordinator.New(st, keys, coordinator.Options{}); err != nil {
		t.Errorf("opened again with its own keys: %v", err)
	}
}

func TestCreateSite(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	if s := n.Site(t, coordinator.NewSite{Name: "one", Kind: wire.Clinic, Title: " Dr. Öz "}); s.Prefixes[0] != prefix("10.201.0.16/28") || s.Title != "Dr. Öz" {
		t.Errorf("the first site is %+v", s)
	}
	if s := n.Site(t, coordinator.NewSite{Name: "two", Kind: wire.Center, Hosts: 100}); s.Prefixes[0] != prefix("10.201.0.128/25") {
		t.Errorf("the second site is %+v", s)
	}
	if s := n.Site(t, coordinator.NewSite{Name: "three", Kind: wire.Clinic, Prefix: prefix("10.201.200.0/24")}); s.Prefixes[0] != prefix("10.201.200.0/24") {
		t.Errorf("the third site is %+v", s)
	}
	create := func(s coordinator.NewSite) error {
		if s.Kind == "" {
			s.Kind = wire.Clinic
		}
		return reason(n.CreateSite(ctx, "test", s))
	}
	for name, tc := range map[string]struct {
		site coordinator.NewSite
		code provisioning.Code
		says []string
	}{
		"taken name":      {coordinator.NewSite{Name: "one"}, provisioning.Conflict, []string{"named one"}},
		"bad name":        {coordinator.NewSite{Name: "Praxis Nord"}, provisioning.Invalid, []string{"praxis-nord"}},
		"bad kind":        {coordinator.NewSite{Name: "x", Kind: "hospital"}, provisioning.Invalid, []string{"clinic"}},
		"bad endpoint":    {coordinator.NewSite{Name: "x", Endpoint: "vpn.example.org"}, provisioning.Invalid, []string{"51820"}},
		"taken range":     {coordinator.NewSite{Name: "x", Prefix: prefix("10.201.200.64/28")}, provisioning.Conflict, []string{"10.201.200.0/24", "allocated to three"}},
		"range around":    {coordinator.NewSite{Name: "x", Prefix: prefix("10.201.0.0/24")}, provisioning.Conflict, []string{"hub", "one", "two"}},
		"range elsewhere": {coordinator.NewSite{Name: "x", Prefix: prefix("10.9.0.0/28")}, provisioning.Invalid, []string{"10.9.0.0/28 is in no pool", "10.201.0.0/16"}},
		"whole world":     {coordinator.NewSite{Name: "x", Prefix: prefix("0.0.0.0/0")}, provisioning.Invalid, nil},
		"host bits":       {coordinator.NewSite{Name: "x", Prefix: prefix("10.201.3.1/28")}, provisioning.Invalid, []string{"10.201.3.0/28"}},
		"range and hosts": {coordinator.NewSite{Name: "x", Prefix: prefix("10.201.3.0/28"), Hosts: 3}, provisioning.Invalid, nil},
		"too many hosts":  {coordinator.NewSite{Name: "x", Hosts: 65535}, provisioning.Invalid, nil},
		"negative hosts":  {coordinator.NewSite{Name: "x", Hosts: -1}, provisioning.Invalid, nil},
		"no room":         {coordinator.NewSite{Name: "x", Hosts: 60000}, provisioning.Conflict, []string{"no room for 60000 hosts", "10.201.0.0/16"}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, create(tc.site), tc.code, tc.says...) })
	}
	sites, err := n.Sites(ctx)
	if err != nil || len(sites) != 3 {
		t.Errorf("after all refusals there are %d sites (%v)", len(sites), err)
	}
	plan, err := n.Plan(ctx)
	if err != nil || len(plan.Ranges) != 4 {
		t.Errorf("after all refusals there are %d ranges (%v)", len(plan.Ranges), err)
	}
}

func TestRemovedSiteLeavesItsAddressesInQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		old := n.Clinic(t, "old")
		n.Center(t, "lab", "")
		n.DICOM(t, "lab", "pacs", "PACS")
		n.Grant(t, "pacs", "old")
		n.DICOM(t, "old", "store", "STORE")
		box := n.Node(t, "old")
		n.Token(t, "old")
		remove := func() error { return n.RemoveSite(t.Context(), "test", "old") }
		wantCode(t, remove(), provisioning.Conflict, string(box.ID), "service store", "its grant of pacs")
		n.Remove(t, box.ID)
		for _, err := range []error{n.RemoveService(t.Context(), "test", "store"), n.Disallow(t.Context(), "test", "pacs", "old"), remove()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, remove(), provisioning.NotFound, `"old"`)
		if tokens, err := n.Tokens(t.Context()); err != nil || len(tokens) != 0 {
			t.Errorf("its tokens stay: %+v (%v)", tokens, err)
		}
		again := coordinator.NewSite{Name: "new", Kind: wire.Clinic, Prefix: old.Prefixes[0]}
		time.Sleep(30*24*time.Hour - time.Second)
		wantCode(t, reason(n.CreateSite(t.Context(), "test", again)), provisioning.Conflict, "quarantined until")
		if s := n.Clinic(t, "beside"); s.Prefixes[0].Overlaps(old.Prefixes[0]) {
			t.Errorf("the addresses were given away during quarantine: %v", s.Prefixes)
		}
		time.Sleep(time.Second)
		if _, err := n.CreateSite(t.Context(), "test", again); err != nil {
			t.Errorf("after quarantine: %v", err)
		}
	})
}

func TestSetSiteEndpointReachesThePeers(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	n.Node(t, "lab")
	box := n.Node(t, "nord")
	if p := box.Map().Peers; len(p) != 1 || p[0].Endpoints != nil {
		t.Fatalf("the peers are %+v", p)
	}
	if err := n.SetSiteEndpoint(t.Context(), "test", "lab", "192.0.2.50:51820"); err != nil {
		t.Fatal(err)
	}
	_, m, err := n.NetMapFor(t.Context(), box.ID)
	if err != nil || !slices.Equal(m.Peers[0].Endpoints, []string{"192.0.2.50:51820"}) || m.Peers[0].Keepalive != 25 {
		t.Errorf("the peers are %+v (%v)", m.Peers, err)
	}
	wantCode(t, n.SetSiteEndpoint(t.Context(), "test", "lab", "192.0.2.50"), provisioning.Invalid, "port")
	wantCode(t, n.SetSiteEndpoint(t.Context(), "test", "nobody", ""), provisioning.NotFound, "nobody")
	if err := n.SetSiteEndpoint(t.Context(), "test", "lab", ""); err != nil {
		t.Error(err)
	}
	wantCode(t, n.RemoveNode(t.Context(), "test", "node_unknown"), provisioning.NotFound, "node_unknown")
}

func TestSetReach(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	wantCode(t, n.SetReach(t.Context(), "test", coordinator.Reach{HubEndpoints: []string{"h:1"}}), provisioning.Invalid, "no address")
	if err := n.SetReach(t.Context(), "test", coordinator.Reach{HubEndpoints: []string{"h:1"}, URLs: []string{"https://h"}}); err != nil {
		t.Fatal(err)
	}
	_, m, err := n.NetMapFor(t.Context(), box.ID)
	if err != nil || !slices.Equal(m.Hub.Endpoints, []string{"h:1"}) || m.Generation != box.Generation()+1 {
		t.Errorf("the map is %+v (%v)", m, err)
	}
	if k := n.Token(t, "a"); !slices.Equal(k.URLs, []string{"https://h"}) {
		t.Errorf("a new token leads to %v", k.URLs)
	}
}
