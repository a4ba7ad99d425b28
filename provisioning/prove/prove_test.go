package prove_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
)

func TestASoundNetworkIsProven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := compiled(t, genSnapshot().Draw(t, "network"))
		c, err := prove.Prove(in, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Proven) != 8 || c.Format != prove.Format || c.Network != "net" || c.Generation != 7 || !c.Generated.Equal(issued) || c.Tool != stamp.Tool {
			t.Fatalf("got %+v", c)
		}
		if c.Counts.Maps != len(in.Nodes) || c.Counts.Sites != len(in.Sites) || c.Counts.Ranges != len(in.Plan.Entries) || c.Counts.Grants != len(in.Grants) {
			t.Fatalf("got %+v", c.Counts)
		}
		other := cloned(t, in)
		slices.Reverse(other.Maps)
		slices.Reverse(other.Sites)
		slices.Reverse(other.Plan.Entries)
		for i := range other.Maps {
			other.Maps[i].Generation++
		}
		if d, err := prove.Prove(other, stamp); err != nil || d.Digests != c.Digests {
			t.Fatalf("the order of the input matters: %v, %+v and %+v", err, d, c)
		}
	})
}

func TestCertificateCountsAndAssumes(t *testing.T) {
	s := large(t, 3)
	s.Sites[0].Endpoint = ""
	s.Services[0].Target = "pacs.example:104"
	s.Nodes = s.Nodes[:3]
	c, err := prove.Prove(compiled(t, s), stamp)
	if err != nil {
		t.Fatal(err)
	}
	want := prove.Counts{
		Pools: 3, Ranges: 14, Allocations: 6, Sites: 4, Clinics: 3, ClinicPairs: 3, Nodes: 3, Services: 4, Grants: 6, PendingGrants: 2,
		Maps: 3, Peers: 4, AllowedIPs: 4, Offers: 3, Uses: 4,
	}
	if d := cmp.Diff(want, c.Counts); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	text := strings.Join(c.Assumed, "\n")
	if !strings.Contains(text, "1 offers name their target") || !strings.Contains(text, "4 times a node may use a service and neither side has an endpoint") {
		t.Errorf("assumed is\n%s", text)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back prove.Certificate
	if err := json.Unmarshal(b, &back); err != nil || !cmp.Equal(c, back) {
		t.Errorf("%s is read as %+v, %v", b, back, err)
	}
}

func TestRefutedNamesWhatIsWrong(t *testing.T) {
	in := compiled(t, large(t, 2))
	in.Plan.Entries = append(in.Plan.Entries, in.Plan.Entries[11])
	last := &in.Plan.Entries[len(in.Plan.Entries)-1]
	last.Owner, last.Line = "name9", 12
	in.Maps[1].Peers[0] = in.Maps[0].Peers[1]
	_, err := prove.Prove(in, stamp)
	bad, ok := errors.AsType[*prove.RefutedError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, c := range bad.CounterExamples {
		got = append(got, c.Statement+": "+c.String())
	}
	for _, want := range []string{
		"ranges-disjoint: line 12: 10.0.0.32/28 of name9 overlaps 10.0.0.32/28 of name1",
		"clinics-isolated: the map of node node1-0 of the clinic name1 holds the key of node node2-0 of the clinic name2",
		"grants-reachable: node node1-0 of name1 cannot use offer0 of name0: 10.0.0.17 is not an allowed IP of exactly one peer",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, strings.Join(got, "\n"))
		}
	}
	if bad.Total != len(got) || !strings.Contains(err.Error(), "more)") {
		t.Errorf("%d of %d: %v", len(got), bad.Total, err)
	}
}

