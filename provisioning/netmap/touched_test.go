package netmap_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// swapped is list with one entry removed, taken from another list, or added from there.
func swapped[T any](t *rapid.T, label string, list, other []T) []T {
	list = slices.Clone(list)
	how := rapid.IntRange(0, 8).Draw(t, label)
	if len(list) > 0 && how < 3 {
		i := rapid.IntRange(0, len(list)-1).Draw(t, label+" at")
		if how == 0 {
			return slices.Delete(list, i, i+1)
		}
		if i < len(other) {
			list[i] = other[i]
		}
		return list
	}
	if len(other) > len(list) && how == 3 {
		return append(list, other[len(list)])
	}
	return list
}

func TestUntouchedMapsAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, other := genSnapshot().Draw(t, "before"), genSnapshot().Draw(t, "other")
		after := before
		after.Generation++
		after.Sites = swapped(t, "sites", before.Sites, other.Sites)
		after.Nodes = swapped(t, "nodes", before.Nodes, other.Nodes)
		after.Services = swapped(t, "services", before.Services, other.Services)
		after.Grants = swapped(t, "grants", before.Grants, other.Grants)
		after.Ranges = swapped(t, "ranges", before.Ranges, other.Ranges)
		touched, all := netmap.NewIndex(after).Touched(netmap.NewIndex(before))
		if all {
			return
		}
		a, b := maps(before), maps(after)
		for _, n := range slices.Concat(before.Nodes, after.Nodes) {
			was, had := a[n.ID]
			is, has := b[n.ID]
			h1, err1 := netmap.Hash(was)
			h2, err2 := netmap.Hash(is)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if !touched[n.ID] && (had != has || h1 != h2) {
				t.Fatalf("the map of %s differs and it is not among %v", n.ID, touched)
			}
		}
	})
}

func TestTouchedAreFew(t *testing.T) {
	before := sample()
	for name, tc := range map[string]struct {
		edit func(*netmap.Snapshot)
		want []provisioning.NodeID
		all  bool
	}{
		"nothing": {func(*netmap.Snapshot) {}, nil, false},
		"a report": {func(s *netmap.Snapshot) {
			s.Nodes[0].Applied, s.Nodes[0].LastSeen, s.Nodes[0].Conditions = 9, time.Now(), []wire.Condition{{Code: "x"}}
		}, nil, false},
		"a grant less":           {func(s *netmap.Snapshot) { s.Grants = slices.Delete(s.Grants, 1, 2) }, []provisioning.NodeID{"n1", "n3"}, false},
		"a clinic's new name":    {func(s *netmap.Snapshot) { s.Sites[1].Name = "north" }, []provisioning.NodeID{"n1", "n2"}, false},
		"a clinic's box less":    {func(s *netmap.Snapshot) { s.Nodes = slices.Delete(s.Nodes, 2, 3) }, []provisioning.NodeID{"n1", "n3"}, false},
		"the center's new place": {func(s *netmap.Snapshot) { s.Sites[0].Endpoint = "h:1" }, []provisioning.NodeID{"n1", "n2", "n3"}, false},
		"a pool":                 {func(s *netmap.Snapshot) { s.Ranges = s.Ranges[1:] }, nil, true},
		"the hub":                {func(s *netmap.Snapshot) { s.Hub.ControlPort++ }, nil, true},
		"another broken object":  {func(s *netmap.Snapshot) { s.Services[2].Port = 0 }, nil, true},
	} {
		after := sample()
		tc.edit(&after)
		got, all := netmap.NewIndex(after).Touched(netmap.NewIndex(before))
		var ids []provisioning.NodeID
		for id := range got {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		if all != tc.all || !slices.Equal(ids, tc.want) {
			t.Errorf("%s: touched are %v, all %v; want %v, %v", name, ids, all, tc.want, tc.all)
		}
	}
}
