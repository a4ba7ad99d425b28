package coordinator_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// reason drops what came beside an error.
func reason[T any](_ T, err error) error { return err }

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
		"pools overlap": {func(o *coordinator.InitOptions) {
			o.Pools = []netip.Prefix{prefix("10.9.0.0/16"), prefix("10.9.1.0/24")}
		},
			provisioning.Conflict, "10.9.1.0/24 overlaps 10.9.0.0/16"},
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

func TestServices(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Center(t, "other", "")
	for i, want := range []uint16{11112, 11113, 11114} {
		if v := n.DICOM(t, "lab", "pacs-"+string(rune('a'+i)), "PACS"); v.Port != want || v.Mode != wire.Queued {
			t.Errorf("service %d has port %d and mode %s", i, v.Port, v.Mode)
		}
	}
	if err := n.RemoveService(ctx, "test", "pacs-b"); err != nil {
		t.Fatal(err)
	}
	if v := n.DICOM(t, "lab", "pacs-d", "D"); v.Port != 11113 {
		t.Errorf("the freed port was not taken: %d", v.Port)
	}
	if v := n.DICOM(t, "other", "elsewhere", "D"); v.Port != 11112 {
		t.Errorf("another site starts at port %d", v.Port)
	}
	hl7 := coordinator.NewService{Site: "lab", Name: "his", Protocol: wire.HL7, Receiver: " HIS^WARD ", Target: "his:2575"}
	if v, err := n.CreateService(ctx, "test", hl7); err != nil || v.Port != 2575 || v.Receiver != "HIS^WARD" {
		t.Errorf("the HL7 service is %+v (%v)", v, err)
	}
	good := coordinator.NewService{Site: "lab", Name: "x", Protocol: wire.DICOM, AETitle: "X", Target: "192.168.1.2:104"}
	for name, tc := range map[string]struct {
		edit func(*coordinator.NewService)
		code provisioning.Code
		says string
	}{
		"taken name":      {func(v *coordinator.NewService) { v.Name = "his" }, provisioning.Conflict, "his"},
		"no such site":    {func(v *coordinator.NewService) { v.Site = "nobody" }, provisioning.NotFound, "nobody"},
		"AE title":        {func(v *coordinator.NewService) { v.AETitle = "SEVENTEEN-LETTERS" }, provisioning.Invalid, "16"},
		"no AE title":     {func(v *coordinator.NewService) { v.AETitle = "" }, provisioning.Invalid, "AE title"},
		"receiver":        {func(v *coordinator.NewService) { v.Receiver = "HIS" }, provisioning.Invalid, "receiver"},
		"protocol":        {func(v *coordinator.NewService) { v.Protocol = "fhir" }, provisioning.Invalid, "fhir"},
		"mode":            {func(v *coordinator.NewService) { v.Mode = "both" }, provisioning.Invalid, "both"},
		"target":          {func(v *coordinator.NewService) { v.Target = "192.168.1.2" }, provisioning.Invalid, "104"},
		"target in pool":  {func(v *coordinator.NewService) { v.Target = "10.201.9.9:104" }, provisioning.Invalid, "10.201.0.0/16"},
		"mapped in pool":  {func(v *coordinator.NewService) { v.Target = "[::ffff:10.201.9.9]:104" }, provisioning.Invalid, "10.201.0.0/16"},
		"HL7 with a name": {func(v *coordinator.NewService) { v.Protocol = wire.HL7 }, provisioning.Invalid, "AE title"},
	} {
		v := good
		tc.edit(&v)
		err := reason(n.CreateService(ctx, "test", v))
		t.Run(name, func(t *testing.T) { wantCode(t, err, tc.code, tc.says) })
	}
	wantCode(t, n.RemoveService(ctx, "test", "nothing"), provisioning.NotFound, "nothing")
}

