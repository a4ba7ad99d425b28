package netmap_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var (
	issued  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	expires = issued.Add(30 * 24 * time.Hour)
)

func key(n byte) wgkey.PublicKey { return wgkey.PublicKey{n, 1} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func host(s string) netip.Prefix { return netip.PrefixFrom(addr(s), addr(s).BitLen()) }

// sample is a center with an endpoint, two clinics that use its PACS, of which one gets results back, and a center that nobody uses.
func sample() netmap.Snapshot {
	at := func(minute int) time.Time { return issued.Add(time.Duration(minute-60) * time.Minute) }
	site := func(id, name string, kind wire.SiteKind, endpoint string) provisioning.Site {
		return provisioning.Site{ID: provisioning.SiteID(id), Name: name, Kind: kind, Endpoint: endpoint}
	}
	node := func(id string, site provisioning.SiteID, k byte, a string) provisioning.Node {
		return provisioning.Node{ID: provisioning.NodeID(id), Site: site, Kind: wire.Gateway, PublicKey: key(k), Address: addr(a)}
	}
	alloc := func(id int64, p, owner string) provisioning.Range {
		return provisioning.Range{ID: id, Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix(p), Owner: owner}
	}
	return netmap.Snapshot{
		Network: "net", Generation: 7, Now: issued, Expires: expires,
		Hub: wire.Hub{PublicKey: key(99), Endpoints: []string{"vpn.example.org:51820"}, Address: addr("10.201.0.1"), ControlPort: 8080},
		Sites: []provisioning.Site{
			site("s1", "lab", wire.Center, "198.51.100.1:51820"), site("s2", "nord", wire.Clinic, ""),
			site("s3", "sued", wire.Clinic, ""), site("s4", "quiet", wire.Center, ""),
		},
		Nodes: []provisioning.Node{
			node("n1", "s1", 1, "10.201.1.1"), node("n2", "s2", 2, "10.201.2.1"),
			node("n3", "s3", 3, "10.201.3.1"), node("n4", "s4", 4, "fd00:1::1"),
		},
		Services: []provisioning.Service{
			{ID: "v1", Site: "s1", Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Mode: wire.Queued, Target: "192.168.0.2:104", Port: 11112, Created: at(1)},
			{ID: "v2", Site: "s2", Name: "his", Protocol: wire.HL7, Receiver: "HIS", Mode: wire.Queued, Target: "192.168.178.9:2575", Port: 2575, Created: at(2)},
			{ID: "v3", Site: "s1", Name: "unused", Protocol: wire.HL7, Mode: wire.Queued, Target: "192.168.0.3:2575", Port: 2575, Created: at(3)},
		},
		Grants: []provisioning.Grant{
			{Service: "v1", Site: "s2", LANPort: 11112, Created: at(4)},
			{Service: "v1", Site: "s3", LANPort: 104, Created: at(5)},
			{Service: "v2", Site: "s1", LANPort: 2575, Created: at(6)},
		},
		Ranges: []provisioning.Range{
			{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.201.0.0/16")},
			{ID: 2, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("fd00:1::/48")},
			alloc(3, "10.201.0.0/28", "hub"), alloc(4, "10.201.1.0/28", "s1"), alloc(5, "10.201.2.0/28", "s2"),
			alloc(6, "10.201.3.0/28", "s3"), alloc(7, "fd00:1::/64", "s4"),
		},
	}
}

var equateNet = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})

func compile(t *testing.T, s netmap.Snapshot, id provisioning.NodeID) wire.NetMap {
	t.Helper()
	m, err := netmap.Compile(s, id)
	if err != nil {
		t.Fatalf("compile the map of %s: %v", id, err)
	}
	return m
}

func common(s netmap.Snapshot, self wire.Self) wire.NetMap {
	return wire.NetMap{
		Format: wire.Format, Network: "net", Generation: 7, Issued: issued, Expires: expires, Self: self, Hub: s.Hub,
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16"), netip.MustParsePrefix("fd00:1::/48")},
	}
}

