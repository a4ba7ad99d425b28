package prove_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// generations proves one picture after another as a publisher does: it compiles the maps of the nodes that are affected, and no other.
type generations struct {
	prover *prove.Prover
	last   prove.Input
	// late says whose maps come in a second step; nil means nobody's.
	late func(id string) bool
}

func newGenerations(t fataler) *generations {
	p, err := prove.NewProver()
	if err != nil {
		t.Fatal(err)
	}
	return &generations{prover: p}
}

func (g *generations) prove(t fataler, x *netmap.Index, s netmap.Snapshot) (prove.Certificate, error) {
	next := prove.Export(s, x.Nodes())
	d := prove.Between(g.last, next)
	late := map[string]bool{}
	compile := func(d *prove.Delta, id string) {
		d.Remove.Maps = append(d.Remove.Maps, wire.NetMap{Self: wire.Self{Node: id}})
		if m, err := x.Compile(provisioning.NodeID(id), issued, issued.Add(time.Hour)); err == nil {
			d.Add.Maps = append(d.Add.Maps, m)
		}
	}
	for _, id := range prove.Affected(g.last, next) {
		if g.late != nil && g.late(id) {
			late[id] = true
			continue
		}
		compile(&d, id)
	}
	update := func(d prove.Delta) {
		if err := g.prover.Update(d.Remove, d.Add); err != nil {
			t.Fatal(err)
		}
	}
	update(d)
	g.last = next
	if len(late) == 0 {
		return g.prover.Prove(stamp)
	}
	early := g.prover.Without(late)
	d = prove.Delta{}
	for id := range late {
		compile(&d, id)
	}
	update(d)
	c, err := g.prover.Prove(stamp)
	g.foreseen(t, early, err, late)
	return c, err
}

// foreseen holds that what was known before the late maps came is what is unsafe, but for these.
func (g *generations) foreseen(t fataler, early []prove.CounterExample, err error, late map[string]bool) {
	var want []prove.CounterExample
	if bad, ok := errors.AsType[*prove.RefutedError](err); ok {
		if bad.Total > len(bad.CounterExamples) {
			return
		}
		want = bad.CounterExamples
	}
	unsafe := func(list []prove.CounterExample) string {
		var out []string
		for _, c := range list {
			if c.Safety() && !late[c.Node] {
				out = append(out, c.Text)
			}
		}
		return strings.Join(out, "\n")
	}
	if a, b := unsafe(early), unsafe(want); a != b {
		t.Fatal("before the late maps, unsafe was\n" + a + "\nand with them\n" + b)
	}
}

// whole is the input with the maps of all nodes that have one.
func whole(x *netmap.Index, s netmap.Snapshot) prove.Input {
	in := prove.Export(s, x.Nodes())
	for _, n := range s.Nodes {
		if m, err := x.Compile(n.ID, issued, issued.Add(time.Hour)); err == nil {
			in.Maps = append(in.Maps, m)
		}
	}
	return in
}

