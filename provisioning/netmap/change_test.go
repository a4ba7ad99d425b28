package netmap_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// soundNetwork has centers and clinics, a gateway and some services each, and no grants.
func soundNetwork(t *rapid.T) netmap.Snapshot {
	s := netmap.Snapshot{
		Network: "net", Generation: 3, Now: issued, Expires: expires,
		Hub:      wire.Hub{PublicKey: wgkey.PublicKey{255}, Endpoints: []string{"hub:1"}, Address: addr("10.0.0.1"), ControlPort: 8080},
		HubRelay: rapid.Bool().Draw(t, "hub relay"),
		Ranges:   []provisioning.Range{{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.0.0.0/16")}},
	}
	for i := range rapid.IntRange(2, 6).Draw(t, "sites") {
		id := provisioning.SiteID(fmt.Sprintf("site%d", i))
		kind := wire.Clinic
		if i < 2 {
			kind = wire.Center
		}
		s.Sites = append(s.Sites, provisioning.Site{ID: id, Name: fmt.Sprintf("name%d", i), Kind: kind})
		s.Ranges = append(s.Ranges, provisioning.Range{
			ID: int64(10 + i), Kind: provisioning.RangeAllocation, Owner: string(id), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 0}), 28),
		})
		s.Nodes = append(s.Nodes, provisioning.Node{
			ID: provisioning.NodeID(fmt.Sprintf("node%d", i)), Site: id, Kind: wire.Gateway, PublicKey: wgkey.PublicKey{byte(i + 1)},
			Address: netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 1}),
		})
		if rapid.IntRange(0, 3).Draw(t, "a relay") == 0 {
			s.Nodes[i].Kind, s.Sites[i].Endpoint = wire.Relay, "a:1"
		}
		for j := range rapid.IntRange(0, 2).Draw(t, "services") {
			s.Services = append(s.Services, provisioning.Service{
				ID: provisioning.ServiceID(fmt.Sprintf("service%d.%d", i, j)), Site: id, Name: fmt.Sprintf("offer%d.%d", i, j), Protocol: wire.DICOM,
				AETitle: fmt.Sprintf("AE%d.%d", i, j), Mode: wire.Queued, Target: "t:1", Port: uint16(100 + j),
			})
		}
	}
	return s
}

func newChange(gen uint64) netmap.Change {
	return netmap.Change{
		Generation: gen, Sites: map[provisioning.SiteID]*provisioning.Site{}, Nodes: map[provisioning.NodeID]*provisioning.Node{},
		Services: map[provisioning.ServiceID]*provisioning.Service{}, Grants: map[netmap.GrantID]*provisioning.Grant{}, Ranges: map[int64]*provisioning.Range{},
	}
}

