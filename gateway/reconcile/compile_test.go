package reconcile_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func private(t *testing.T) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t *testing.T) wgkey.PublicKey {
	t.Helper()
	p, err := private(t).Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clinicMap is the map of a clinic that may use a PACS and an HL7 receiver of the center, and offers a results service to it.
func clinicMap(t *testing.T) wire.NetMap {
	t.Helper()
	return wire.NetMap{
		Format: wire.Format, Generation: 12,
		Self: wire.Self{
			Node: "node_a", PublicKey: public(t), Site: "north", SiteKind: wire.Clinic, Address: netip.MustParseAddr("10.201.1.1"),
		},
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16")},
		Hub: wire.Hub{
			PublicKey: public(t), Endpoints: []string{"center.example:51820"}, Address: netip.MustParseAddr("10.201.0.1"), ControlPort: 8080,
		},
		Peers: []wire.Peer{{
			Node: "node_c", Site: "center", PublicKey: public(t), Endpoints: []string{"unknown.example:1", "192.0.2.1:51821"},
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.0.17/32")}, Keepalive: 25,
		}},
		Offers: []wire.Offer{{
			Service: "results", Protocol: wire.HL7, Port: 2575, Target: "192.168.1.9:2575",
			From: []wire.Source{{Site: "center", Prefix: netip.MustParsePrefix("10.201.0.17/32")}},
		}},
		Uses: []wire.Use{
			{
				Service: "pacs", Site: "center", Protocol: wire.DICOM, Mode: wire.Queued, LANPort: 11112, AETitle: "PACS",
				Address: netip.MustParseAddrPort("10.201.0.17:11112"),
			},
			{
				Service: "query", Site: "center", Protocol: wire.DICOM, Mode: wire.PassThrough, LANPort: 11112, AETitle: "QUERY",
				Address: netip.MustParseAddrPort("10.201.0.17:11113"),
			},
			{
				Service: "orders", Site: "center", Protocol: wire.HL7, Mode: wire.Queued, LANPort: 2575,
				Address: netip.MustParseAddrPort("10.201.0.17:2575"),
			},
		},
	}
}

func local(t *testing.T) reconcile.Local {
	t.Helper()
	return reconcile.Local{
		PrivateKey: private(t), LANAddress: netip.MustParseAddr("192.168.1.10"),
		Endpoints: map[string]netip.AddrPort{
			"center.example:51820": netip.MustParseAddrPort("192.0.2.1:51820"),
			"192.0.2.1:51821":      netip.MustParseAddrPort("192.0.2.1:51821"),
		},
	}
}

func TestCompileClinic(t *testing.T) {
	d, err := reconcile.Compile(clinicMap(t), local(t))
	if err != nil {
		t.Fatal(err)
	}
	center := []netip.Prefix{netip.MustParsePrefix("10.201.0.17/32")}
	want := []reconcile.Listener{
		{
			Side: reconcile.LAN, Address: "192.168.1.10:11112", Protocol: wire.DICOM,
			Routes: []reconcile.Route{
				{Service: "pacs", AETitle: "PACS", Mode: wire.Queued, Queue: "dicom.pacs"},
				{Service: "query", AETitle: "QUERY", Mode: wire.PassThrough, Target: "10.201.0.17:11113", Via: reconcile.Overlay},
			},
		},
		{
			Side: reconcile.LAN, Address: "192.168.1.10:2575", Protocol: wire.HL7,
			Routes: []reconcile.Route{{Service: "orders", Mode: wire.Queued, Queue: "hl7.orders"}},
		},
		{
			Side: reconcile.Overlay, Address: "10.201.1.1:2575", Protocol: wire.HL7, Allow: center,
			Routes: []reconcile.Route{{Service: "results", Mode: wire.PassThrough, Target: "192.168.1.9:2575", Via: reconcile.LAN}},
		},
	}
	if diff := cmp.Diff(want, d.Listeners, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	self := netip.MustParseAddr("10.201.1.1")
	deliveries := []reconcile.Delivery{
		{
			Queue: "dicom.pacs", Service: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Target: netip.MustParseAddrPort("10.201.0.17:11112"), From: self,
			Gateway: netip.MustParseAddrPort("10.201.0.17:7421"), Peer: "node_c", Site: "center",
		},
		{Queue: "hl7.orders", Service: "orders", Protocol: wire.HL7, Target: netip.MustParseAddrPort("10.201.0.17:2575"), From: self},
	}
	if diff := cmp.Diff(deliveries, d.Deliveries, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	if len(d.Problems) != 0 {
		t.Errorf("problems: %v", d.Problems)
	}
	if n := len(d.Tunnel.Peers); n != 2 {
		t.Fatalf("%d peers, want the hub and the center", n)
	}
	if e := d.Tunnel.Peers[1].Endpoint; e != netip.MustParseAddrPort("192.0.2.1:51821") {
		t.Errorf("the center's endpoint is %s; the first that could be resolved must be taken", e)
	}
	if k := d.Tunnel.Peers[0].PersistentKeepalive; k != 25*time.Second {
		t.Errorf("keepalive to the hub is %s", k)
	}
}

func TestCompileLeavesOutWhatMakesNoSense(t *testing.T) {
	m := clinicMap(t)
	m.Uses = append(m.Uses,
		wire.Use{Service: "far", Protocol: wire.DICOM, Mode: wire.Queued, LANPort: 104, Address: netip.MustParseAddrPort("10.201.9.9:104")},
		wire.Use{Service: "clash", Protocol: wire.DICOM, Mode: wire.Queued, LANPort: 2575, Address: netip.MustParseAddrPort("10.201.0.17:9")},
		wire.Use{Service: "noport", Protocol: wire.DICOM, Mode: wire.Queued, Address: netip.MustParseAddrPort("10.201.0.17:9")},
		wire.Use{Service: "mode", Protocol: wire.DICOM, Mode: "magic", LANPort: 105, Address: netip.MustParseAddrPort("10.201.0.17:9")})
	m.Offers = append(m.Offers,
		wire.Offer{Service: "open", Protocol: wire.DICOM, Port: 104, Target: "192.168.1.2:104"},
		wire.Offer{Service: "fax", Protocol: "fax", Port: 105, Target: "192.168.1.2:104", From: m.Offers[0].From})
	d, err := reconcile.Compile(m, local(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, p := range d.Problems {
		got[strings.TrimPrefix(p.Subject, "service:")] = true
	}
	want := map[string]bool{"far": true, "clash": true, "noport": true, "mode": true, "open": true, "fax": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if len(d.Listeners) != 3 {
		t.Errorf("%d listeners; the good services must still run", len(d.Listeners))
	}
}

func TestCompileRefusesRoutesOutsideThePlan(t *testing.T) {
	m := clinicMap(t)
	m.Peers[0].AllowedIPs = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
	if _, err := reconcile.Compile(m, local(t)); err == nil {
		t.Error("a route to the box's own LAN must be refused, whoever signed it")
	}
	m = clinicMap(t)
	m.Self.Address = netip.MustParseAddr("192.168.1.1")
	if _, err := reconcile.Compile(m, local(t)); err == nil {
		t.Error("an own address outside the plan must be refused")
	}
}

func TestOrderMattersForHL7Only(t *testing.T) {
	if reconcile.Ordered(reconcile.QueueName(wire.DICOM, "pacs")) || !reconcile.Ordered(reconcile.QueueName(wire.HL7, "orders")) {
		t.Error("HL7 queues are ordered and DICOM queues are not")
	}
}

// A person's computer listens on both of its loopback addresses, once each, and delivers once.
func TestSeveralLANAddresses(t *testing.T) {
	l := local(t)
	l.LANAddress, l.LANAlso = netip.MustParseAddr("127.0.0.1"), []netip.Addr{netip.MustParseAddr("::1")}
	d, err := reconcile.Compile(clinicMap(t), l)
	if err != nil {
		t.Fatal(err)
	}
	var lan []string
	for _, x := range d.Listeners {
		if x.Side == reconcile.LAN {
			lan = append(lan, x.Address)
			if x.Protocol == wire.DICOM && len(x.Routes) != 2 {
				t.Errorf("%s serves %v", x.Address, x.Routes)
			}
		}
	}
	if diff := cmp.Diff([]string{"127.0.0.1:11112", "127.0.0.1:2575", "[::1]:11112", "[::1]:2575"}, lan); diff != "" {
		t.Error(diff)
	}
	if len(d.Deliveries) != 2 || len(d.Problems) != 0 {
		t.Errorf("deliveries %v, problems %v", d.Deliveries, d.Problems)
	}
}

func TestNextKeyOfAPeer(t *testing.T) {
	m := clinicMap(t)
	m.Peers[0].NextKey = public(t)
	d, err := reconcile.Compile(m, local(t))
	if err != nil {
		t.Fatal(err)
	}
	if p := d.Tunnel.Peers[1]; p.PublicKey != m.Peers[0].PublicKey || p.Next != m.Peers[0].NextKey {
		t.Errorf("the tunnel has %v and next %v", p.PublicKey, p.Next)
	}
}