// steps are what may happen to a network from one generation to the next, things that no coordinator would let happen included.
func steps() map[string]func(*rapid.T, *netmap.Snapshot) {
	number := func(t *rapid.T, s *netmap.Snapshot) int { return rapid.IntRange(0, len(s.Sites)+1).Draw(t, "site") }
	inNode := func(change func(*rapid.T, *provisioning.Node)) func(*rapid.T, *netmap.Snapshot) {
		return func(t *rapid.T, s *netmap.Snapshot) {
			if n := pick(t, s.Nodes, every); n != nil {
				change(t, n)
			}
		}
	}
	inService := func(change func(*rapid.T, *provisioning.Service)) func(*rapid.T, *netmap.Snapshot) {
		return func(t *rapid.T, s *netmap.Snapshot) {
			if v := pick(t, s.Services, every); v != nil {
				change(t, v)
			}
		}
	}
	inRange := func(kind provisioning.RangeKind, change func(*rapid.T, *provisioning.Range)) func(*rapid.T, *netmap.Snapshot) {
		return func(t *rapid.T, s *netmap.Snapshot) {
			if r := pick(t, s.Ranges, func(r provisioning.Range) bool { return r.Kind == kind && r.ID > 3 }); r != nil {
				change(t, r)
			}
		}
	}
	address := func(t *rapid.T) netip.Addr {
		return v4(10<<24 | uint32(rapid.SampledFrom([]int{0, 70, 71, 72}).Draw(t, "net"))<<16 | uint32(rapid.IntRange(0, 130).Draw(t, "host")))
	}
	return map[string]func(*rapid.T, *netmap.Snapshot){
		"add a site": func(t *rapid.T, s *netmap.Snapshot) {
			addSite(s, len(s.Sites), rapid.SampledFrom([]wire.SiteKind{wire.Clinic, wire.Center}).Draw(t, "kind"), rapid.IntRange(0, 2).Draw(t, "nodes"))
		},
		"remove a site":    func(t *rapid.T, s *netmap.Snapshot) { dropOne(t, &s.Sites) },
		"remove a node":    func(t *rapid.T, s *netmap.Snapshot) { dropOne(t, &s.Nodes) },
		"remove a service": func(t *rapid.T, s *netmap.Snapshot) { dropOne(t, &s.Services) },
		"remove a grant":   func(t *rapid.T, s *netmap.Snapshot) { dropOne(t, &s.Grants) },
		"remove a range":   func(t *rapid.T, s *netmap.Snapshot) { dropOne(t, &s.Ranges) },
		"add a service": func(t *rapid.T, s *netmap.Snapshot) {
			v := service(rapid.IntRange(0, 9).Draw(t, "number"), number(t, s), rapid.SampledFrom([]wire.Protocol{wire.DICOM, wire.HL7}).Draw(t, "protocol"))
			if !slices.ContainsFunc(s.Services, func(o provisioning.Service) bool { return o.ID == v.ID }) {
				s.Services = append(s.Services, v)
			}
		},
		"add a grant": func(t *rapid.T, s *netmap.Snapshot) {
			if v := pick(t, s.Services, every); v != nil {
				s.Grants = append(s.Grants, provisioning.Grant{
					Service: v.ID, Site: provisioning.SiteID(fmt.Sprintf("site%d", number(t, s))), LANPort: rapid.SampledFrom([]uint16{0, 104, 2575}).Draw(t, "port"),
					Created: issued.Add(time.Duration(len(s.Grants)) * time.Second),
				})
			}
		},
		"map":      func(t *rapid.T, s *netmap.Snapshot) { mapLAN(s, number(t, s), rapid.IntRange(0, 1).Draw(t, "half")) },
		"renumber": func(t *rapid.T, s *netmap.Snapshot) { renumber(s, number(t, s)) },
		"fix": func(t *rapid.T, s *netmap.Snapshot) {
			fixAddresses(s, number(t, s), func(int) bool { return rapid.Bool().Draw(t, "this") })
		},
		"add a pool": func(t *rapid.T, s *netmap.Snapshot) {
			s.Ranges = append(s.Ranges, provisioning.Range{ID: int64(2000 + len(s.Ranges)), Kind: provisioning.RangePool, Prefix: prefix("10.64.0.0/13")})
		},
		"report": func(t *rapid.T, s *netmap.Snapshot) {
			s.Ranges = append(s.Ranges, provisioning.Range{
				ID: int64(2000 + len(s.Ranges)), Kind: provisioning.RangeReported, Purpose: provisioning.PurposeWAN, Owner: fmt.Sprintf("site%d", number(t, s)),
				Prefix: rapid.SampledFrom([]netip.Prefix{prefix("203.0.113.0/29"), prefix("10.0.0.0/24")}).Draw(t, "prefix"),
			})
		},
		"age a service": inService(func(t *rapid.T, v *provisioning.Service) {
			v.Created = v.Created.Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "hours")) * time.Hour)
		}),
		"change a port": inService(func(t *rapid.T, v *provisioning.Service) {
			v.Port = uint16(rapid.IntRange(11000, 11003).Draw(t, "port"))
		}),
		"rename a service": inService(func(t *rapid.T, v *provisioning.Service) {
			v.Name = fmt.Sprintf("offer%d", rapid.IntRange(0, 5).Draw(t, "name"))
		}),
		"change a door": inService(func(t *rapid.T, v *provisioning.Service) {
			v.AETitle = fmt.Sprintf("AE%d", rapid.IntRange(0, 5).Draw(t, "title"))
		}),
		"retarget": inService(func(t *rapid.T, v *provisioning.Service) {
			v.Target = fmt.Sprintf("192.168.178.%d:104", rapid.IntRange(9, 12).Draw(t, "host"))
		}),
		"readdress":         inService(func(t *rapid.T, v *provisioning.Service) { v.Address = address(t) }),
		"change a key":      inNode(func(t *rapid.T, n *provisioning.Node) { n.PublicKey = keyOf(rapid.IntRange(-1, 40).Draw(t, "key")) }),
		"move a node":       inNode(func(t *rapid.T, n *provisioning.Node) { n.Address = address(t) }),
		"end a renumbering": inNode(func(_ *rapid.T, n *provisioning.Node) { n.Former = netip.Addr{} }),
		"invent a former":   inNode(func(t *rapid.T, n *provisioning.Node) { n.Former = address(t) }),
		"release":           inRange(provisioning.RangeAllocation, func(_ *rapid.T, r *provisioning.Range) { r.Owner, r.Until, r.Label = "", issued, "" }),
		"end an allocation": inRange(provisioning.RangeAllocation, func(_ *rapid.T, r *provisioning.Range) { r.Until = issued }),
		"take over": inRange(provisioning.RangeAllocation, func(t *rapid.T, r *provisioning.Range) {
			r.Owner = fmt.Sprintf("site%d", rapid.IntRange(0, 4).Draw(t, "owner"))
		}),
		"widen": inRange(provisioning.RangeAllocation, func(_ *rapid.T, r *provisioning.Range) { r.Prefix = netip.PrefixFrom(r.Prefix.Addr(), 24).Masked() }),
		"change a kind": func(t *rapid.T, s *netmap.Snapshot) {
			pickSite(t, s).Kind = rapid.SampledFrom([]wire.SiteKind{wire.Clinic, wire.Center}).Draw(t, "kind")
		},
		"change an endpoint": func(t *rapid.T, s *netmap.Snapshot) {
			pickSite(t, s).Endpoint = rapid.SampledFrom([]string{"", "a:1", "b:1"}).Draw(t, "endpoint")
		},
		"rename a site": func(t *rapid.T, s *netmap.Snapshot) { pickSite(t, s).Name = fmt.Sprintf("name%d", number(t, s)) },
		"add a member": func(t *rapid.T, s *netmap.Snapshot) {
			kind := rapid.SampledFrom([]wire.NodeKind{wire.Gateway, wire.Relay, wire.Workstation, wire.Unmanaged}).Draw(t, "kind")
			dialIn(s, number(t, s), len(s.Nodes), kind, 1)
		},
		"change a member": inNode(func(t *rapid.T, n *provisioning.Node) {
			n.Kind = rapid.SampledFrom([]wire.NodeKind{wire.Gateway, wire.Relay, wire.Workstation, wire.Unmanaged, "odd"}).Draw(t, "kind")
		}),
		"change a state": inNode(func(t *rapid.T, n *provisioning.Node) {
			n.State = rapid.SampledFrom([]provisioning.NodeState{provisioning.NodeActive, provisioning.NodeWaiting, provisioning.NodeQuarantined}).Draw(t, "state")
		}),
		"rotate": inNode(func(t *rapid.T, n *provisioning.Node) {
			rotate(n, rapid.SampledFrom([]wire.RotateStep{"", wire.RotateMake, wire.RotateWait, wire.RotateTurn, "odd"}).Draw(t, "step"))
		}),
		"end a rotation": inNode(func(_ *rapid.T, n *provisioning.Node) {
			if n.Rotate == wire.RotateTurn {
				n.PublicKey = n.NextKey
			}
			rotate(n, "")
		}),
		"claim a next key": inNode(func(t *rapid.T, n *provisioning.Node) {
			n.Rotate, n.NextKey = wire.RotateWait, keyOf(rapid.IntRange(-1, 40).Draw(t, "key"))
		}),
		"sign": inNode(func(t *rapid.T, n *provisioning.Node) {
			n.Member = &wire.SignedMember{Payload: []byte(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "member"))}
		}),
		"move the public address": func(t *rapid.T, s *netmap.Snapshot) {
			s.Hub.URLs = []string{rapid.SampledFrom([]string{"http://a", "http://b"}).Draw(t, "url")}
		},
		"move the hub": func(t *rapid.T, s *netmap.Snapshot) {
			s.Hub.Endpoints = []string{rapid.SampledFrom([]string{"hub:1", "hub:2"}).Draw(t, "endpoint")}
		},
	}
}