func TestCompile(t *testing.T) {
	s := sample()
	lab := common(s, wire.Self{Node: "n1", PublicKey: key(1), Site: "lab", SiteKind: wire.Center, Address: addr("10.201.1.1")})
	lab.Peers = []wire.Peer{
		{Node: "n2", Site: "nord", PublicKey: key(2), AllowedIPs: []netip.Prefix{host("10.201.2.1")}},
		{Node: "n3", Site: "sued", PublicKey: key(3), AllowedIPs: []netip.Prefix{host("10.201.3.1")}},
	}
	lab.Offers = []wire.Offer{{
		Service: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Port: 11112, Target: "192.168.0.2:104",
		From: []wire.Source{{Site: "nord", Prefix: host("10.201.2.1")}, {Site: "sued", Prefix: host("10.201.3.1")}},
	}}
	lab.Uses = []wire.Use{{
		Service: "his", Site: "nord", Protocol: wire.HL7, Mode: wire.Queued, LANPort: 2575, Receiver: "HIS",
		Address: netip.MustParseAddrPort("10.201.2.1:2575"),
	}}

	toLab := wire.Peer{
		Node: "n1", Site: "lab", PublicKey: key(1), Endpoints: []string{"198.51.100.1:51820"},
		AllowedIPs: []netip.Prefix{host("10.201.1.1")}, Keepalive: 25,
	}
	pacs := wire.Use{
		Service: "pacs", Site: "lab", Protocol: wire.DICOM, Mode: wire.Queued, LANPort: 11112, AETitle: "PACS",
		Address: netip.MustParseAddrPort("10.201.1.1:11112"),
	}
	nord := common(s, wire.Self{Node: "n2", PublicKey: key(2), Site: "nord", SiteKind: wire.Clinic, Address: addr("10.201.2.1")})
	nord.Peers, nord.Uses = []wire.Peer{toLab}, []wire.Use{pacs}
	nord.Offers = []wire.Offer{{
		Service: "his", Protocol: wire.HL7, Port: 2575, Target: "192.168.178.9:2575", Receiver: "HIS", Mode: wire.Queued, From: []wire.Source{{Site: "lab", Prefix: host("10.201.1.1")}},
	}}
	sued := common(s, wire.Self{Node: "n3", PublicKey: key(3), Site: "sued", SiteKind: wire.Clinic, Address: addr("10.201.3.1")})
	pacs.LANPort = 104
	sued.Peers, sued.Uses = []wire.Peer{toLab}, []wire.Use{pacs}

	quiet := common(s, wire.Self{Node: "n4", PublicKey: key(4), Site: "quiet", SiteKind: wire.Center, Address: addr("fd00:1::1")})

	for id, want := range map[provisioning.NodeID]wire.NetMap{"n1": lab, "n2": nord, "n3": sued, "n4": quiet} {
		if d := cmp.Diff(want, compile(t, s, id), equateNet); d != "" {
			t.Errorf("the map of %s: -want +got:\n%s", id, d)
		}
	}
	if o := netmap.NewIndex(s).Omissions(); len(o) != 0 {
		t.Errorf("sound objects were left out: %v", o)
	}
}

func TestCompileChoosesWhoCalls(t *testing.T) {
	for _, tc := range []struct {
		name               string
		lab, nord          string
		labCalls, nordCall bool
		labKeeps, nordKeep int
	}{
		{"the clinic calls", "198.51.100.1:51820", "", false, true, 0, 25},
		{"the center calls", "", "192.0.2.2:51820", true, false, 25, 0},
		{"both can", "198.51.100.1:51820", "192.0.2.2:51820", true, true, 0, 0},
		{"nobody can", "", "", false, false, 0, 0},
	} {
		s := sample()
		s.Sites[0].Endpoint, s.Sites[1].Endpoint = tc.lab, tc.nord
		lab, nord := compile(t, s, "n1").Peers[0], compile(t, s, "n2").Peers[0]
		if (lab.Endpoints != nil) != tc.labCalls || (nord.Endpoints != nil) != tc.nordCall || lab.Keepalive != tc.labKeeps || nord.Keepalive != tc.nordKeep {
			t.Errorf("%s: the center has %v and %d s, the clinic %v and %d s", tc.name, lab.Endpoints, lab.Keepalive, nord.Endpoints, nord.Keepalive)
		}
	}
}

