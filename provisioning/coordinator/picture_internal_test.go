package coordinator

import (
	"fmt"
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
)

func TestWhomAStepConcerns(t *testing.T) {
	at := func(gen uint64) *netmap.Index { return netmap.NewIndex(netmap.Snapshot{Generation: gen}) }
	var first *picture
	p5 := first.follow(at(5), Proof{Held: []provisioning.NodeID{"held"}}, []string{"a", "b", "held"}, nil)
	p6 := p5.follow(at(6), Proof{Held: []provisioning.NodeID{"held"}}, []string{"a"}, nil)
	p8 := p6.follow(at(8), Proof{Held: []provisioning.NodeID{"other"}}, []string{"b"}, nil)
	all := p8.follow(at(9), Proof{HeldAll: true}, nil, nil)
	after := all.follow(at(10), Proof{}, nil, nil)
	for _, tc := range []struct {
		what string
		p    *picture
		id   provisioning.NodeID
		have uint64
		want bool
	}{
		{"it is the same picture", p6, "a", 6, false},
		{"its map may differ", p6, "a", 5, true},
		{"another's may", p6, "b", 5, false},
		{"it is held as before", p6, "held", 5, false},
		{"it is held no more", p8, "held", 6, true},
		{"it is held now", p8, "other", 6, true},
		{"two steps, the older one", p8, "a", 5, true},
		{"two steps, the newer one", p8, "b", 5, true},
		{"two steps, neither", p8, "c", 5, false},
		{"not the newer one", p8, "a", 6, false},
		{"a step before the first picture", p8, "c", 4, true},
		{"a generation between two pictures", p8, "c", 7, true},
		{"it has nothing", p6, "c", 0, true},
		{"all are held", all, "c", 8, true},
		{"none is held any more", after, "c", 9, true},
		{"the first picture", p5, "c", 4, true},
	} {
		if got := tc.p.touches(tc.id, tc.have); got != tc.want {
			t.Errorf("%s: %v", tc.what, got)
		}
	}
}

func TestAPictureForgetsOldSteps(t *testing.T) {
	var p *picture
	for gen := range uint64(3 * maxSteps) {
		p = p.follow(netmap.NewIndex(netmap.Snapshot{Generation: gen + 1}), Proof{}, []string{fmt.Sprint(gen)}, nil)
	}
	newest := p.Generation()
	if len(p.steps) != maxSteps || p.touches("x", newest-maxSteps) || !p.touches("x", newest-maxSteps-1) {
		t.Errorf("it knows %d steps, from %d to %d", len(p.steps), p.steps[0].from, newest)
	}
}

// TestWhatIsUnprovenIsHeld holds that a picture that cannot be proven wakes everybody, and publishes nothing.
func TestWhatIsUnprovenIsHeld(t *testing.T) {
	s := country(t, 2)
	x := netmap.NewIndex(s)
	c := newQuiet()
	c.draw(c.prove(x, of(s), nil))
	// The prover cannot follow what it does not know.
	wrong := s
	wrong.Sites = append(slices.Clone(s.Sites), provisioning.Site{ID: "lost", Name: "lost"})
	c.publisher.facts = of(wrong)
	s.Generation++
	broken := c.prove(netmap.NewIndex(s), of(s), nil)
	if !broken.proof.HeldAll || len(broken.late) > 0 || !broken.touches(nodeID(1), 1) {
		t.Fatalf("the proof is %+v, late are %v", broken.proof, broken.late)
	}
	if _, _, err := c.compile(broken, nodeID(1)); err == nil {
		t.Error("a map is given out")
	}
	c.draw(broken)
	s.Generation++
	if p := c.prove(netmap.NewIndex(s), of(s), nil); p.proof.Certificate == nil || !p.touches(nodeID(1), 2) {
		t.Errorf("the next one does not begin anew: %+v", p.proof)
	}
}