func TestGrants(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Center(t, "radio", "")
	n.Clinic(t, "nord")
	n.Clinic(t, "sued")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.DICOM(t, "radio", "twin", "pacs")
	n.DICOM(t, "radio", "archive", "ARCHIVE")
	n.DICOM(t, "nord", "nord-store", "NORD")
	for _, r := range []struct{ name, receiver string }{{"all", ""}, {"his", "HIS"}, {"ward", "HIS^WARD"}} {
		if _, err := n.CreateService(ctx, "test", coordinator.NewService{Site: "lab", Name: r.name, Protocol: wire.HL7, Receiver: r.receiver, Target: "h:2575"}); err != nil {
			t.Fatal(err)
		}
	}
	allow := func(service, site string, port uint16) error {
		return reason(n.Allow(ctx, "test", service, site, port))
	}
	for _, step := range []struct {
		service, site string
		port          uint16
		code          provisioning.Code
		says          string
	}{
		{"pacs", "nord", 0, "", ""},
		{"pacs", "nord", 999, provisioning.Conflict, "may use pacs already"},
		{"archive", "nord", 0, "", ""}, // another AE title behind the same port
		{"twin", "nord", 0, provisioning.Conflict, "AE title pacs"},
		{"twin", "nord", 104, "", ""},
		{"his", "nord", 11112, provisioning.Conflict, "hl7 beside dicom"},
		{"his", "nord", 0, "", ""},
		{"ward", "nord", 0, provisioning.Conflict, "receiver HIS^WARD"},
		{"all", "nord", 0, provisioning.Conflict, "takes every message"},
		{"all", "nord", 2576, "", ""},
		{"nord-store", "sued", 0, provisioning.Denied, "two clinics never meet"},
		{"nord-store", "nord", 0, provisioning.Invalid, "itself"},
		{"nord-store", "lab", 0, "", ""},
		{"pacs", "radio", 0, "", ""},
		{"nothing", "nord", 0, provisioning.NotFound, "nothing"},
		{"pacs", "nobody", 0, provisioning.NotFound, "nobody"},
	} {
		err := allow(step.service, step.site, step.port)
		switch {
		case step.code == "" && err != nil:
			t.Errorf("%s to %s: %v", step.service, step.site, err)
		case step.code != "":
			wantCode(t, err, step.code, step.says)
		}
	}
	grants, err := n.Grants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range grants {
		got = append(got, g.ServiceName+" of "+g.OwnerName+" to "+g.SiteName)
	}
	want := []string{
		"all of lab to nord", "archive of radio to nord", "his of lab to nord", "nord-store of nord to lab", "pacs of lab to nord",
		"pacs of lab to radio", "twin of radio to nord",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the grants are %q", got)
	}
	wantCode(t, n.RemoveService(ctx, "test", "pacs"), provisioning.Conflict, "nord", "radio")
	if err := n.Disallow(ctx, "test", "pacs", "radio"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.Disallow(ctx, "test", "pacs", "radio"), provisioning.NotFound, "not allowed")
	if err := n.Disallow(ctx, "test", "pacs", "nord"); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveService(ctx, "test", "pacs"); err != nil {
		t.Error(err)
	}
}