func TestCompileRefusesOnlyTheBrokenNode(t *testing.T) {
	quarantined := func(s *netmap.Snapshot) { s.Ranges[5].Until, s.Ranges[5].Owner = issued, "" }
	for name, breakIt := range map[string]func(*netmap.Snapshot){
		"its site is gone":            func(s *netmap.Snapshot) { s.Nodes[2].Site = "s9" },
		"no key":                      func(s *netmap.Snapshot) { s.Nodes[2].PublicKey = wgkey.PublicKey{} },
		"the hub's key":               func(s *netmap.Snapshot) { s.Nodes[2].PublicKey = key(99) },
		"no address":                  func(s *netmap.Snapshot) { s.Nodes[2].Address = netip.Addr{} },
		"the hub's address":           func(s *netmap.Snapshot) { s.Nodes[2].Address = addr("10.201.0.1") },
		"an address of another site":  func(s *netmap.Snapshot) { s.Nodes[2].Address = addr("10.201.2.9") },
		"an address in no allocation": func(s *netmap.Snapshot) { s.Nodes[2].Address = addr("10.201.77.1") },
		"an address in no pool": func(s *netmap.Snapshot) {
			s.Nodes[2].Address = addr("10.9.0.1")
			s.Ranges[5].Prefix = netip.MustParsePrefix("10.9.0.0/28")
		},
		"a mapped address":         func(s *netmap.Snapshot) { s.Nodes[2].Address = addr("::ffff:10.201.3.1") },
		"a quarantined allocation": quarantined,
	} {
		s := sample()
		breakIt(&s)
		if _, err := netmap.Compile(s, "n3"); err == nil || errors.Is(err, netmap.ErrUnknownNode) {
			t.Errorf("%s: its own map: got %v", name, err)
		}
		lab := compile(t, s, "n1")
		if len(lab.Peers) != 1 || len(lab.Offers) != 1 || len(lab.Offers[0].From) != 1 || len(lab.Uses) != 1 {
			t.Errorf("%s: the center's map has %d peers, %d offers, %d uses", name, len(lab.Peers), len(lab.Offers), len(lab.Uses))
		}
		if d := cmp.Diff(compile(t, sample(), "n2"), compile(t, s, "n2"), equateNet); d != "" {
			t.Errorf("%s: the other clinic's map changed:\n%s", name, d)
		}
		x := netmap.NewIndex(s)
		if !slices.ContainsFunc(x.Omissions(), func(o netmap.Omission) bool { return o.Object == "node n3" && o.Reason != "" }) {
			t.Errorf("%s: not named in %v", name, x.Omissions())
		}
		if slices.ContainsFunc(x.Nodes(), func(n provisioning.Node) bool { return n.ID == "n3" }) {
			t.Errorf("%s: the hub would talk to it", name)
		}
	}
	if _, err := netmap.Compile(sample(), "n9"); !errors.Is(err, netmap.ErrUnknownNode) {
		t.Errorf("an unknown node: got %v", err)
	}
}

func TestCompileTrustsNeitherOfTwoThatClaimTheSame(t *testing.T) {
	for name, breakIt := range map[string]func(*netmap.Snapshot){
		"key":     func(s *netmap.Snapshot) { s.Nodes[2].PublicKey = key(2) },
		"address": func(s *netmap.Snapshot) { s.Nodes[2].Address = s.Nodes[1].Address },
	} {
		s := sample()
		breakIt(&s)
		if m := compile(t, s, "n1"); len(m.Peers) != 0 || len(m.Offers) != 0 || len(m.Uses) != 0 {
			t.Errorf("two nodes with one %s: the center's map has %+v", name, m.Peers)
		}
	}
}

func TestCompileLeavesOutBrokenServicesAndGrants(t *testing.T) {
	pacsGone := []string{"his"}
	for name, tc := range map[string]struct {
		breakIt func(*netmap.Snapshot)
		// left are the services in the maps of lab and nord.
		left []string
		says string
	}{
		"service without port":     {func(s *netmap.Snapshot) { s.Services[0].Port = 0 }, pacsGone, "no port"},
		"service without target":   {func(s *netmap.Snapshot) { s.Services[0].Target = "" }, pacsGone, "no target"},
		"service without AE title": {func(s *netmap.Snapshot) { s.Services[0].AETitle = "" }, pacsGone, "no AE title"},
		"service of odd protocol":  {func(s *netmap.Snapshot) { s.Services[0].Protocol = "fhir" }, pacsGone, `protocol is "fhir"`},
		"service of odd mode":      {func(s *netmap.Snapshot) { s.Services[0].Mode = "" }, pacsGone, "mode"},
		"service of no site":       {func(s *netmap.Snapshot) { s.Services[0].Site = "s9" }, pacsGone, "its service is missing or broken"},
		"younger service, same port": {
			func(s *netmap.Snapshot) { s.Services[2].Port = 11112 },
			[]string{"his", "pacs"},
			"port 11112 of its site belongs to pacs",
		},
		"younger service, same name": {func(s *netmap.Snapshot) { s.Services[2].Name = "pacs" }, []string{"his", "pacs"}, "same name"},
		"grant of nothing":           {func(s *netmap.Snapshot) { s.Grants[0].Service = "v9" }, pacsGone, "its service is missing"},
		"grant to nobody":            {func(s *netmap.Snapshot) { s.Grants[0].Site = "s9" }, pacsGone, "its site is missing"},
		"grant to itself":            {func(s *netmap.Snapshot) { s.Grants[0].Site = "s1" }, pacsGone, ""},
		"grant without port":         {func(s *netmap.Snapshot) { s.Grants[0].LANPort = 0 }, pacsGone, "no port"},
		"grant twice": {
			func(s *netmap.Snapshot) { s.Grants = append(s.Grants, s.Grants[0]) },
			[]string{"his", "pacs"},
			"it is there twice",
		},
		"site of odd kind": {func(s *netmap.Snapshot) { s.Sites[3].Kind = "hospital" }, []string{"his", "pacs"}, `kind is "hospital"`},
		"range with host bits": {
			func(s *netmap.Snapshot) { s.Ranges[6].Prefix = netip.MustParsePrefix("fd00:1::1/64") },
			[]string{"his", "pacs"},
			"is not a prefix",
		},
	} {
		s := sample()
		tc.breakIt(&s)
		var got []string
		for _, u := range append(compile(t, s, "n1").Uses, compile(t, s, "n2").Uses...) {
			got = append(got, u.Service)
		}
		if !slices.Equal(got, tc.left) {
			t.Errorf("%s: the services in the maps are %v, want %v", name, got, tc.left)
		}
		if o := fmt.Sprint(netmap.NewIndex(s).Omissions()); !strings.Contains(o, tc.says) {
			t.Errorf("%s: %s does not say %q", name, o, tc.says)
		}
	}
}

