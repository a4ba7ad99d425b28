package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// reasonUnsigned is why a Node waits in a network whose key is kept off the coordinator.
const reasonUnsigned = "not signed yet"

// stateOf is what a Node is that nothing else keeps out.
func (k *Keys) stateOf(m *wire.SignedMember) (provisioning.NodeState, string) {
	if k.Offline() && m == nil {
		return provisioning.NodeWaiting, reasonUnsigned
	}
	return provisioning.NodeActive, ""
}

// coversNext says what a Node needs before its next key is believed; empty if nothing is missing.
func (k *Keys) coversNext(n provisioning.Node) string {
	if !k.Offline() {
		return ""
	}
	if m, err := k.member(n.Member); err != nil || !m.Has(n.NextKey) {
		return "a signature for the new key"
	}
	return ""
}

var errNoMember = errors.New("nothing was signed")

func (k *Keys) member(s *wire.SignedMember) (wire.Member, error) {
	if s == nil {
		return wire.Member{}, errNoMember
	}
	return s.Open(k.network)
}

// UnsignedMember is a Node as it is now, which the network's key has not signed.
type UnsignedMember struct {
	Member wire.Member
	// Last is what was signed before; nil for a Node that never was.
	Last *wire.SignedMember
	// Since is when the Node came, or its newest prefix; zero if that is not known.
	Since time.Time
}

