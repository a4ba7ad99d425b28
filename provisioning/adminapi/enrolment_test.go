package adminapi_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// exerciseMembers asks for everything about how members come, wait and are replaced. Afterwards the nodes are as before, but praxis-nord has
// another box and the lab a range for workstations.
func exerciseMembers(t *testing.T, c *adminapi.Client, n *provisioningtest.Network, box *provisioningtest.Node) {
	t.Helper()
	ctx := t.Context()
	lan := netip.MustParsePrefix("192.168.7.0/24")
	must(c.AddRange(ctx, adminapi.NewRange{Kind: "lan", Prefix: "192.168.8.0/24", Site: "lab"}))(t)

	tok := must(c.CreateToken(ctx, adminapi.NewToken{Site: "lab", Kind: "workstation", Limit: 3, Approval: true}))(t)
	if tok.Kind != "workstation" || tok.Limit != 3 || !tok.Approval {
		t.Errorf("the token is %+v", tok)
	}
	text := must(wire.ParseToken(tok.Text))(t)
	for range 2 {
		if err := n.Box(t).Enroll(ctx, text, wire.Facts{Hostname: "ws", LANs: []netip.Prefix{lan}}); err == nil {
			t.Fatal("nobody had to approve it")
		}
	}
	var waiting []adminapi.Node
	for _, v := range must(c.Nodes(ctx))(t) {
		if v.State == "waiting" {
			waiting = append(waiting, v)
		}
	}
	if len(waiting) != 2 || waiting[0].Kind != "workstation" || waiting[0].Reason != "not approved yet" || len(waiting[0].KeyPrint) != 14 {
		t.Fatalf("the waiting nodes are %+v", waiting)
	}
	if err := c.RejectNode(ctx, waiting[0].ID, "unknown"); err != nil {
		t.Fatal(err)
	}
	if err := c.ApproveNode(ctx, waiting[1].ID); err != nil {
		t.Fatal(err)
	}
	d := must(c.Node(ctx, waiting[1].ID))(t)
	if d.State != "active" || d.Reason != "" || d.Token != tok.ID || d.Origin.String() != "198.51.100.7" || d.Translation != "router" || d.SiteKind != "center" ||
		len(d.Prefixes) != 1 || !slices.Equal(d.LANs, []netip.Prefix{lan}) || len(d.PlannedLANs) != 1 || len(d.Unplanned) != 0 {
		t.Errorf("the node is %+v", d)
	}
	if l := must(c.Sites(ctx))(t); l[0].Kinds["workstation"] != 1 || l[0].Nodes != 1 {
		t.Errorf("the site is %+v", l[0])
	}
	if err := c.RemoveNode(ctx, d.ID); err != nil {
		t.Fatal(err)
	}

	spare := must(c.ReplaceNode(ctx, string(box.ID), time.Hour))(t)
	if spare.Replaces != string(box.ID) || spare.Site != "praxis-nord" || spare.Kind != "gateway" || spare.Expires.Sub(spare.Created) != time.Hour {
		t.Errorf("the token is %+v", spare)
	}
	other := n.Box(t)
	if err := other.Enroll(ctx, must(wire.ParseToken(spare.Text))(t), wire.Facts{Hostname: "box-8"}); err != nil || other.ID != box.ID {
		t.Errorf("the spare is %s (%v)", other.ID, err)
	}
	exercisePeers(t, c)
}

func exercisePeers(t *testing.T, c *adminapi.Client) {
	t.Helper()
	ctx := t.Context()
	key := must(must(wgkey.NewPrivateKey())(t).Public())(t)
	p := must(c.AddPeer(ctx, adminapi.NewPeer{Site: "lab", Name: "phone", PublicKey: key.String()}))(t)
	if p.Name != "phone" || p.Site != "lab" || p.State != "active" || p.PublicKey != key.String() || !p.Address.IsValid() {
		t.Errorf("the device is %+v", p)
	}
	got := must(c.PeerConfig(ctx, "lab", "phone"))(t)
	if got.ID != p.ID || len(got.Peers) != 1 || got.Peers[0].Site != "praxis-nord" || len(got.Peers[0].Endpoints) != 0 || len(got.Uses) != 1 ||
		got.Uses[0].Service != "his" || got.Uses[0].Receiver != "HIS^WARD" || got.Uses[0].At.Port() != 2575 {
		t.Errorf("its configuration is %+v", got)
	}
	if err := c.RemovePeer(ctx, "lab", "phone"); err != nil {
		t.Fatal(err)
	}
	if l := must(c.Nodes(ctx))(t); len(l) != 1 {
		t.Errorf("the nodes are %+v", l)
	}
}