// plausible draws what an operator or a box may do to a site, and puts it into c. Most of it is sound; what is not says so by itself.
func plausible(t *rapid.T, c netmap.Change) {
	i := rapid.IntRange(0, 5).Draw(t, "which site")
	site, node := provisioning.SiteID(fmt.Sprintf("site%d", i)), provisioning.NodeID(fmt.Sprintf("node%d", i))
	service := provisioning.ServiceID(fmt.Sprintf("service%d.%d", i, rapid.IntRange(0, 1).Draw(t, "which service")))
	box := provisioning.Node{
		ID: node, Site: site, Kind: wire.Gateway, PublicKey: wgkey.PublicKey{byte(i + 1)}, Address: netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 1}),
	}
	lan := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 0}), 28)
	offer := provisioning.Service{
		ID: service, Site: site, Name: "of " + string(service), Protocol: wire.DICOM, AETitle: string(service), Mode: wire.Queued,
		Target: "192.168.178.2:104", Port: uint16(100 + service[len(service)-1]), Created: issued,
	}
	kind := []wire.SiteKind{wire.Center, wire.Center, wire.Clinic}[min(i, 2)]
	home := func() {
		endpoint := rapid.SampledFrom([]string{"", "a:1", "b:1"}).Draw(t, "endpoint")
		c.Sites[site] = &provisioning.Site{ID: site, Name: fmt.Sprintf("name%d", i), Kind: kind, Endpoint: endpoint}
		c.Ranges[int64(10+i)] = &provisioning.Range{ID: int64(10 + i), Kind: provisioning.RangeAllocation, Owner: string(site), Prefix: lan}
	}
	switch rapid.IntRange(0, 15).Draw(t, "what") {
	case 0:
		home()
	case 1, 2:
		c.Nodes[node] = &box
	case 3:
		box.PublicKey = wgkey.PublicKey{byte(i + 50)}
		c.Nodes[node] = &box
	case 4:
		box.Rotate, box.NextKey = wire.RotateWait, wgkey.PublicKey{byte(i + 50)}
		c.Nodes[node] = &box
	case 5:
		box.Former = netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 2})
		box.State = rapid.SampledFrom([]provisioning.NodeState{provisioning.NodeActive, provisioning.NodeQuarantined}).Draw(t, "state")
		c.Nodes[node] = &box
	case 6:
		second := box
		second.ID, second.PublicKey, second.Address = node+"b", wgkey.PublicKey{byte(i + 150)}, box.Address.Next().Next()
		second.Kind = rapid.SampledFrom([]wire.NodeKind{wire.Gateway, wire.Workstation, wire.Relay, wire.Unmanaged}).Draw(t, "kind")
		c.Nodes[second.ID] = &second
	case 7, 8:
		if rapid.Bool().Draw(t, "at its own address") {
			offer.Address = netip.AddrFrom4([4]byte{10, 0, byte(i + 1), service[len(service)-1] - '0' + 8})
		}
		offer.AETitle = rapid.SampledFrom([]string{string(service), "SAME"}).Draw(t, "title")
		c.Services[service] = &offer
	case 9, 10:
		user := provisioning.SiteID(fmt.Sprintf("site%d", rapid.IntRange(0, 5).Draw(t, "user")))
		c.Grants[netmap.GrantID{Service: service, Site: user}] = &provisioning.Grant{
			Service: service, Site: user, LANPort: uint16(rapid.IntRange(1, 3).Draw(t, "port")),
			Poll:    wire.PollOptions{Since: rapid.SampledFrom([]string{"", "2026-11-22"}).Draw(t, "since")},
			Created: issued.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Second),
		}
	case 11:
		c.Ranges[int64(30+i)] = &provisioning.Range{
			ID: int64(30 + i), Kind: provisioning.RangeAllocation, Owner: string(site), Purpose: provisioning.PurposeMapped,
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 128}), 28), Maps: netip.MustParsePrefix("192.168.178.0/28"),
			Until: rapid.SampledFrom([]time.Time{{}, issued}).Draw(t, "until"),
		}
	case 12:
		c.Ranges[int64(50+i)] = &provisioning.Range{
			ID: int64(50 + i), Kind: provisioning.RangeLAN, Owner: string(site), Prefix: netip.MustParsePrefix("192.168.178.0/24"),
		}
	case 13:
		c.Nodes[node], c.Services[service], c.Ranges[int64(30+i)] = nil, nil, nil
	case 14, 15:
		home()
		box.Kind, box.PublicKey[1] = wire.Relay, byte(rapid.IntRange(0, 1).Draw(t, "relay's key"))
		c.Nodes[node] = &box
	}
}

// wild takes rows of any other network, and takes away what was there.
func wild(t *rapid.T, c netmap.Change, s netmap.Snapshot) {
	o := genSnapshot().Draw(t, "another network")
	take := func() bool { return rapid.IntRange(0, 5).Draw(t, "take") == 0 }
	for _, v := range o.Sites {
		if take() {
			c.Sites[v.ID] = &v
		}
	}
	for _, v := range o.Nodes {
		if take() {
			c.Nodes[v.ID] = &v
		}
	}
	for _, v := range o.Services {
		if take() {
			c.Services[v.ID] = &v
		}
	}
	for _, v := range o.Ranges {
		if take() {
			c.Ranges[v.ID] = &v
		}
	}
	for _, v := range s.Sites {
		if take() {
			c.Sites[v.ID] = nil
		}
	}
	for _, v := range s.Nodes {
		if take() {
			c.Nodes[v.ID] = nil
		}
	}
}

