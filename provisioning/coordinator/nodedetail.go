package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// Translation is what the address that a box enrolled from tells of address translation between it and the coordinator.
type Translation string

// The kinds. What the coordinator sees behind a proxy is the proxy's address, so none of them is more than a hint.
const (
	// TranslationUnknown: the coordinator does not know where the box came from.
	TranslationUnknown Translation = "unknown"
	// TranslationNone: it came from an address of one of its own networks.
	TranslationNone Translation = "none"
	// TranslationRouter: it came from a public address that it does not have itself.
	TranslationRouter Translation = "router"
	// TranslationCarrier: it came from 100.64.0.0/10 (RFC 6598), which a provider has between itself and its customers.
	TranslationCarrier Translation = "carrier"
	// TranslationPrivate: it came from a private address (RFC 1918, RFC 4193) of another network, as over a line of the clinic's own.
	TranslationPrivate Translation = "private"
)

// translationOf says what Origin tells beside what the box reports.
func translationOf(n provisioning.Node) Translation {
	own := func(p netip.Prefix) bool { return p.Contains(n.Origin) }
	carrier := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)
	switch {
	case !n.Origin.IsValid():
		return TranslationUnknown
	case n.Origin.IsLoopback(), slices.ContainsFunc(n.Facts.LANs, own), slices.ContainsFunc(n.Facts.WANs, own):
		return TranslationNone
	case carrier.Contains(n.Origin):
		return TranslationCarrier
	case n.Origin.IsPrivate(), n.Origin.IsLinkLocalUnicast():
		return TranslationPrivate
	}
	return TranslationRouter
}

// NodeDetail is a Node with what was planned for it beside what it reports.
type NodeDetail struct {
	NodeInfo
	Site provisioning.Site
	// Prefixes are the ranges that Nodes of the kind have their addresses from, LANs the Site's local networks as an operator has entered them.
	Prefixes, LANs []netip.Prefix
	// Unplanned are the reported LANs that overlap none of LANs, of the families that are among these.
	Unplanned []netip.Prefix
	// Missing are the planned LANs that overlap none that the box reports; empty for a box that has reported none, or is no gateway.
	Missing     []netip.Prefix
	Translation Translation
	// Token is the one that it enrolled with last; empty if it is not known any more.
	Token provisioning.TokenID
}

// Node returns all about one.
func (c *Coordinator) Node(ctx context.Context, id provisioning.NodeID) (NodeDetail, error) {
	var d NodeDetail
	err := c.st.View(ctx, func(tx store.Tx) error {
		n, err := nodeByID(tx, id)
		if err != nil {
			return err
		}
		d = NodeDetail{Translation: translationOf(n)}
		if d.Site, err = tx.Sites().ByID(n.Site); err != nil {
			return fmt.Errorf("read the node's site: %w", err)
		}
		ranges, err := tx.Ranges().Of(string(n.Site))
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		d.compare(n, ranges)
		tokens, err := tx.Tokens().List()
		if err != nil {
			return fmt.Errorf("read the tokens: %w", err)
		}
		d.Token = enrolledWith(tokens, n)
		return nil
	})
	if err != nil {
		return d, err
	}
	all, err := c.Nodes(ctx)
	if err != nil {
		return d, err
	}
	i := slices.IndexFunc(all, func(n NodeInfo) bool { return n.ID == id })
	if i < 0 {
		return d, provisioning.Errorf(provisioning.NotFound, "node %s was removed just now", id).WithHint("the list of nodes shows who is there")
	}
	d.NodeInfo = all[i]
	return d, nil
}

// compare fills in what was planned.
func (d *NodeDetail) compare(n provisioning.Node, ranges []provisioning.Range) {
	for _, r := range ranges {
		switch {
		case gives(r, purposeOf(n.Kind)):
			d.Prefixes = append(d.Prefixes, r.Prefix)
		case r.Kind == provisioning.RangeLAN:
			d.LANs = append(d.LANs, r.Prefix)
		}
	}
	if n.Kind != wire.Gateway || len(n.Facts.LANs) == 0 || len(d.LANs) == 0 {
		return
	}
	d.Missing = apart(d.LANs, n.Facts.LANs)
	// Nobody enters the IPv6 networks that routers make up by themselves.
	d.Unplanned = slices.DeleteFunc(apart(n.Facts.LANs, d.LANs), func(p netip.Prefix) bool {
		return !slices.ContainsFunc(d.LANs, func(q netip.Prefix) bool { return q.Addr().Is4() == p.Addr().Is4() })
	})
}

// apart are those of a that overlap none of b.
func apart(a, b []netip.Prefix) (out []netip.Prefix) {
	for _, p := range a {
		if !slices.ContainsFunc(b, p.Overlaps) {
			out = append(out, p)
		}
	}
	return out
}

// enrolledWith finds the token that the box of a Node came with: the last one that has it among its uses.
func enrolledWith(tokens []provisioning.Token, n provisioning.Node) provisioning.TokenID {
	var id provisioning.TokenID
	last := provisioning.TokenUse{}
	for _, t := range tokens {
		for _, u := range t.Uses {
			if u.Node == n.ID && !u.At.Before(last.At) {
				id, last = t.ID, u
			}
		}
	}
	return id
}