// Unsigned returns what the network's key is to sign, by site and node.
func (c *Coordinator) Unsigned(ctx context.Context) ([]UnsignedMember, error) {
	if !c.keys.Offline() {
		return nil, errOnline
	}
	var out []UnsignedMember
	err := c.st.View(ctx, func(tx store.Tx) error {
		s, err := snapshot(tx)
		out = c.keys.unsigned(s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the network: %w", err)
	}
	return out, nil
}

var errOnline = provisioning.Errorf(provisioning.Conflict, "the key of this network is on the coordinator, which signs by itself").
	WithHint("nothing is to be done; only a network made with \"towpath coordinator init --offline-key\" asks for signatures")

func (k *Keys) unsigned(s netmap.Snapshot) []UnsignedMember {
	sites, owned := map[provisioning.SiteID]provisioning.Site{}, map[string][]provisioning.Range{}
	for _, v := range s.Sites {
		sites[v.ID] = v
	}
	for _, r := range s.Ranges {
		if r.Kind == provisioning.RangeAllocation && r.Owner != "" {
			owned[r.Owner] = append(owned[r.Owner], r)
		}
	}
	var out []UnsignedMember
	for _, n := range s.Nodes {
		if n.State == provisioning.NodeWaiting && n.Reason != reasonUnsigned {
			continue // an operator is to approve it first
		}
		if n.State == provisioning.NodeQuarantined {
			continue
		}
		want := memberOf(k.NetworkID(), n, sites[n.Site], owned[string(n.Site)])
		last, err := k.member(n.Member)
		if err == nil && sameMember(last, want) {
			continue
		}
		u := UnsignedMember{Member: want, Last: n.Member, Since: n.Enrolled}
		if err != nil {
			u.Last = nil
		} else {
			u.Since = sinceOf(last, want, owned[string(n.Site)])
		}
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b UnsignedMember) int {
		return cmp.Or(cmp.Compare(a.Member.Site, b.Member.Site), cmp.Compare(a.Member.Node, b.Member.Node))
	})
	return out
}

// sinceOf is when the newest prefix came that was not signed; zero if there is none.
func sinceOf(last, want wire.Member, ranges []provisioning.Range) time.Time {
	var since time.Time
	for _, r := range ranges {
		if slices.Contains(want.Prefixes, r.Prefix) && !last.Covers(r.Prefix) && r.Created.After(since) {
			since = r.Created
		}
	}
	return since
}

// memberOf is what is to be signed of a Node.
func memberOf(network string, n provisioning.Node, s provisioning.Site, ranges []provisioning.Range) wire.Member {
	m := wire.Member{
		Network: network, Node: string(n.ID), Kind: n.Kind, Site: s.Name, SiteKind: s.Kind, PublicKey: n.PublicKey, NextKey: n.NextKey,
		Prefixes: []netip.Prefix{},
	}
	for _, r := range ranges {
		if mayHave(n.Kind, r.Purpose) {
			m.Prefixes = append(m.Prefixes, r.Prefix)
		}
	}
	slices.SortFunc(m.Prefixes, netip.Prefix.Compare)
	m.Prefixes = slices.Compact(m.Prefixes)
	return m
}

// mayHave reports whether an allocation of a purpose may lead to a Node of a kind.
func mayHave(k wire.NodeKind, p provisioning.RangePurpose) bool {
	switch k {
	case wire.Workstation, wire.Unmanaged:
		return p == provisioning.PurposeWorkstation
	case wire.Relay:
		return p == provisioning.PurposeOverlay
	case wire.Gateway:
		return p != provisioning.PurposeWorkstation
	}
	return false
}

func sameMember(a, b wire.Member) bool {
	same := slices.Equal(a.Prefixes, b.Prefixes)
	a.Prefixes, b.Prefixes = nil, nil
	return same && a.Network == b.Network && a.Node == b.Node && a.Kind == b.Kind && a.Site == b.Site && a.SiteKind == b.SiteKind &&
		a.PublicKey == b.PublicKey && a.NextKey == b.NextKey
}

// Taken is what became of signatures.
type Taken struct {
	// Accepted are the Nodes whose signature is stored now; Active those of them that take part from now on.
	Accepted, Active []provisioning.NodeID
	// Stale are those that have changed since the signature was asked for, or are gone.
	Stale []string
}

// TakeSigned stores what the network's key has signed. A signature of what a Node is no longer is not taken, so that an old answer does
// not bring back an old state; one that the key has not made is an error, and nothing is stored.
func (c *Coordinator) TakeSigned(ctx context.Context, actor string, signed []wire.SignedMember) (Taken, error) {
	if !c.keys.Offline() {
		return Taken{}, errOnline
	}
	members := make([]wire.Member, len(signed))
	for i := range signed {
		var err error
		if members[i], err = signed[i].Open(c.keys.network); err != nil {
			return Taken{}, provisioning.Errorf(provisioning.Denied, "signature %d of %d was not made with the key of this network", i+1, len(signed)).
				WithHint("sign with the file that \"towpath coordinator init --offline-key\" wrote for network %s", c.keys.NetworkID())
		}
	}
	if len(signed) == 0 {
		return Taken{}, provisioning.Errorf(provisioning.Invalid, "there is no signature").WithHint("give the answers that \"towpath sign\" wrote")
	}
	var out Taken
	err := c.change(ctx, actor, "members.signed", func(tx store.Tx) (string, string, error) {
		out = Taken{}
		s, err := snapshot(tx)
		if err != nil {
			return "", "", err
		}
		wanted, states := map[string]wire.Member{}, map[string]provisioning.Node{}
		for _, u := range c.keys.unsigned(s) {
			wanted[u.Member.Node] = u.Member
		}
		for _, n := range s.Nodes {
			states[string(n.ID)] = n
		}
		for i, m := range members {
			if w, ok := wanted[m.Node]; !ok || !sameMember(w, m) {
				out.Stale = append(out.Stale, m.Node)
				continue
			}
			if err := c.takeMember(tx, &out, states[m.Node], &signed[i]); err != nil {
				return "", "", err
			}
		}
		return c.keys.NetworkID(), fmt.Sprintf("%d signatures, %d nodes take part now, %d are out of date", len(out.Accepted), len(out.Active), len(out.Stale)), nil
	})
	return out, err
}

func (c *Coordinator) takeMember(tx store.Tx, out *Taken, n provisioning.Node, s *wire.SignedMember) error {
	if err := tx.Nodes().SetMember(n.ID, s); err != nil {
		return fmt.Errorf("store the signature: %w", err)
	}
	out.Accepted = append(out.Accepted, n.ID)
	if n.State != provisioning.NodeWaiting {
		return nil
	}
	out.Active = append(out.Active, n.ID)
	if err := tx.Nodes().SetState(n.ID, provisioning.NodeActive, "", c.stamp()); err != nil {
		return fmt.Errorf("let the node take part: %w", err)
	}
	return nil
}

// asSigned leaves out of a picture what has changed and is not signed yet, where the network's key is kept elsewhere: boxes would not
// believe it, and lose what they have. A Node keeps its former address, and a new allocation leads to nobody.
func (k *Keys) asSigned(s netmap.Snapshot) netmap.Snapshot {
	if !k.Offline() {
		return s
	}
	s.Nodes = slices.Clone(s.Nodes)
	members := map[string][]wire.Member{}
	for i, n := range s.Nodes {
		m, err := k.member(n.Member)
		if err != nil {
			continue
		}
		members[string(n.Site)] = append(members[string(n.Site)], m)
		covers := func(a netip.Addr) bool { return a.IsValid() && m.Covers(netip.PrefixFrom(a, a.BitLen())) }
		switch {
		case covers(n.Address) && n.Former.IsValid() && !covers(n.Former):
			s.Nodes[i].Former = netip.Addr{}
		case !covers(n.Address) && covers(n.Former):
			s.Nodes[i].Address, s.Nodes[i].Former = n.Former, netip.Addr{}
		}
	}
	s.Ranges = slices.DeleteFunc(slices.Clone(s.Ranges), func(r provisioning.Range) bool {
		return r.Kind == provisioning.RangeAllocation && slices.ContainsFunc(members[r.Owner], func(m wire.Member) bool {
			return mayHave(m.Kind, r.Purpose) && !m.Covers(r.Prefix)
		})
	})
	return s
}