// withdraw takes grants away, and whole sites.
func withdraw(t *rapid.T, c netmap.Change, s netmap.Snapshot) {
	gone := provisioning.SiteID("")
	if len(s.Sites) > 0 && rapid.IntRange(0, 3).Draw(t, "a site goes") == 0 {
		gone = rapid.SampledFrom(s.Sites).Draw(t, "gone").ID
		c.Sites[gone] = nil
	}
	of := map[provisioning.ServiceID]provisioning.SiteID{}
	for _, v := range s.Services {
		of[v.ID] = v.Site
		if v.Site == gone {
			c.Services[v.ID] = nil
		}
	}
	for _, g := range s.Grants {
		if g.Site == gone || of[g.Service] == gone || rapid.IntRange(0, 3).Draw(t, "withdrawn") == 0 {
			c.Grants[netmap.GrantID{Service: g.Service, Site: g.Site}] = nil
		}
	}
	for _, n := range s.Nodes {
		if n.Site == gone {
			c.Nodes[n.ID] = nil
		}
	}
	for _, r := range s.Ranges {
		if gone != "" && r.Owner == string(gone) {
			c.Ranges[r.ID] = nil
		}
	}
}

// TestAChangedIndexIsANewOne holds that an index after any changes is the one made of the network as it is then, that what no change breaks
// is followed and not made anew, and that the index before stays as it was.
func TestAChangedIndexIsANewOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := soundNetwork(t)
		x := netmap.NewIndex(s)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			c := newChange(s.Generation + 1)
			tame := true
			switch rapid.IntRange(0, 9).Draw(t, "sort of change") {
			case 0:
				wild(t, c, s)
				tame = false
			case 1, 2:
				withdraw(t, c, s)
			default:
				plausible(t, c)
			}
			for _, v := range s.Sites {
				now := c.Sites[v.ID]
				tame = tame && (now == nil || now.Kind == v.Kind)
			}
			before, sound := x.Dump(), x.Sound()
			s = s.With(c)
			want, got := netmap.NewIndex(s), x.Change(c)
			if tame && sound && want.Sound() && !x.Follow(c) {
				t.Fatalf("it does not follow %+v", c)
			}
			sameIndex(t, got, want)
			if g, w := rows(got.Snapshot()), rows(s); !reflect.DeepEqual(g, w) {
				t.Fatalf("it was made of\n%v\nand remembers\n%v", w, g)
			}
			if !reflect.DeepEqual(x.Dump(), before) {
				t.Fatal("the old index has changed")
			}
			x = got
		}
	})
}

func sameIndex(t rapid.TB, got, want *netmap.Index) {
	t.Helper()
	if g, w := got.Dump(), want.Dump(); !reflect.DeepEqual(g, w) {
		t.Fatalf("the index is\n%+v\nnot\n%+v", g, w)
	}
	sorted := func(o []netmap.Omission) []netmap.Omission {
		return slices.SortedFunc(slices.Values(o), func(a, b netmap.Omission) int {
			return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason))
		})
	}
	if g, w := sorted(got.Omissions()), sorted(want.Omissions()); !slices.Equal(g, w) {
		t.Fatalf("omitted are %v, not %v", g, w)
	}
	if got.Generation() != want.Generation() {
		t.Fatalf("its generation is %d, not %d", got.Generation(), want.Generation())
	}
	if g, w := rows(got.Snapshot()), rows(want.Snapshot()); !reflect.DeepEqual(g, w) {
		t.Fatalf("it remembers\n%v\nnot\n%v", g, w)
	}
}

// rows are all rows of a Snapshot, in no order.
func rows(s netmap.Snapshot) map[string]int {
	out := map[string]int{}
	for _, v := range s.Sites {
		out[fmt.Sprintf("%+v", v)]++
	}
	for _, v := range s.Nodes {
		out[fmt.Sprintf("%+v", v)]++
	}
	for _, v := range s.Services {
		out[fmt.Sprintf("%+v", v)]++
	}
	for _, v := range s.Grants {
		out[fmt.Sprintf("%+v", v)]++
	}
	for _, v := range s.Ranges {
		out[fmt.Sprintf("%+v", v)]++
	}
	return out
}