func TestRanges(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	add := func(kind provisioning.RangeKind, p string, force bool) error {
		return reason(n.AddRange(ctx, "test", coordinator.NewRange{Kind: kind, Prefix: prefix(p), Force: force}))
	}
	n.Clinic(t, "a")
	box := n.Box(t)
	if err := box.Enroll(ctx, n.Token(t, "a"), wire.Facts{LANs: []netip.Prefix{prefix("10.44.1.0/24")}}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, add(provisioning.RangePool, "10.44.0.0/16", true), provisioning.Conflict, "10.44.1.0/24", "LAN of site a")
	wantCode(t, add(provisioning.RangePool, "192.168.0.0/16", false), provisioning.Conflict, "force")
	wantCode(t, add(provisioning.RangePool, "10.201.9.0/24", false), provisioning.Conflict, "10.201.0.0/16 (pool)")
	wantCode(t, add(provisioning.RangeAllocation, "10.201.9.0/24", false), provisioning.Invalid)
	wantCode(t, add(provisioning.RangeReserved, "10.201.0.0/24", false), provisioning.Conflict, "allocated to a")
	wantCode(t, add(provisioning.RangeForeign, "10.201.0.0/20", false), provisioning.Conflict, "allocated to a")
	for kind, p := range map[provisioning.RangeKind]string{
		provisioning.RangePool: "10.77.0.0/16", provisioning.RangeReserved: "10.201.4.0/24", provisioning.RangeForeign: "10.201.5.0/24",
	} {
		if err := add(kind, p, false); err != nil {
			t.Errorf("%s %s: %v", kind, p, err)
		}
	}
	for _, p := range []string{"10.201.4.0/28", "10.201.5.0/28"} {
		wantCode(t, reason(n.CreateSite(ctx, "test", coordinator.NewSite{Name: "b", Kind: wire.Clinic, Prefix: prefix(p)})), provisioning.Conflict, p)
	}
	if s := n.Site(t, coordinator.NewSite{Name: "c", Kind: wire.Clinic, Prefix: prefix("10.77.3.0/28")}); len(s.Prefixes) != 1 {
		t.Errorf("the site in the new pool is %+v", s)
	}
	plan, err := n.Plan(ctx)
	if err != nil || len(plan.Pools) != 2 {
		t.Fatalf("the plan is %+v (%v)", plan, err)
	}
	for _, p := range plan.Pools {
		if p.Usage.Taken <= 0 || p.Usage.Taken >= 1 {
			t.Errorf("the pool %v is taken to %f", p.Prefix, p.Usage.Taken)
		}
		wantCode(t, n.RemoveRange(ctx, "test", p.ID), provisioning.Conflict, "still holds")
	}
	for _, r := range plan.Ranges {
		err := n.RemoveRange(ctx, "test", r.ID)
		if r.Kind == provisioning.RangeAllocation {
			wantCode(t, err, provisioning.Conflict, "is allocated to "+r.OwnerName)
		} else if err != nil {
			t.Errorf("remove %v: %v", r.Prefix, err)
		}
	}
	wantCode(t, n.RemoveRange(ctx, "test", 12345), provisioning.NotFound, "12345")
	if err := n.RemoveSite(ctx, "test", "c"); err != nil {
		t.Fatal(err)
	}
	plan, err = n.Plan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(plan.Ranges, func(r coordinator.RangeInfo) bool { return r.Prefix == prefix("10.77.3.0/28") })
	for _, id := range []int64{plan.Ranges[i].ID, plan.Pools[0].ID} {
		if err := n.RemoveRange(ctx, "test", id); err != nil {
			t.Errorf("end the quarantine, then remove the pool: %v", err)
		}
	}
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{URLs: []string{"http://vpn.example.org", "https://192.0.2.1"}}})
		ctx := t.Context()
		n.Clinic(t, "a")
		stored, token, err := n.CreateToken(ctx, "test", "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		if token.ID != string(stored.ID) || stored.SiteName != "a" || stored.State != coordinator.TokenOpen ||
			stored.Expires.Sub(stored.Created) != 72*time.Hour || !slices.Equal(token.URLs, []string{"http://vpn.example.org", "https://192.0.2.1"}) {
			t.Errorf("the token is %+v, %v", stored, token)
		}
		if _, err := wire.ParseToken(token.Reveal()); err != nil {
			t.Errorf("its text cannot be read: %v", err)
		}
		if strings.Contains(string(stored.Hash[:]), string(token.Secret[:])) {
			t.Error("the secret is stored")
		}
		for _, ttl := range []time.Duration{-time.Hour, time.Second, 91 * 24 * time.Hour} {
			_, _, err := n.CreateToken(ctx, "test", "a", ttl)
			wantCode(t, err, provisioning.Invalid, "90 days")
		}
		_, _, err = n.CreateToken(ctx, "test", "nobody", 0)
		wantCode(t, err, provisioning.NotFound, "nobody")

		used := n.Token(t, "a")
		box := n.Box(t)
		if err := box.Enroll(ctx, used, wire.Facts{}); err != nil {
			t.Fatal(err)
		}
		revoke := func(id string) error { return n.RevokeToken(ctx, "test", provisioning.TokenID(id)) }
		wantCode(t, revoke(used.ID), provisioning.Conflict, string(box.ID))
		wantCode(t, revoke("tok_unknown"), provisioning.NotFound, "tok_unknown")
		revoked := n.Token(t, "a")
		for range 2 {
			if err := revoke(revoked.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(72 * time.Hour)
		tokens, err := n.Tokens(ctx)
		if err != nil {
			t.Fatal(err)
		}
		state := map[string]coordinator.TokenState{}
		for _, k := range tokens {
			state[string(k.ID)] = k.State
		}
		if state[token.ID] != coordinator.TokenExpired || state[used.ID] != coordinator.TokenUsed || state[revoked.ID] != coordinator.TokenRevoked {
			t.Errorf("the states are %v", state)
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

func TestReportIsCleanedAndBounded(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	long := strings.Repeat("ä", 4000)
	r := wire.Report{Format: 1, Applied: 9, ApplyError: "bad\x1b[31m\nthing" + long, Facts: wire.Facts{Hostname: "h\u202egnp"}}
	for range 1000 {
		r.Conditions = append(r.Conditions, wire.Condition{Code: "c", Severity: "catastrophe", Message: long})
		r.Queues = append(r.Queues, wire.Queue{Name: "q", Queued: -1, Bytes: -5})
	}
	if err := n.Report(t.Context(), box.ID, r); err != nil {
		t.Fatal(err)
	}
	i := nodeInfo(t, n, box.ID)
	if i.Applied != 9 || len(i.ApplyError) > 512 || !strings.HasPrefix(i.ApplyError, "bad[31m thingää") || i.LastSeen.IsZero() || i.Facts.Hostname != "hgnp" {
		t.Errorf("stored: applied %d, %d bytes of error %.30q, hostname %q", i.Applied, len(i.ApplyError), i.ApplyError, i.Facts.Hostname)
	}
	if len(i.Conditions) != 64 || i.Conditions[0].Severity != "warning" || len(i.Conditions[0].Message) > 512 {
		t.Errorf("stored: %d conditions, the first %+v", len(i.Conditions), i.Conditions[0])
	}
	if len(i.Queues) != 256 || i.Queues[0].Queued != 0 || i.Queues[0].Bytes != 0 {
		t.Errorf("stored: %d queues, the first %+v", len(i.Queues), i.Queues[0])
	}
	wantCode(t, n.Report(t.Context(), box.ID, wire.Report{Format: 99}), provisioning.Invalid, "99")
	n.Remove(t, box.ID)
	wantCode(t, n.Report(t.Context(), box.ID, r), provisioning.Denied, "removed")
}

func TestEveryChangeIsAudited(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	box := n.Node(t, "nord")
	n.Remove(t, box.ID)
	ctx := t.Context()
	r, err := n.AddRange(ctx, "test", coordinator.NewRange{Kind: provisioning.RangeReserved, Prefix: prefix("10.201.7.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	spare := n.Token(t, "nord")
	for _, err := range []error{
		n.RemoveRange(ctx, "test", r.ID), n.SetSiteEndpoint(ctx, "test", "lab", "h:1"), n.RevokeToken(ctx, "test", provisioning.TokenID(spare.ID)),
		n.Disallow(ctx, "test", "pacs", "nord"), n.RemoveService(ctx, "test", "pacs"), n.RemoveSite(ctx, "test\n", "lab"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Action)
		if strings.HasPrefix(e.Actor, "test") && e.Actor != "test" {
			t.Errorf("the actor is %q", e.Actor)
		}
	}
	want := []string{
		"network.init", "site.create", "site.create", "service.create", "grant.allow", "token.create", "node.enroll", "node.remove", "range.add",
		"token.create", "range.remove", "site.endpoint", "token.revoke", "grant.disallow", "service.remove", "site.remove",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the trail is %q, want %q", got, want)
	}
	if broken, err := n.VerifyEvents(ctx); err != nil || broken != 0 {
		t.Errorf("the trail is broken at %d (%v)", broken, err)
	}
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
