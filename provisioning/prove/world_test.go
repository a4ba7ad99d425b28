package prove_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var (
	issued = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	stamp  = prove.Stamp{Tool: "towpath test", At: issued, Generation: 7}
)

type fataler interface{ Fatal(args ...any) }

// compiled makes the whole input of a network.
func compiled(t fataler, s netmap.Snapshot) prove.Input {
	x := netmap.NewIndex(s)
	in := prove.Export(s, x.Nodes())
	for _, n := range s.Nodes {
		if n.State != provisioning.NodeActive {
			continue
		}
		m, err := x.Compile(n.ID, issued, issued.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		in.Maps = append(in.Maps, m)
	}
	return in
}

func keyOf(i int) wgkey.PublicKey {
	var k wgkey.PublicKey
	binary.BigEndian.PutUint32(k[:], uint32(i)+1)
	return k
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// emptyNetwork has a hub and pools, one of them in another.
func emptyNetwork() netmap.Snapshot {
	return netmap.Snapshot{
		Network: "net", Generation: 7, Now: issued, Expires: issued.Add(time.Hour),
		Hub: wire.Hub{PublicKey: wgkey.PublicKey{255}, Endpoints: []string{"hub:1"}, Address: netip.MustParseAddr("10.0.0.1"), ControlPort: 8080},
		Ranges: []provisioning.Range{
			{ID: 1, Kind: provisioning.RangePool, Prefix: prefix("10.0.0.0/9")},
			{ID: 2, Kind: provisioning.RangePool, Prefix: prefix("10.200.0.0/16")},
			{ID: 3, Kind: provisioning.RangeAllocation, Prefix: prefix("10.0.0.0/28"), Owner: "hub"},
			{ID: 4, Kind: provisioning.RangeReserved, Prefix: prefix("10.99.0.0/16"), Note: "spare"},
			{ID: 5, Kind: provisioning.RangeForeign, Prefix: prefix("192.168.0.0/16"), Note: "the hospital's"},
			{ID: 6, Kind: provisioning.RangeLAN, Prefix: prefix("192.168.178.0/24"), Owner: "site1"},
			{ID: 7, Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeMapped, Maps: prefix("192.168.178.0/28"), Prefix: prefix("10.98.0.0/28"), Until: issued},
			{ID: 8, Kind: provisioning.RangePool, Prefix: prefix("10.64.0.0/12"), Label: "south"},
			{ID: 9, Kind: provisioning.RangeReported, Purpose: provisioning.PurposeLAN, Prefix: prefix("192.168.178.0/24"), Owner: "site0"},
			{ID: 10, Kind: provisioning.RangeReported, Purpose: provisioning.PurposeContainer, Prefix: prefix("192.168.178.0/24"), Owner: "site0"},
		},
	}
}

// allot gives a site a further range.
func allot(s *netmap.Snapshot, i int, purpose provisioning.RangePurpose, q netip.Prefix) *provisioning.Range {
	s.Ranges = append(s.Ranges, provisioning.Range{
		ID: int64(1000 + len(s.Ranges)), Kind: provisioning.RangeAllocation, Purpose: purpose, Owner: fmt.Sprintf("site%d", i), Prefix: q,
		Label: fmt.Sprintf("further %d", len(s.Ranges)),
	})
	return &s.Ranges[len(s.Ranges)-1]
}

// mapLAN maps half of 192.168.178.0/24, the lower or the upper, where the services' targets are.
func mapLAN(s *netmap.Snapshot, i, half int) *provisioning.Range {
	at := uint32(half) << 7
	r := allot(s, i, provisioning.PurposeMapped, netip.PrefixFrom(v4(10<<24|70<<16|uint32(i)<<8|at), 25))
	r.Maps = netip.PrefixFrom(v4(192<<24|168<<16|178<<8|at), 25)
	return r
}

// renumber gives the nodes of a site second addresses.
func renumber(s *netmap.Snapshot, i int) {
	base := uint32(10<<24 | 72<<16 | i<<4)
	allot(s, i, provisioning.PurposeOverlay, netip.PrefixFrom(v4(base), 28)).Until = issued.Add(time.Hour)
	for n := range s.Nodes {
		if s.Nodes[n].Site == provisioning.SiteID(fmt.Sprintf("site%d", i)) {
			base++
			s.Nodes[n].Former = v4(base)
		}
	}
}

// fixAddresses gives some services of a site addresses of their own.
func fixAddresses(s *netmap.Snapshot, i int, which func(v int) bool) {
	base := uint32(10<<24 | 71<<16 | i<<4)
	allot(s, i, provisioning.PurposeServices, netip.PrefixFrom(v4(base), 28))
	for v := range s.Services {
		if s.Services[v].Site == provisioning.SiteID(fmt.Sprintf("site%d", i)) && which(v) {
			base++
			s.Services[v].Address = v4(base)
		}
	}
}

// addSite gives a site the /28 of its number and so many nodes.
func addSite(s *netmap.Snapshot, i int, kind wire.SiteKind, nodes int) {
	id := provisioning.SiteID(fmt.Sprintf("site%d", i))
	v := provisioning.Site{ID: id, Name: fmt.Sprintf("name%d", i), Kind: kind}
	if kind == wire.Center {
		v.Endpoint = fmt.Sprintf("198.51.100.1:%d", 1000+i%60000)
	}
	s.Sites = append(s.Sites, v)
	base := uint32(10<<24 | (i+1)<<4)
	s.Ranges = append(s.Ranges, provisioning.Range{
		ID: int64(100 + i), Kind: provisioning.RangeAllocation, Owner: string(id), Prefix: netip.PrefixFrom(v4(base), 28),
	})
	for n := range nodes {
		s.Nodes = append(s.Nodes, provisioning.Node{
			ID: provisioning.NodeID(fmt.Sprintf("node%d-%d", i, n)), Site: id, Kind: wire.Gateway,
			PublicKey: keyOf(i*16 + n), Address: v4(base + 1 + uint32(n)),
		})
	}
}

// dialIn gives a site a range for single computers and so many nodes of a kind in it, the first at a number.
func dialIn(s *netmap.Snapshot, i, first int, kind wire.NodeKind, nodes int) {
	base := uint32(10<<24 | 74<<16 | i<<4)
	q := netip.PrefixFrom(v4(base), 28)
	if !slices.ContainsFunc(s.Ranges, func(r provisioning.Range) bool { return r.Prefix == q }) {
		allot(s, i, provisioning.PurposeWorkstation, q)
	}
	for n := first; n < first+nodes; n++ {
		s.Nodes = append(s.Nodes, provisioning.Node{
			ID: provisioning.NodeID(fmt.Sprintf("%s%d-%d", kind, i, n)), Site: provisioning.SiteID(fmt.Sprintf("site%d", i)), Kind: kind,
			PublicKey: keyOf(10_000 + i*16 + n), Address: v4(base + 1 + uint32(n)),
		})
	}
}

// members draws nodes that are no gateways, changes of keys in flight, and nodes that wait or are quarantined.
func members(t *rapid.T, s *netmap.Snapshot) {
	for i := range s.Sites {
		first := 0
		for _, kind := range []wire.NodeKind{wire.Workstation, wire.Unmanaged, wire.Relay} {
			nodes := max(0, rapid.IntRange(-2, 2).Draw(t, "members"))
			dialIn(s, i, first, kind, nodes)
			first += nodes
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Kind != wire.Unmanaged {
			rotate(n, rapid.SampledFrom([]wire.RotateStep{"", "", "", wire.RotateMake, wire.RotateWait, wire.RotateTurn}).Draw(t, "rotate"))
		}
		// The first nodes of the center and of two clinics stay, see genSnapshot.
		if !strings.HasSuffix(string(n.ID), "-0") || n.Kind != wire.Gateway {
			n.State = rapid.SampledFrom([]provisioning.NodeState{"", "", "", provisioning.NodeWaiting, provisioning.NodeQuarantined}).Draw(t, "state")
		}
		if n.Kind == wire.Gateway {
			n.Rank = rapid.IntRange(0, 2).Draw(t, "rank")
			n.Endpoint = rapid.SampledFrom([]string{"", "", "a.example.net:51820"}).Draw(t, "endpoint")
		}
		n.Member = rapid.SampledFrom([]*wire.SignedMember{nil, {Payload: []byte(n.ID)}}).Draw(t, "signed")
	}
}

// rotate takes a node to a step.
func rotate(n *provisioning.Node, step wire.RotateStep) {
	if n.Rotate, n.NextKey = step, (wgkey.PublicKey{}); step == wire.RotateWait || step == wire.RotateTurn {
		n.NextKey = n.PublicKey
		n.NextKey[16] = 1
	}
}

func v4(u uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], u)
	return netip.AddrFrom4(a)
}

func service(i, site int, protocol wire.Protocol) provisioning.Service {
	v := provisioning.Service{
		ID: provisioning.ServiceID(fmt.Sprintf("svc%d", i)), Name: fmt.Sprintf("offer%d", i), Site: provisioning.SiteID(fmt.Sprintf("site%d", site)),
		Protocol: protocol, Mode: wire.Queued, Target: fmt.Sprintf("192.168.178.%d:104", 10+i%200), Port: uint16(11000 + i%50000),
	}
	if protocol == wire.DICOM {
		v.AETitle = fmt.Sprintf("AE%d", i)
	} else {
		v.Receiver = fmt.Sprintf("HIS%d", i)
	}
	return v
}

// genSnapshot draws sound networks: a center with at least one node, one clinic that uses a service of it, and any number of others.
func genSnapshot() *rapid.Generator[netmap.Snapshot] {
	return rapid.Custom(func(t *rapid.T) netmap.Snapshot {
		s := emptyNetwork()
		addSite(&s, 0, wire.Center, rapid.IntRange(1, 2).Draw(t, "nodes of the center"))
		sites := rapid.IntRange(3, 7).Draw(t, "sites")
		for i := 1; i < sites; i++ {
			kind, least := wire.Clinic, 0
			if i <= 2 {
				least = 1
			} else if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				kind = wire.Center
			}
			addSite(&s, i, kind, rapid.IntRange(least, 2).Draw(t, "nodes"))
		}
		services := rapid.IntRange(1, 6).Draw(t, "services")
		for i := range services {
			site := 0
			if i > 0 {
				site = rapid.IntRange(0, sites-1).Draw(t, "owner")
			}
			s.Services = append(s.Services, service(i, site, rapid.SampledFrom([]wire.Protocol{wire.DICOM, wire.HL7}).Draw(t, "protocol")))
		}
		granted := map[[2]int]bool{}
		own := rapid.Bool().Draw(t, "own services are granted")
		grant := func(v, site int) {
			owner := s.Services[v].Site
			user := s.Sites[site]
			clinics := user.Kind == wire.Clinic
			for _, o := range s.Sites {
				if o.ID == owner && o.Kind == wire.Center {
					clinics = false
				}
			}
			if owner == user.ID {
				clinics = !own
			}
			if clinics || granted[[2]int{v, site}] {
				return
			}
			granted[[2]int{v, site}] = true
			// Two protocols never share a port on the LAN.
			port := uint16(104)
			if s.Services[v].Protocol == wire.HL7 {
				port = 2575
			}
			s.Grants = append(s.Grants, provisioning.Grant{Service: s.Services[v].ID, Site: user.ID, LANPort: port, Created: issued})
		}
		if rapid.Bool().Draw(t, "with members") {
			members(t, &s)
		}
		if rapid.IntRange(0, 2).Draw(t, "further") > 0 {
			further(t, &s)
		}
		grant(0, 1)
		for range rapid.IntRange(0, 10).Draw(t, "grants") {
			grant(rapid.IntRange(0, services-1).Draw(t, "service"), rapid.IntRange(0, sites-1).Draw(t, "user"))
		}
		return s
	})
}

