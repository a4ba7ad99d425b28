package netmap_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// mapped is sample with the same LAN at both clinics, each mapped, a device at one address there that the center may reach, and the
// center's PACS at an address of its own.
func mapped() netmap.Snapshot {
	s := sample()
	extra := func(id int64, p string, owner string, purpose provisioning.RangePurpose) provisioning.Range {
		return provisioning.Range{ID: id, Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix(p), Owner: owner, Purpose: purpose}
	}
	nord, sued := extra(20, "10.201.22.0/24", "s2", provisioning.PurposeMapped), extra(21, "10.201.23.0/24", "s3", provisioning.PurposeMapped)
	nord.Maps, sued.Maps = netip.MustParsePrefix("192.168.178.0/24"), netip.MustParsePrefix("192.168.178.0/24")
	s.Ranges = append(s.Ranges, nord, sued, extra(22, "10.201.40.0/28", "s1", provisioning.PurposeServices))
	s.Services[0].Address = addr("10.201.40.1")
	device := func(id, site string) provisioning.Service {
		return provisioning.Service{
			ID: provisioning.ServiceID(id), Site: provisioning.SiteID(site), Name: "ct-" + site, Protocol: wire.DICOM, AETitle: "CT", Mode: wire.PassThrough,
			Target: "192.168.178.20:104", Port: 11200, Created: issued,
		}
	}
	s.Services = append(s.Services, device("v4", "s2"), device("v5", "s3"))
	s.Grants = append(s.Grants,
		provisioning.Grant{Service: "v4", Site: "s1", LANPort: 10402, Created: issued},
		provisioning.Grant{Service: "v5", Site: "s1", LANPort: 10403, Created: issued})
	return s
}

func useOf(t *testing.T, m wire.NetMap, service string) netip.AddrPort {
	t.Helper()
	i := slices.IndexFunc(m.Uses, func(u wire.Use) bool { return u.Service == service })
	if i < 0 {
		t.Fatalf("%s does not use %s", m.Self.Node, service)
	}
	return m.Uses[i].Address
}

func offerOf(t *testing.T, m wire.NetMap, service string) wire.Offer {
	t.Helper()
	i := slices.IndexFunc(m.Offers, func(o wire.Offer) bool { return o.Service == service })
	if i < 0 {
		t.Fatalf("%s does not offer %s", m.Self.Node, service)
	}
	return m.Offers[i]
}

func allowed(t *testing.T, m wire.NetMap, node string) string {
	t.Helper()
	i := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Node == node })
	if i < 0 {
		t.Fatalf("%s has no peer %s", m.Self.Node, node)
	}
	return fmt.Sprint(m.Peers[i].AllowedIPs)
}

func TestPlacesOfServices(t *testing.T) {
	s := mapped()
	lab, nord, sued := compile(t, s, "n1"), compile(t, s, "n2"), compile(t, s, "n3")
	for _, c := range []struct{ what, got, want string }{
		{"the device of nord", useOf(t, lab, "ct-s2").String(), "10.201.22.20:104"},
		{"the device of sued", useOf(t, lab, "ct-s3").String(), "10.201.23.20:104"},
		{"the HIS of nord, which is mapped too", useOf(t, lab, "his").String(), "10.201.22.9:2575"},
		{"the PACS with an address of its own", useOf(t, nord, "pacs").String(), "10.201.40.1:11112"},
		{"nord at lab", allowed(t, lab, "n2"), "[10.201.2.1/32 10.201.22.0/24]"},
		{"sued at lab", allowed(t, lab, "n3"), "[10.201.3.1/32 10.201.23.0/24]"},
		{"lab at nord", allowed(t, nord, "n1"), "[10.201.1.1/32 10.201.40.1/32]"},
		{"lab at sued", allowed(t, sued, "n1"), "[10.201.1.1/32 10.201.40.1/32]"},
		{"where nord has the device", fmt.Sprint(offerOf(t, nord, "ct-s2").Also), "[10.201.22.20:104]"},
		{"where sued has the device", fmt.Sprint(offerOf(t, sued, "ct-s3").Also), "[10.201.23.20:104]"},
		{"where lab has the PACS", fmt.Sprint(offerOf(t, lab, "pacs").Also), "[10.201.40.1:11112]"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.what, c.got, c.want)
		}
	}
	x := netmap.NewIndex(s)
	for id, want := range map[provisioning.ServiceID]string{
		"v1": "10.201.40.1:11112", "v3": "10.201.1.1:2575", "v4": "10.201.22.20:104", "v9": "invalid AddrPort",
	} {
		if got := x.At(id).String(); got != want {
			t.Errorf("service %s is at %s, want %s", id, got, want)
		}
	}
	if o := x.Omissions(); len(o) != 0 {
		t.Errorf("left out: %v", o)
	}
}

