package coordinator

import (
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestWhomAStepConcerns(t *testing.T) {
	picture := func(gen uint64, endpoint string) *netmap.Index {
		return netmap.NewIndex(netmap.Snapshot{Generation: gen, Hub: wire.Hub{Endpoints: []string{endpoint}}})
	}
	x5, x6, x8, x9 := picture(5, "a"), picture(6, "a"), picture(8, "b"), picture(9, "b")
	var c concern
	c.know(x5)
	for _, tc := range []struct {
		what  string
		x     *netmap.Index
		since uint64
		want  bool
	}{
		{"nothing changed", x6, 5, false},
		{"the hub changed for all", x8, 6, true},
		{"nothing changed again", x9, 8, false},
		{"one who saw that before", x9, 8, false},
		{"one who missed the step before", x9, 6, true},
		{"one who is behind with the picture, too", x8, 6, true},
		{"one who knows nothing", x9, 0, true},
	} {
		if got := c.touches(tc.x, provisioning.NodeID("node"), tc.since); got != tc.want {
			t.Errorf("%s: from %d to %d: %v", tc.what, tc.since, tc.x.Generation(), got)
		}
	}
	if first := new(concern); !first.touches(x9, "node", 8) {
		t.Error("the first picture says nothing about what changed")
	}
}