// further draws all that a site can have besides one range and its nodes' addresses.
func further(t *rapid.T, s *netmap.Snapshot) {
	for i := range s.Sites {
		for half := range 2 {
			if rapid.Bool().Draw(t, "mapped") {
				mapLAN(s, i, half)
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "renumbered") == 0 {
			renumber(s, i)
		}
		if rapid.Bool().Draw(t, "fixed") {
			fixAddresses(s, i, func(int) bool { return rapid.Bool().Draw(t, "this") })
		}
	}
	// The mapping of a LAN that ends stands beside that which takes its place.
	if rapid.Bool().Draw(t, "two mappings") {
		r := allot(s, 0, provisioning.PurposeMapped, prefix("10.73.0.0/24"))
		r.Maps, r.Until = prefix("192.168.178.0/24"), issued.Add(time.Hour)
	}
	for i := range s.Services {
		if i > 0 && rapid.IntRange(0, 3).Draw(t, "one machine") == 0 {
			s.Services[i].Target = s.Services[i-1].Target
		}
		s.Services[i].Created = issued.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "age")) * time.Hour)
	}
}

// cloned copies an input through its JSON form, which is thereby shown to lose nothing.
func cloned(t fataler, in prove.Input) prove.Input {
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out prove.Input
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// large is a center with one PACS used by n clinics, each of which takes reports back.
func large(tb testing.TB, n int) netmap.Snapshot {
	tb.Helper()
	s := emptyNetwork()
	addSite(&s, 0, wire.Center, 1)
	s.Services = append(s.Services, service(0, 0, wire.DICOM))
	for i := 1; i <= n; i++ {
		addSite(&s, i, wire.Clinic, 1)
		s.Grants = append(s.Grants, provisioning.Grant{Service: "svc0", Site: provisioning.SiteID(fmt.Sprintf("site%d", i)), LANPort: 104, Created: issued})
		s.Services = append(s.Services, service(i, i, wire.HL7))
		s.Grants = append(s.Grants, provisioning.Grant{Service: provisioning.ServiceID(fmt.Sprintf("svc%d", i)), Site: "site0", LANPort: 2575, Created: issued})
	}
	return s
}