func TestTwoClinicsNeverMeet(t *testing.T) {
	s := sample()
	s.Grants = append(s.Grants, provisioning.Grant{Service: "v2", Site: "s3", LANPort: 2575, Created: issued})
	for id, other := range map[provisioning.NodeID]string{"n2": "Site:sued", "n3": "Site:nord"} {
		m := compile(t, s, id)
		if text := fmt.Sprintf("%+v", m); strings.Contains(text, other) {
			t.Errorf("the map of %s names %s: %s", id, other, text)
		}
	}
	if o := fmt.Sprint(netmap.NewIndex(s).Omissions()); !strings.Contains(o, "grant of his to sued") || !strings.Contains(o, "two clinics never meet") {
		t.Errorf("it is not named: %s", o)
	}
}

func TestOlderGrantKeepsItsDoor(t *testing.T) {
	s := sample()
	s.Services[2].Site, s.Services[2].Port, s.Services[2].Protocol = "s4", 4000, wire.DICOM
	s.Services[2].AETitle = "pacs"
	s.Nodes[3].Address = addr("10.201.4.1")
	s.Ranges[6].Prefix = netip.MustParsePrefix("10.201.4.0/28")
	s.Grants = append(s.Grants, provisioning.Grant{Service: "v3", Site: "s2", LANPort: 11112, Created: issued})
	slices.Reverse(s.Grants)
	m := compile(t, s, "n2")
	if len(m.Uses) != 1 || m.Uses[0].Service != "pacs" || len(m.Peers) != 1 {
		t.Errorf("the clinic has %+v", m.Uses)
	}
	if o := fmt.Sprint(netmap.NewIndex(s).Omissions()); !strings.Contains(o, "grant of unused to nord") {
		t.Errorf("it is not named: %s", o)
	}
}

func TestDoorsCollide(t *testing.T) {
	d := func(port uint16, ae string) netmap.Door {
		return netmap.Door{Port: port, Protocol: wire.DICOM, AETitle: ae}
	}
	h := func(port uint16, r string) netmap.Door {
		return netmap.Door{Port: port, Protocol: wire.HL7, Receiver: r}
	}
	for _, tc := range []struct {
		a, b netmap.Door
		want bool
	}{
		{d(104, "A"), d(104, "B"), false},
		{d(104, "A"), d(105, "A"), false},
		{d(104, "PACS"), d(104, "pacs "), true},
		{d(104, "A"), h(104, "A"), true},
		{h(2575, "A"), h(2575, "B"), false},
		{h(2575, ""), h(2575, "B"), true},
		{h(2575, ""), h(2576, ""), false},
		{h(2575, "A^X"), h(2575, "A^Y"), false},
		{h(2575, "A^X"), h(2575, "a^x"), true},
		{h(2575, "A"), h(2575, "A^Y"), true},
	} {
		if tc.a.Collides(tc.b) != tc.want || tc.b.Collides(tc.a) != tc.want {
			t.Errorf("%+v and %+v: want %v both ways", tc.a, tc.b, tc.want)
		}
	}
}

func TestHashIsOfTheContent(t *testing.T) {
	s := sample()
	a, err := netmap.Hash(compile(t, s, "n2"))
	if err != nil {
		t.Fatal(err)
	}
	s.Generation, s.Now, s.Expires = 8, s.Now.Add(time.Hour), s.Expires.Add(time.Hour)
	if b, _ := netmap.Hash(compile(t, s, "n2")); a != b {
		t.Error("time and generation change the hash")
	}
	s.Sites[0].Endpoint = "198.51.100.2:51820"
	if b, _ := netmap.Hash(compile(t, s, "n2")); a == b {
		t.Error("an endpoint does not change the hash")
	}
}