// A site that only offers something to another learns none of the other's further addresses.
func TestOnlyUsersLearnOfPlaces(t *testing.T) {
	s := mapped()
	s.Grants = s.Grants[2:] // nord and sued use nothing any more
	if got := allowed(t, compile(t, s, "n2"), "n1"); got != "[10.201.1.1/32]" {
		t.Errorf("a clinic that uses nothing of the center is told %s", got)
	}
	s = mapped()
	s.Grants = s.Grants[:2] // lab uses nothing any more
	if got := allowed(t, compile(t, s, "n1"), "n3"); got != "[10.201.3.1/32]" {
		t.Errorf("a center that uses nothing of the clinic is told %s", got)
	}
}

func TestPlacesThatAreLeftOut(t *testing.T) {
	const box = "10.201.2.1:11200"
	for name, tc := range map[string]struct {
		change func(*netmap.Snapshot)
		at     string // of nord's device, for the center
		omits  string // part of an omission; empty for none
	}{
		"a name as target":                {func(s *netmap.Snapshot) { s.Services[3].Target = "ct.praxis.lan:104" }, box, ""},
		"a machine outside of the LAN":    {func(s *netmap.Snapshot) { s.Services[3].Target = "192.168.179.20:104" }, box, ""},
		"the place of an older service":   {func(s *netmap.Snapshot) { s.Services[1].Target = "192.168.178.20:104" }, box, ""},
		"a quarantined mapping":           {func(s *netmap.Snapshot) { s.Ranges[7].Until, s.Ranges[7].Owner = issued, "" }, box, ""},
		"a mapping that ends":             {func(s *netmap.Snapshot) { s.Ranges[7].Until = expires }, "10.201.22.20:104", ""},
		"another length":                  {func(s *netmap.Snapshot) { s.Ranges[7].Maps = netip.MustParsePrefix("192.168.178.0/25") }, box, "mapping of 192.168.178.0/25"},
		"in no pool":                      {func(s *netmap.Snapshot) { s.Ranges[7].Prefix = netip.MustParsePrefix("10.77.0.0/24") }, box, "it is in no pool"},
		"of nobody":                       {func(s *netmap.Snapshot) { s.Ranges[7].Owner = "s9" }, box, "its site is missing"},
		"the address of a node in it":     {func(s *netmap.Snapshot) { s.Nodes[1].Address = addr("10.201.22.77") }, "10.201.22.77:11200", "the address of a node"},
		"within another allocation":       {func(s *netmap.Snapshot) { s.Ranges[7].Prefix = netip.MustParsePrefix("10.201.23.0/24") }, box, "overlaps another allocation"},
		"a place that is a service's own": {func(s *netmap.Snapshot) { s.Services[1].Address = addr("10.201.22.20") }, box, "10.201.22.20 is that of service his"},
		"an address of its own": {func(s *netmap.Snapshot) {
			s.Services[3].Address = addr("10.201.2.5")
		}, "10.201.2.5:11200", ""},
		"another site's address": {func(s *netmap.Snapshot) { s.Services[3].Address = addr("10.201.3.5") }, "10.201.22.20:104", "10.201.3.5: it is in no allocation"},
		"a node's address":       {func(s *netmap.Snapshot) { s.Services[3].Address = addr("10.201.2.1") }, "10.201.22.20:104", "it is that of node n2"},
		"a node's former address": {func(s *netmap.Snapshot) {
			s.Nodes[1].Former, s.Services[3].Address = addr("10.201.2.9"), addr("10.201.2.9")
		}, "10.201.22.20:104", "it is that of node n2"},
		"an older service's address": {func(s *netmap.Snapshot) {
			s.Services[1].Address, s.Services[3].Address = addr("10.201.2.5"), addr("10.201.2.5")
		}, "10.201.22.20:104", "it is that of service his"},
		"of the other family": {func(s *netmap.Snapshot) {
			s.Ranges = append(s.Ranges, provisioning.Range{
				ID: 30, Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix("fd00:1:0:7::/64"), Owner: "s2",
			})
			s.Services[3].Address = addr("fd00:1:0:7::5")
		}, "10.201.22.20:104", ""},
	} {
		s := mapped()
		tc.change(&s)
		lab := compile(t, s, "n1")
		if got := useOf(t, lab, "ct-s2").String(); got != tc.at {
			t.Errorf("%s: the center finds it at %s, want %s", name, got, tc.at)
		}
		if got := useOf(t, lab, "ct-s3").String(); got != "10.201.23.20:104" && name != "within another allocation" {
			t.Errorf("%s: the other clinic's is at %s", name, got)
		}
		omits := fmt.Sprint(netmap.NewIndex(s).Omissions())
		if tc.omits == "" && omits != "[]" || !strings.Contains(omits, tc.omits) {
			t.Errorf("%s: left out: %s, want %q", name, omits, tc.omits)
		}
	}
}

