package netmap_test

import (
	"fmt"
	"net/netip"
	"reflect"
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
		Hub:    wire.Hub{PublicKey: wgkey.PublicKey{255}, Endpoints: []string{"hub:1"}, Address: addr("10.0.0.1"), ControlPort: 8080},
		Ranges: []provisioning.Range{{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.0.0.0/16")}},
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
		for j := range rapid.IntRange(0, 2).Draw(t, "services") {
			s.Services = append(s.Services, provisioning.Service{
				ID: provisioning.ServiceID(fmt.Sprintf("service%d.%d", i, j)), Site: id, Name: fmt.Sprintf("offer%d.%d", i, j), Protocol: wire.DICOM,
				AETitle: fmt.Sprintf("AE%d.%d", i, j), Mode: wire.Queued, Target: "t:1", Port: uint16(100 + j),
			})
		}
	}
	return s
}

// someGrants draws those of some users, at most one of each service and mostly sound.
func someGrants(t *rapid.T, s netmap.Snapshot, users map[provisioning.SiteID]bool) []provisioning.Grant {
	var out []provisioning.Grant
	for _, site := range s.Sites {
		for i, v := range s.Services {
			meets := site.Kind == wire.Center || s.Sites[0].ID == v.Site || s.Sites[1].ID == v.Site || site.ID == v.Site
			if !users[site.ID] || !rapid.Bool().Draw(t, "granted") || (!meets && rapid.IntRange(0, 19).Draw(t, "odd") > 0) {
				continue
			}
			out = append(out, provisioning.Grant{
				Service: v.ID, Site: site.ID, LANPort: uint16(1000 + i), Created: issued.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Second),
			})
		}
	}
	return out
}

func TestRegrantIsANewIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := soundNetwork(t)
		all := map[provisioning.SiteID]bool{}
		for _, site := range s.Sites {
			all[site.ID] = true
		}
		s.Grants = someGrants(t, s, all)
		x := netmap.NewIndex(s)
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			was := netmap.NewIndex(s)
			users := map[provisioning.SiteID]bool{}
			for id := range all {
				users[id] = rapid.Bool().Draw(t, "changes")
			}
			var kept []provisioning.Grant
			for _, g := range s.Grants {
				if !users[g.Site] {
					kept = append(kept, g)
				}
			}
			s.Grants = append(kept, someGrants(t, s, users)...)
			s.Generation++
			want, next := netmap.NewIndex(s), x.Regrant(s, users)
			if !reflect.DeepEqual(next, want) {
				t.Fatalf("with the grants %+v of %v changed:\n%+v\nnot\n%+v", s.Grants, users, next, want)
			}
			if !reflect.DeepEqual(x, was) {
				t.Fatal("the old index has changed")
			}
			x = next
		}
	})
}