func pickSite(t *rapid.T, s *netmap.Snapshot) *provisioning.Site {
	if v := pick(t, s.Sites, every); v != nil {
		return v
	}
	return &provisioning.Site{}
}

func dropOne[T any](t *rapid.T, list *[]T) {
	if len(*list) > 0 {
		i := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
		*list = slices.Delete(*list, i, i+1)
	}
}

func copied(s netmap.Snapshot) netmap.Snapshot {
	s.Sites, s.Nodes, s.Services = slices.Clone(s.Sites), slices.Clone(s.Nodes), slices.Clone(s.Services)
	s.Grants, s.Ranges = slices.Clone(s.Grants), slices.Clone(s.Ranges)
	return s
}

// TestEachGenerationIsProvenAsIfAlone walks through networks, sound ones and such as no coordinator lets come to be. It holds that only the
// maps of affected nodes change, and that proving step by step says what proving all at once says.
func TestEachGenerationIsProvenAsIfAlone(t *testing.T) {
	all := steps()
	names := slices.Sorted(maps.Keys(all))
	proven, refuted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "network")
		g := newGenerations(t)
		before := netmap.NewIndex(netmap.Snapshot{})
		var known prove.Input
		for range rapid.IntRange(1, 10).Draw(t, "generations") {
			x := netmap.NewIndex(s)
			next := prove.Export(s, x.Nodes())
			stays(t, before, x, known, next)
			g.late = func(string) bool { return rapid.Bool().Draw(t, "late") }
			got, gotErr := g.prove(t, x, s)
			want, wantErr := prove.Prove(whole(x, s), stamp)
			if a, b := answer(t, got, gotErr), answer(t, want, wantErr); a != b {
				t.Fatalf("step by step and at once differ:\n%s", cmp.Diff(a, b))
			}
			if gotErr == nil {
				proven++
			} else {
				refuted++
			}
			before, known = x, next
			s = copied(s)
			for range rapid.IntRange(1, 2).Draw(t, "steps") {
				all[rapid.SampledFrom(names).Draw(t, "step")](t, &s)
			}
		}
	})
	if total := proven + refuted; proven < total/20 || refuted < total/20 {
		t.Errorf("%d were proven and %d refuted, too few to say anything", proven, refuted)
	}
}

// stays holds that the maps of nodes that are not affected are the same, or not there, in both.
func stays(t interface {
	fataler
	Fatalf(string, ...any)
}, a, b *netmap.Index, from, to prove.Input,
) []string {
	affected := prove.Affected(from, to)
	if !slices.IsSorted(affected) || len(slices.Compact(slices.Clone(affected))) != len(affected) {
		t.Fatalf("affected are %v", affected)
	}
	compiled := func(x *netmap.Index, id string) string {
		m, err := x.Compile(provisioning.NodeID(id), issued, issued)
		if err != nil {
			return "none"
		}
		h, err := netmap.Hash(m)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", h)
	}
	for _, n := range slices.Concat(from.Nodes, to.Nodes) {
		if _, ok := slices.BinarySearch(affected, n.ID); !ok && compiled(a, n.ID) != compiled(b, n.ID) {
			t.Fatalf("the map of %s changes, affected are %v", n.ID, affected)
		}
	}
	return affected
}
