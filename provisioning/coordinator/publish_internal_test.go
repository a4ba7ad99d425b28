package coordinator

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// country is a network of one center and clinics with a box each, which all may use the center's archive.
func country(t testing.TB, clinics int) netmap.Snapshot {
	t.Helper()
	s := netmap.Snapshot{
		Network: "n", Generation: 1,
		Hub: wire.Hub{PublicKey: publicKey(t), Endpoints: []string{"192.0.2.1:51820"}, Address: netip.MustParseAddr("10.0.0.1"), ControlPort: 8080},
		Ranges: []provisioning.Range{
			{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.0.0.0/8")},
			{ID: 2, Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Owner: "hub", Prefix: netip.MustParsePrefix("10.0.0.0/28")},
		},
	}
	addSite(t, &s, 0, wire.Center)
	s.Services = []provisioning.Service{{
		ID: "svc_pacs", Site: "site_0", Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Mode: wire.Queued, Target: "192.168.0.9:104", Port: 11112,
	}}
	for i := 1; i <= clinics; i++ {
		addSite(t, &s, i, wire.Clinic)
		s.Grants = append(s.Grants, provisioning.Grant{Service: "svc_pacs", Site: siteID(i), LANPort: 11112})
	}
	return s
}

func siteID(i int) provisioning.SiteID { return provisioning.SiteID(fmt.Sprintf("site_%d", i)) }
func nodeID(i int) provisioning.NodeID { return provisioning.NodeID(fmt.Sprintf("node_%d", i)) }

func addSite(t testing.TB, s *netmap.Snapshot, i int, kind wire.SiteKind) {
	t.Helper()
	at := netip.AddrFrom4([4]byte{10, byte(1 + i>>12), byte(i >> 4), byte(i << 4)})
	site := provisioning.Site{ID: siteID(i), Name: fmt.Sprintf("s%d", i), Kind: kind}
	if kind == wire.Center {
		site.Endpoint = "192.0.2.2:51820"
	}
	s.Sites = append(s.Sites, site)
	s.Ranges = append(s.Ranges, provisioning.Range{
		ID: int64(10 + i), Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Owner: string(site.ID),
		Prefix: netip.PrefixFrom(at, 28),
	})
	s.Nodes = append(s.Nodes, provisioning.Node{
		ID: nodeID(i), Site: site.ID, Kind: wire.Gateway, PublicKey: publicKey(t), Address: at.Next(),
	})
}

// newQuiet is a coordinator that can prove, and no more.
func newQuiet() *Coordinator { return &Coordinator{now: time.Now, log: slog.New(slog.DiscardHandler)} }

func publicKey(t testing.TB) wgkey.PublicKey {
	t.Helper()
	private, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// of are facts.
func of(s netmap.Snapshot) func() netmap.Snapshot { return func() netmap.Snapshot { return s } }

func published(t testing.TB, p *publisher, s netmap.Snapshot) Proof {
	t.Helper()
	proof, err := p.both(netmap.NewIndex(s), s)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// both takes both steps.
func (p *publisher) both(x *netmap.Index, s netmap.Snapshot) (Proof, error) {
	proof, _, err := p.begin(x, of(s), nil, time.Unix(1, 0))
	if err != nil || len(p.late) == 0 {
		return proof, err
	}
	return p.second(x, proof)
}

// second takes the second step.
func (p *publisher) second(x *netmap.Index, early Proof) (Proof, error) {
	l, err := makeLate(x, p.late, time.Unix(1, 0))
	if err != nil {
		return early, err
	}
	return p.finish(x, l, time.Unix(1, 0), early), nil
}

func TestEveryGenerationIsProven(t *testing.T) {
	for _, clinics := range []int{3, manyLinks + 3} {
		t.Run(fmt.Sprint(clinics), func(t *testing.T) { everyGeneration(t, clinics) })
	}
}

func everyGeneration(t *testing.T, clinics int) {
	p := publisher{tool: "test"}
	s := country(t, clinics)
	check := func(what string) {
		t.Helper()
		s.Generation++
		proof := published(t, &p, s)
		if proof.Certificate == nil || proof.Certificate.Generation != s.Generation || proof.Certificate.Counts.Maps != len(s.Nodes) {
			t.Fatalf("%s: %+v", what, proof)
		}
		x := netmap.NewIndex(s)
		in := prove.Export(s, x.Nodes())
		for _, n := range s.Nodes {
			m, err := x.Compile(n.ID, time.Unix(1, 0), time.Unix(2, 0))
			if err != nil {
				t.Fatal(err)
			}
			in.Maps = append(in.Maps, m)
		}
		if anew, err := prove.Prove(in, prove.Stamp{}); err != nil || anew.Digests != proof.Certificate.Digests || anew.Counts != proof.Certificate.Counts {
			t.Errorf("%s: step by step and at once, the proofs differ: %v", what, err)
		}
	}
	check("at first")
	addSite(t, &s, clinics+1, wire.Clinic)
	check("a new clinic")
	s.Grants = append(s.Grants, provisioning.Grant{Service: "svc_pacs", Site: siteID(clinics + 1), LANPort: 11112})
	check("a new grant")
	s.Nodes = slices.Delete(slices.Clone(s.Nodes), 2, 3)
	check("a removed node")
	s.Services = slices.Clone(s.Services)
	s.Services[0].Port = 104
	check("a moved service")
	s.Ranges = append(s.Ranges, provisioning.Range{ID: 3, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.200.0.0/16")})
	check("a nested pool")
}

// TestLargeMapsAreProvenLater holds that the maps of clinics do not wait for that of their center, which is not published before its proof.
func TestLargeMapsAreProvenLater(t *testing.T) {
	s := country(t, manyLinks)
	c := newQuiet()
	first := c.prove(netmap.NewIndex(s), of(s), nil)
	c.draw(first)
	if want := map[provisioning.NodeID]bool{nodeID(0): true}; !maps.Equal(first.late, want) || first.proof.Certificate != nil || len(first.proof.CounterExamples) > 0 {
		t.Fatalf("late are %v, the proof is %+v", first.late, first.proof)
	}
	if x := c.ready(first, nodeID(1)); x != first {
		t.Error("a clinic waits")
	}
	s.Generation++
	addSite(t, &s, manyLinks+1, wire.Clinic)
	second := c.prove(netmap.NewIndex(s), of(s), nil)
	c.draw(second)
	if len(second.late) != 1 {
		t.Error("what was late is forgotten")
	}
	x := c.ready(first, nodeID(0))
	if x == first || x.Generation() != s.Generation || len(x.late) > 0 || x.proof.Certificate == nil || x.proof.Certificate.Counts.Maps != len(s.Nodes) {
		t.Fatalf("the center has generation %d, late are %v, the proof is %+v", x.Generation(), x.late, x.proof)
	}
	if c.settle(second) != x || !x.touches(nodeID(manyLinks+1), first.Generation()) || x.touches(nodeID(3), first.Generation()) {
		t.Error("there is another picture, or it does not know whom the step before concerned")
	}

	// A center that may not be told its map is held, when its time has come.
	wrong := s
	wrong.Generation++
	wrong.Services = slices.Clone(s.Services)
	wrong.Services[0].Port++
	third := c.prove(netmap.NewIndex(s), of(wrong), nil)
	c.draw(third)
	if third.proof.Holds(nodeID(0)) || !third.proof.Holds(nodeID(1)) {
		t.Errorf("at first, held are %v", third.proof.Held)
	}
	x = c.ready(third, nodeID(0))
	if !x.proof.Holds(nodeID(0)) || !x.proof.Holds(nodeID(1)) || x.proof.HeldAll || x.proof.Holds(nodeID(manyLinks+1)) {
		t.Errorf("held are %v, all %v: %+v", x.proof.Held, x.proof.HeldAll, x.proof.CounterExamples)
	}
}

// A compiler that believes one clinic to be a center lets two clinics meet.
func TestUnsafeMapsAreHeld(t *testing.T) {
	s := country(t, 3)
	s.Services = append(s.Services, provisioning.Service{
		ID: "svc_x", Site: siteID(2), Name: "x", Protocol: wire.DICOM, AETitle: "X", Mode: wire.Queued, Target: "192.168.0.9:104", Port: 11113,
	})
	wrong := s
	wrong.Sites = slices.Clone(s.Sites)
	wrong.Sites[2].Kind = wire.Center
	wrong.Grants = append(slices.Clone(s.Grants), provisioning.Grant{Service: "svc_x", Site: siteID(3), LANPort: 11113})
	x := netmap.NewIndex(wrong)
	proof, err := (&publisher{}).both(x, s)
	if err != nil {
		t.Fatal(err)
	}
	if proof.Certificate != nil || proof.HeldAll {
		t.Fatalf("two clinics that meet are %+v", proof)
	}
	if want := []provisioning.NodeID{nodeID(2), nodeID(3)}; !slices.Equal(proof.Held, want) {
		t.Errorf("held are %v, want %v: %+v", proof.Held, want, proof.CounterExamples)
	}
	c := &Coordinator{now: time.Now}
	for i, held := range []bool{false, false, true, true} {
		_, _, err := c.compile(&picture{Index: x, proof: proof}, nodeID(i))
		if (err != nil) != held {
			t.Errorf("the map of node %d: %v, want it held = %v", i, err, held)
		}
	}
}

func TestWhatIsOnlyMissingIsNotHeld(t *testing.T) {
	s := country(t, 2)
	s.Nodes[1].PublicKey = wgkey.PublicKey{}
	proof := published(t, &publisher{}, s)
	if proof.Certificate != nil || len(proof.CounterExamples) == 0 {
		t.Errorf("a node without a key is proven: %+v", proof)
	}
	if proof.HeldAll || proof.Holds(nodeID(0)) || proof.Holds(nodeID(2)) {
		t.Errorf("one broken node holds others: %v %+v", proof.Held, proof.CounterExamples)
	}
}

func TestWhoseMapsAreHeld(t *testing.T) {
	for name, c := range map[string]struct {
		refuted prove.RefutedError
		held    []provisioning.NodeID
		all     bool
	}{
		"what is not listed may be unsafe": {
			prove.RefutedError{Total: 2, CounterExamples: []prove.CounterExample{{Statement: prove.Reachable, Node: "node_1"}}}, nil, true,
		},
		"an overlap in the plan concerns all": {
			prove.RefutedError{Total: 1, CounterExamples: []prove.CounterExample{{Statement: prove.Disjoint}}}, nil, true,
		},
		"what does not work is safe": {
			prove.RefutedError{Total: 1, CounterExamples: []prove.CounterExample{{Statement: prove.Reachable, Node: "node_1"}}}, nil, false,
		},
		"a peer too many concerns its node": {
			prove.RefutedError{Total: 1, CounterExamples: []prove.CounterExample{{Statement: prove.Deny, Node: "node_1"}}}, []provisioning.NodeID{"node_1"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if held, all := unsafe(&c.refuted); !slices.Equal(held, c.held) || all != c.all {
				t.Errorf("held are %v, all = %v", held, all)
			}
		})
	}
}

// BenchmarkPublish is what one change costs before it reaches the boxes: one operation adds a clinic with a box and a grant, or takes it
// away again.
func BenchmarkPublish(b *testing.B) {
	for _, clinics := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("clinics=%d", clinics), func(b *testing.B) {
			small := country(b, clinics)
			large := small
			large.Sites, large.Nodes = slices.Clone(small.Sites), slices.Clone(small.Nodes)
			large.Ranges, large.Grants = slices.Clone(small.Ranges), slices.Clone(small.Grants)
			addSite(b, &large, clinics+1, wire.Clinic)
			large.Grants = append(large.Grants, provisioning.Grant{Service: "svc_pacs", Site: siteID(clinics + 1), LANPort: 11112})
			x := netmap.NewIndex(small)
			last := func(s netmap.Snapshot) (provisioning.Site, provisioning.Node, provisioning.Range, provisioning.Grant) {
				return s.Sites[len(s.Sites)-1], s.Nodes[len(s.Nodes)-1], s.Ranges[len(s.Ranges)-1], s.Grants[len(s.Grants)-1]
			}
			site, node, room, grant := last(large)
			id := grantID{Service: grant.Service, Site: grant.Site}
			steps := []*netStep{{
				sites: map[provisioning.SiteID]*provisioning.Site{site.ID: nil}, nodes: map[provisioning.NodeID]*provisioning.Node{node.ID: nil},
				ranges: map[int64]*provisioning.Range{room.ID: nil}, grants: map[grantID]*provisioning.Grant{id: nil},
			}, {
				sites: map[provisioning.SiteID]*provisioning.Site{site.ID: &site}, nodes: map[provisioning.NodeID]*provisioning.Node{node.ID: &node},
				ranges: map[int64]*provisioning.Range{room.ID: &room}, grants: map[grantID]*provisioning.Grant{id: &grant},
			}}
			var p publisher
			if _, err := p.both(x, small); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			var clinic time.Duration
			for i := 0; b.Loop(); i++ {
				k := (i + 1) % 2
				start := time.Now()
				x = x.Change(steps[k].change())
				proof, affected, err := p.begin(x, x.Snapshot, steps[k], time.Unix(1, 0))
				clinic += time.Since(start)
				if err == nil && len(p.late) > 0 {
					proof, err = p.second(x, proof)
				}
				if err != nil || proof.Certificate == nil || len(affected) != 2 {
					b.Fatal(proof, affected, err)
				}
			}
			b.ReportMetric(float64(clinic.Microseconds())/1000/float64(b.N), "ms-to-clinic")
		})
	}
}

func TestHeldMapsAreFindings(t *testing.T) {
	for name, c := range map[string]struct {
		proof Proof
		want  []provisioning.NodeID
	}{
		"one":  {Proof{Held: []provisioning.NodeID{nodeID(2)}}, []provisioning.NodeID{nodeID(2)}},
		"all":  {Proof{HeldAll: true}, []provisioning.NodeID{""}},
		"none": {Proof{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := finder{s: country(t, 2), proof: c.proof}
			var got []provisioning.NodeID
			for _, x := range f.find() {
				if x.Code == FindingHeld && x.Severity == severityError && x.Proposal != "" {
					got = append(got, x.Node)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("held are %v, want %v", got, c.want)
			}
		})
	}
}