// With two mappings of one LAN, the one that stays is for users and both answer.
func TestMappingThatEndsAnswersOn(t *testing.T) {
	s := mapped()
	s.Ranges[7].Until = expires
	again := s.Ranges[7]
	again.ID, again.Prefix, again.Until = 31, netip.MustParsePrefix("10.201.99.0/24"), time.Time{}
	s.Ranges = append(s.Ranges, again)
	if got := useOf(t, compile(t, s, "n1"), "ct-s2").String(); got != "10.201.99.20:104" {
		t.Errorf("the center finds it at %s", got)
	}
	if got := fmt.Sprint(offerOf(t, compile(t, s, "n2"), "ct-s2").Also); got != "[10.201.99.20:104 10.201.22.20:104]" {
		t.Errorf("the clinic has it at %s", got)
	}
}

// Only the first gateway of a site is where further addresses lead; the other has the services at its own.
func TestFurtherAddressesLeadToOneNode(t *testing.T) {
	s := mapped()
	spare := s.Nodes[1]
	spare.ID, spare.PublicKey, spare.Address = "n5", key(5), addr("10.201.2.2")
	s.Nodes = append([]provisioning.Node{spare}, s.Nodes...)
	lab := compile(t, s, "n1")
	if a, b := allowed(t, lab, "n2"), allowed(t, lab, "n5"); a != "[10.201.2.1/32 10.201.22.0/24]" || b != "[10.201.2.2/32]" {
		t.Errorf("the first has %s, the other %s", a, b)
	}
	if o := offerOf(t, compile(t, s, "n5"), "ct-s2"); o.Also != nil || o.Port != 11200 {
		t.Errorf("the other offers %+v", o)
	}
	// A computer that dials in is not where a site's services are, whatever its address.
	s.Nodes[2].Kind = "workstation"
	lab = compile(t, s, "n1")
	if a, b := allowed(t, lab, "n2"), allowed(t, lab, "n5"); a != "[10.201.2.1/32]" || b != "[10.201.2.2/32 10.201.22.0/24]" {
		t.Errorf("the workstation has %s, the gateway %s", a, b)
	}
}

// renumbered is mapped with nord on its way from 10.201.2.0/28 to 10.201.50.0/28.
func renumbered() netmap.Snapshot {
	s := mapped()
	s.Ranges[4].Until = expires
	s.Ranges = append(s.Ranges, provisioning.Range{
		ID: 33, Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix("10.201.50.0/28"), Owner: "s2", Purpose: provisioning.PurposeOverlay,
	})
	s.Nodes[1].Address, s.Nodes[1].Former = addr("10.201.50.1"), addr("10.201.2.1")
	s.Services = append(s.Services, provisioning.Service{
		ID: "v6", Site: "s2", Name: "plain", Protocol: wire.HL7, Mode: wire.Queued, Target: "his:2575", Port: 2600, Created: issued,
	})
	s.Grants = append(s.Grants, provisioning.Grant{Service: "v6", Site: "s1", LANPort: 2600, Created: issued})
	return s
}

