package coordinator_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func publicKey(t testing.TB) wgkey.PublicKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func addPeer(t testing.TB, n *provisioningtest.Network, site, name string) coordinator.PeerConfig {
	t.Helper()
	p, err := n.AddPeer(context.WithoutCancel(t.Context()), "anna", coordinator.NewPeer{Site: site, Name: name, PublicKey: publicKey(t)})
	if err != nil {
		t.Fatalf("add %s to %s: %v", name, site, err)
	}
	return p
}

func workstationRanges(t testing.TB, n *provisioningtest.Network) (out []netip.Prefix) {
	t.Helper()
	plan, err := n.Plan(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plan.Ranges {
		if r.Purpose == provisioning.PurposeWorkstation {
			out = append(out, r.Prefix)
		}
	}
	return out
}

// Workstations and plain devices get addresses from ranges that are made when they are needed, and are given back with the site.
func TestWorkstationsGetRanges(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Site(t, coordinator.NewSite{Name: "lab", Kind: wire.Center, Endpoint: "192.0.2.9:51820"})
	if got := workstationRanges(t, n); len(got) != 0 {
		t.Fatalf("before the first, there is %v", got)
	}
	k := token(t, n, coordinator.NewToken{Site: "lab", Kind: wire.Workstation, Limit: 20})
	var boxes []*provisioningtest.Node
	for i := range 14 {
		b := n.Box(t)
		if err := b.Enroll(ctx, k, wire.Facts{Hostname: fmt.Sprint("ws", i)}); err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, b)
	}
	ranges := workstationRanges(t, n)
	if len(ranges) != 1 || ranges[0].Bits() != 28 {
		t.Fatalf("14 workstations are in %v", ranges)
	}
	last := addPeer(t, n, "lab", "phone")
	ranges = workstationRanges(t, n)
	if len(ranges) != 2 || !ranges[1].Contains(last.Node.Address) {
		t.Errorf("the 15th has %v in %v", last.Node.Address, ranges)
	}
	for _, b := range boxes {
		info := nodeInfo(t, n, b.ID)
		if info.Kind != wire.Workstation || !ranges[0].Contains(info.Address) {
			t.Errorf("a workstation is %s at %v", info.Kind, info.Address)
		}
	}
	sites, err := n.Sites(ctx)
	if err != nil || sites[0].Nodes != 15 || sites[0].Kinds[wire.Workstation] != 14 || sites[0].Kinds[wire.Unmanaged] != 1 || sites[0].Kinds[wire.Gateway] != 0 {
		t.Errorf("the site is %+v (%v)", sites[0], err)
	}
	n.Remove(t, n.Node(t, "lab").ID) // a gateway has its place beside them
	tokens, err := n.Tokens(ctx)
	if err != nil || len(tokens[1].Uses) != 14 || tokens[1].State != coordinator.TokenOpen {
		t.Errorf("the token is %+v (%v)", tokens[1], err)
	}
	wantCode(t, n.RemoveSite(ctx, "anna", "lab"), provisioning.Conflict, "workstation node_")
	for _, b := range boxes {
		n.Remove(t, b.ID)
	}
	wantCode(t, n.RemoveSite(ctx, "anna", "lab"), provisioning.Conflict, "device phone")
	wantCode(t, reason(n.Release(ctx, "anna", ranges[1].String(), true)), provisioning.Conflict, "device phone")
	if err := n.RemovePeer(ctx, "anna", "", "phone"); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveSite(ctx, "anna", "lab"); err != nil {
		t.Fatal(err)
	}
}

// The ranges are in the pool of the site's boxes, and of its family.
func TestWorkstationRangeIsNear(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	for _, p := range []string{"10.64.0.0/16", "fd00:1::/48"} {
		if _, err := n.AddRange(t.Context(), "anna", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix(p)}); err != nil {
			t.Fatal(err)
		}
	}
	for site, at := range map[string]string{"a": "10.64.5.0/28", "b": "fd00:1::10/124"} {
		n.Site(t, coordinator.NewSite{Name: site, Kind: wire.Clinic, Prefix: prefix(at)})
		got := addPeer(t, n, site, "phone").Node.Address
		if pool := map[string]string{"a": "10.64.0.0/16", "b": "fd00:1::/48"}[site]; !prefix(pool).Contains(got) {
			t.Errorf("a device of the site in %s has %v", at, got)
		}
	}
}

