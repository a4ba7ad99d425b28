package coordinator

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// network is a prefix that a box says it is connected to.
type network struct {
	prefix  netip.Prefix
	purpose provisioning.RangePurpose
}

func (n network) String() string {
	switch n.purpose {
	case provisioning.PurposeWAN:
		return fmt.Sprintf("%v towards the internet", n.prefix)
	case provisioning.PurposeContainer:
		return fmt.Sprintf("%v of its containers", n.prefix)
	default:
		return fmt.Sprintf("the LAN %v", n.prefix)
	}
}

// own is how the box would call it.
func (n network) own() string {
	switch n.purpose {
	case provisioning.PurposeWAN:
		return "its own router"
	case provisioning.PurposeContainer:
		return "its own containers"
	default:
		return "its own LAN"
	}
}

func networksOf(f wire.Facts) []network {
	var out []network
	for _, l := range []struct {
		purpose  provisioning.RangePurpose
		prefixes []netip.Prefix
	}{
		{provisioning.PurposeLAN, f.LANs}, {provisioning.PurposeWAN, f.WANs}, {provisioning.PurposeContainer, f.Containers},
	} {
		for _, p := range l.prefixes {
			out = append(out, network{p, l.purpose})
		}
	}
	return out
}

// believed are the networks of a Node that the plan goes around: what a box says before it was approved does not count.
func believed(n provisioning.Node) []network {
	if n.State == provisioning.NodeWaiting && n.Reason == reasonUnapproved {
		return nil
	}
	return networksOf(n.Facts)
}

func sameNetworks(a, b wire.Facts) bool { return slices.Equal(networksOf(a), networksOf(b)) }

// Nothing is connected to more than these; a box that says so would only keep the plan from growing.
const (
	minReported4 = 8
	minReported6 = 16
)

func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < minReported4
	}
	return p.Bits() < minReported6
}

// syncReported makes the reported ranges of a Site what its boxes tell of now. What meets a pool is left out: the plan was first, the box
// raises a Condition, and Findings say what to do.
func syncReported(tx store.Tx, site provisioning.SiteID, at time.Time) error {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	want := map[network]bool{}
	for _, n := range nodes {
		if n.Site != site {
			continue
		}
		for _, w := range believed(n) {
			want[w] = want[w] || !tooWide(w.prefix)
		}
	}
	have, err := tx.Ranges().Of(string(site))
	if err != nil {
		return fmt.Errorf("read the site's ranges: %w", err)
	}
	for _, r := range have {
		w := network{r.Prefix, r.Purpose}
		switch {
		case r.Kind != provisioning.RangeReported:
		case want[w]:
			delete(want, w)
		default:
			if err := tx.Ranges().Remove(r.ID); err != nil {
				return fmt.Errorf("remove the reported %v: %w", r.Prefix, err)
			}
		}
	}
	missing := slices.SortedFunc(maps.Keys(want), func(a, b network) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.purpose, b.purpose))
	})
	for _, w := range missing {
		if !want[w] {
			continue
		}
		meets, err := meetsPool(tx, w.prefix)
		if err != nil {
			return err
		}
		if meets.IsValid() {
			continue
		}
		if _, err := tx.Ranges().Create(provisioning.Range{
			Kind: provisioning.RangeReported, Prefix: w.prefix, Owner: string(site), Purpose: w.purpose, Created: at,
		}); err != nil {
			return fmt.Errorf("store the reported %v: %w", w.prefix, err)
		}
	}
	return nil
}

// meetsPool returns a pool, or an allocation, that p overlaps, or the zero Prefix.
func meetsPool(tx store.Tx, p netip.Prefix) (netip.Prefix, error) {
	near, err := tx.Ranges().Overlapping(p)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read the plan: %w", err)
	}
	for _, r := range near {
		if r.Kind == provisioning.RangePool || r.Kind == provisioning.RangeAllocation {
			return r.Prefix, nil
		}
	}
	return netip.Prefix{}, nil
}

// fitsPlan refuses a box that is connected to addresses of the network: it could not reach its own neighbors any more.
func fitsPlan(tx store.Tx, f wire.Facts) error {
	for _, n := range networksOf(f) {
		pool, err := meetsPool(tx, n.prefix)
		if err != nil {
			return err
		}
		if pool.IsValid() {
			return provisioning.Errorf(provisioning.Conflict, "the box is connected to %s, which overlaps %v of the network's plan", n, pool).
				WithHint("the box could no longer reach %s: %s", n.own(), wayOut(n))
		}
	}
	return nil
}

// wayOut says what to do about a network of a box that is in the plan.
func wayOut(n network) string {
	switch n.purpose {
	case provisioning.PurposeWAN:
		return "connect it to another router, or let the center choose another pool"
	case provisioning.PurposeContainer:
		return "give its container software another range, or let the center choose another pool"
	default:
		return "connect it to another LAN, or let the center choose another pool"
	}
}

// joinPrefixes makes a list for a sentence.
func joinPrefixes(list []netip.Prefix) string {
	var b strings.Builder
	for i, p := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}