func TestFormerAddress(t *testing.T) {
	s := renumbered()
	lab, nord := compile(t, s, "n1"), compile(t, s, "n2")
	if nord.Self.Address != addr("10.201.50.1") || nord.Self.Former != addr("10.201.2.1") {
		t.Errorf("nord is at %s and %s", nord.Self.Address, nord.Self.Former)
	}
	if got := allowed(t, lab, "n2"); got != "[10.201.50.1/32 10.201.2.1/32 10.201.22.0/24]" {
		t.Errorf("nord at lab: %s", got)
	}
	if got := useOf(t, lab, "plain"); got != at("10.201.50.1:2600") {
		t.Errorf("a service without another place is at %s", got)
	}
	want := []wire.Source{
		{Site: "nord", Prefix: host("10.201.2.1")}, {Site: "nord", Prefix: host("10.201.50.1")}, {Site: "sued", Prefix: host("10.201.3.1")},
	}
	if d := cmp.Diff(want, offerOf(t, lab, "pacs").From, equateNet); d != "" {
		t.Errorf("who may use the PACS: -want +got:\n%s", d)
	}
	if sued := compile(t, s, "n3"); sued.Self.Former.IsValid() || cmp.Diff(compile(t, mapped(), "n3"), sued, equateNet) != "" {
		t.Error("the other clinic's map changed")
	}
	if o := netmap.NewIndex(s).Omissions(); len(o) != 0 {
		t.Errorf("left out: %v", o)
	}
}

func TestFormerAddressThatIsNotItsOwn(t *testing.T) {
	for name, change := range map[string]func(*netmap.Snapshot){
		"in no allocation":  func(s *netmap.Snapshot) { s.Nodes[1].Former = addr("10.201.77.1") },
		"another site's":    func(s *netmap.Snapshot) { s.Nodes[1].Former = addr("10.201.3.9") },
		"another node's":    func(s *netmap.Snapshot) { s.Nodes[1].Former = addr("10.201.3.1") },
		"its own":           func(s *netmap.Snapshot) { s.Nodes[1].Former = s.Nodes[1].Address },
		"the hub's":         func(s *netmap.Snapshot) { s.Nodes[1].Former = addr("10.201.0.1") },
		"mapped":            func(s *netmap.Snapshot) { s.Nodes[1].Former = addr("::ffff:10.201.2.1") },
		"another's former":  func(s *netmap.Snapshot) { s.Nodes[2].Former = s.Nodes[1].Former },
		"a quarantined one": func(s *netmap.Snapshot) { s.Ranges[4].Owner = "" },
		"in no pool": func(s *netmap.Snapshot) {
			s.Nodes[1].Former, s.Ranges[4].Prefix = addr("10.9.0.1"), netip.MustParsePrefix("10.9.0.0/28")
		},
		"the former of a newcomer": func(s *netmap.Snapshot) { s.Nodes[3].Address = addr("10.201.2.1"); s.Ranges[4].Owner = "s4" },
	} {
		s := renumbered()
		change(&s)
		nord := compile(t, s, "n2")
		if nord.Self.Former.IsValid() || nord.Self.Address != addr("10.201.50.1") {
			t.Errorf("%s: nord is at %s and %s", name, nord.Self.Address, nord.Self.Former)
		}
		if got := allowed(t, compile(t, s, "n1"), "n2"); got != "[10.201.50.1/32 10.201.22.0/24]" {
			t.Errorf("%s: nord at lab: %s", name, got)
		}
		x := netmap.NewIndex(s)
		if !slices.ContainsFunc(x.Omissions(), func(o netmap.Omission) bool { return o.Object == "former address of node n2" }) {
			t.Errorf("%s: not named in %v", name, x.Omissions())
		}
	}
}