func TestUpdateRefusesToRemoveWhatIsNotThere(t *testing.T) {
	in := compiled(t, large(t, 2))
	for name, remove := range map[string]prove.Input{
		"site": {Sites: in.Sites[:1]}, "node": {Nodes: in.Nodes[:1]}, "service": {Services: in.Services[:1]}, "grant": {Grants: in.Grants[:1]},
		"hub peer": {HubPeers: in.HubPeers[:1]}, "range": {Plan: in.Plan},
	} {
		p, err := prove.NewProver()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Update(remove, prove.Input{}); !errors.Is(err, prove.ErrUnknown) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNothingIsNoNetwork(t *testing.T) {
	if _, err := prove.Prove(prove.Input{}, stamp); err == nil || !strings.Contains(err.Error(), "nothing is known of the hub") {
		t.Errorf("got %v", err)
	}
}

func TestBadGrantsAreRefuted(t *testing.T) {
	for name, add := range map[string]prove.Grant{
		"two clinics":   {Service: "offer1", Site: "name2", LANPort: 9},
		"no service":    {Service: "offer9", Site: "name2", LANPort: 9},
		"no site":       {Service: "offer0", Site: "name9", LANPort: 9},
		"no port":       {Service: "offer2", Site: "name0"},
		"twice":         {Service: "offer2", Site: "name0", LANPort: 2575},
		"no map has it": {Service: "offer0", Site: "name2", LANPort: 105},
	} {
		s := large(t, 2)
		if name == "no map has it" {
			s.Grants = slices.DeleteFunc(s.Grants, func(g provisioning.Grant) bool { return g.Service == "svc0" && g.Site == "site2" })
		}
		in := compiled(t, s)
		in.Grants = append(in.Grants, add)
		_, err := prove.Prove(in, stamp)
		if _, ok := errors.AsType[*prove.RefutedError](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func BenchmarkProve10000Sites(b *testing.B) {
	for name, s := range map[string]netmap.Snapshot{"plain": large(b, 10_000), "mapped": mapped(large(b, 10_000))} {
		b.Run(name, func(b *testing.B) {
			in := compiled(b, s)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := prove.Prove(in, stamp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// mapped gives every clinic a mapping, and what its box reports.
func mapped(s netmap.Snapshot) netmap.Snapshot {
	at := prefix("10.80.0.0/28").Addr().As4()
	for i := range s.Sites {
		base := binary.BigEndian.Uint32(at[:]) + uint32(i)<<4
		r := allot(&s, i, provisioning.PurposeMapped, netip.PrefixFrom(v4(base), 28))
		r.ID, r.Label, r.Maps = int64(1_000_000+i), "", prefix("192.168.178.0/28")
		s.Ranges = append(s.Ranges, provisioning.Range{
			ID: int64(2_000_000 + i), Kind: provisioning.RangeReported, Purpose: provisioning.PurposeWAN, Owner: r.Owner, Prefix: prefix("203.0.113.0/24"),
		})
	}
	return s
}

// BenchmarkNextGeneration is what publishing costs when a clinic with a node and a grant comes, or goes again: Export, Between, Affected, the
// maps of the center and of the clinic, Update and Prove. The picture of the network itself is made before.
func BenchmarkNextGeneration(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		for name, enrich := range map[string]func(netmap.Snapshot) netmap.Snapshot{
			"plain": func(s netmap.Snapshot) netmap.Snapshot { return s }, "mapped": mapped,
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				few, many := enrich(large(b, n-1)), enrich(large(b, n))
				pictures := []*netmap.Index{netmap.NewIndex(few), netmap.NewIndex(many)}
				snapshots := []netmap.Snapshot{few, many}
				g := newGenerations(b)
				if _, err := g.prove(b, pictures[0], few); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					k := (i + 1) % 2
					if _, err := g.prove(b, pictures[k], snapshots[k]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkAffected is what it costs to find out that a clinic came, of the above.
func BenchmarkAffected(b *testing.B) {
	few, many := mapped(large(b, 9_999)), mapped(large(b, 10_000))
	from, to := prove.Export(few, netmap.NewIndex(few).Nodes()), prove.Export(many, netmap.NewIndex(many).Nodes())
	b.Run("between", func(b *testing.B) {
		for b.Loop() {
			prove.Between(from, to)
		}
	})
	b.Run("affected", func(b *testing.B) {
		for b.Loop() {
			if got := prove.Affected(from, to); len(got) != 2 {
				b.Fatalf("%d nodes are affected", len(got))
			}
		}
	})
	b.Run("export", func(b *testing.B) {
		nodes := netmap.NewIndex(many).Nodes()
		for b.Loop() {
			prove.Export(many, nodes)
		}
	})
}

// BenchmarkOneMoreClinic adds the last of n clinics and takes it away again: two updates with the center's map and one clinic's.
func BenchmarkOneMoreClinic(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(map[int]string{100: "100", 1000: "1000", 10_000: "10000"}[n], func(b *testing.B) {
			few, many := compiled(b, large(b, n-1)), compiled(b, large(b, n))
			p, err := prove.NewProver()
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Update(prove.Input{}, few); err != nil {
				b.Fatal(err)
			}
			if _, err := p.Prove(stamp); err != nil {
				b.Fatal(err)
			}
			more, less := prove.Between(few, many), prove.Between(many, few)
			for b.Loop() {
				for _, d := range []prove.Delta{more, less} {
					if err := p.Update(d.Remove, d.Add); err != nil {
						b.Fatal(err)
					}
					if _, err := p.Prove(stamp); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func refuted(t *testing.T, err error) *prove.RefutedError {
	t.Helper()
	bad, ok := errors.AsType[*prove.RefutedError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	return bad
}