func TestPeers(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "192.0.2.9:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	lab := n.Node(t, "lab")
	key := publicKey(t)
	p, err := n.AddPeer(ctx, "anna", coordinator.NewPeer{Site: "nord", Name: "phone", PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	if p.Node.Kind != wire.Unmanaged || p.Node.Name != "phone" || p.Node.PublicKey != key || p.SiteName != "nord" || len(p.Peers) != 0 {
		t.Errorf("the device is %+v", p)
	}
	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(events, func(e provisioning.Event) bool { return e.Action == "peer.add" }); i < 0 || !strings.Contains(events[i].Detail, key.String()) {
		t.Errorf("the events are %+v", events)
	}
	n.Grant(t, "pacs", "nord")
	p, err = n.PeerConfig(ctx, "", "phone")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Peers) != 1 || p.Peers[0].PublicKey != lab.Map().Self.PublicKey || !slices.Equal(p.Peers[0].Endpoints, []string{"192.0.2.9:51820"}) ||
		!slices.Equal(p.Peers[0].AllowedIPs, []netip.Prefix{netip.PrefixFrom(lab.Map().Self.Address, 32)}) {
		t.Errorf("its peers are %+v", p.Peers)
	}
	if len(p.Uses) != 1 || p.Uses[0].Service != "pacs" || p.Uses[0].Address.Addr() != lab.Map().Self.Address {
		t.Errorf("it uses %+v", p.Uses)
	}
	_, m, err := n.NetMapFor(ctx, lab.ID)
	if err != nil || len(m.Peers) != 1 || m.Peers[0].PublicKey != key || len(m.Offers) != 1 || m.Offers[0].From[0].Prefix.Addr() != p.Node.Address {
		t.Errorf("the center's map has the peers %+v and the offers %+v (%v)", m.Peers, m.Offers, err)
	}

	add := func(o coordinator.NewPeer) error { return reason(n.AddPeer(ctx, "anna", o)) }
	wantCode(t, add(coordinator.NewPeer{Site: "nord", Name: "phone", PublicKey: publicKey(t)}), provisioning.Conflict, "device phone already")
	wantCode(t, add(coordinator.NewPeer{Site: "lab", Name: "tablet", PublicKey: key}), provisioning.Conflict, "device phone at site nord")
	wantCode(t, add(coordinator.NewPeer{Site: "lab", Name: "tablet", PublicKey: lab.Map().Self.PublicKey}), provisioning.Conflict, "at site lab")
	wantCode(t, add(coordinator.NewPeer{Site: "lab", Name: "tablet", PublicKey: n.Keys.HubPublicKey()}), provisioning.Invalid)
	wantCode(t, add(coordinator.NewPeer{Site: "lab", Name: "tablet"}), provisioning.Invalid)
	wantCode(t, add(coordinator.NewPeer{Site: "lab", Name: "My Tablet", PublicKey: publicKey(t)}), provisioning.Invalid, "my-tablet")
	wantCode(t, add(coordinator.NewPeer{Site: "none", Name: "tablet", PublicKey: publicKey(t)}), provisioning.NotFound)
	wantCode(t, add(coordinator.NewPeer{Site: "nord", Name: "tablet", PublicKey: publicKey(t), Address: p.Node.Address}), provisioning.Conflict, "taken")
	wantCode(t, add(coordinator.NewPeer{Site: "nord", Name: "tablet", PublicKey: publicKey(t), Address: lab.Map().Self.Address.Next()}), provisioning.Invalid, "workstation")

	addPeer(t, n, "lab", "phone")
	wantCode(t, reason(n.PeerConfig(ctx, "", "phone")), provisioning.Conflict, "--site")
	wantCode(t, n.RemovePeer(ctx, "anna", "", "phone"), provisioning.Conflict, "lab", "nord")
	wantCode(t, reason(n.PeerConfig(ctx, "", string(lab.ID))), provisioning.NotFound)
	if got, err := n.PeerConfig(ctx, "", string(p.Node.ID)); err != nil || got.Node.ID != p.Node.ID {
		t.Errorf("by id: %+v, %v", got, err)
	}
	if err := n.RemovePeer(ctx, "anna", "nord", "phone"); err != nil {
		t.Fatal(err)
	}
	_, m, err = n.NetMapFor(ctx, lab.ID)
	if err != nil || slices.ContainsFunc(m.Peers, func(o wire.Peer) bool { return o.PublicKey == key }) {
		t.Errorf("the center still knows the key: %+v (%v)", m.Peers, err)
	}
}

// A service for its own site: for those of its members that are not on its LAN.
func TestGrantToTheOwnSite(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	for _, site := range []coordinator.NewSite{{Name: "lab", Kind: wire.Center, Endpoint: "192.0.2.9:51820"}, {Name: "nord", Kind: wire.Clinic, Endpoint: "192.0.2.10:51820"}} {
		n.Site(t, site)
		n.DICOM(t, site.Name, site.Name+"-pacs", "PACS")
		gateway := n.Node(t, site.Name)
		n.Grant(t, site.Name+"-pacs", site.Name)
		addPeer(t, n, site.Name, "phone")
		p, err := n.PeerConfig(t.Context(), site.Name, "phone")
		if err != nil || len(p.Peers) != 1 || p.Peers[0].PublicKey != gateway.Map().Self.PublicKey || len(p.Uses) != 1 || p.Uses[0].Service != site.Name+"-pacs" {
			t.Errorf("at %s the device has %+v and uses %+v (%v)", site.Name, p.Peers, p.Uses, err)
		}
		_, m, err := n.NetMapFor(t.Context(), gateway.ID)
		if err != nil || len(m.Uses) != 0 || len(m.Offers) != 1 || len(m.Offers[0].From) != 1 || m.Offers[0].From[0].Prefix.Addr() != p.Node.Address {
			t.Errorf("the gateway of %s uses %+v and offers %+v (%v)", site.Name, m.Uses, m.Offers, err)
		}
	}
}
