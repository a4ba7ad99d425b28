package gateway

import (
	"errors"
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
)

func TestChangeIsStoredWhole(t *testing.T) {
	b := newBox(t)
	old := b.have()
	if !old.Diffs || old.Generation != 5 || old.Hash.IsZero() {
		t.Fatalf("the box says it has %+v", old)
	}
	next := b.m
	next.Generation = 8
	next.Peers = []wire.Peer{{Node: "node_b", Site: "lab", PublicKey: [32]byte{7}}}
	signed := b.signed(t, next, b.key)
	change, err := signed.Since(old.Hash, b.m, next)
	if err != nil {
		t.Fatal(err)
	}

	wrong := change
	wrong.Signature = slices.Clone(change.Signature)
	wrong.Signature[0] ^= 1
	if err := b.frame(wire.Frame{Generation: 8, Change: &wrong}); !errors.Is(err, wire.ErrMisfit) {
		t.Errorf("a change that nobody signed: %v", err)
	}
	if err := b.frame(wire.Frame{Generation: 8, Hash: signed.Hash()}); !errors.Is(err, wire.ErrMisfit) {
		t.Errorf("another map is due: %v", err)
	}
	if m, err := b.opt.Dir.NetMap(b.opt.Identity.NetworkKey); err != nil || m.Generation != 5 || b.have() != old {
		t.Fatalf("the disk has generation %d (%v), the box %+v", m.Generation, err, b.have())
	}

	if err := b.frame(wire.Frame{Generation: 9, Hash: signed.Hash(), Change: &change}); err != nil {
		t.Fatal(err)
	}
	if m, err := b.opt.Dir.NetMap(b.opt.Identity.NetworkKey); err != nil || m.Generation != 8 || len(m.Peers) != 1 {
		t.Errorf("the disk has generation %d with %d peers (%v)", m.Generation, len(m.Peers), err)
	}
	if got, want := b.have(), (wire.Have{Generation: 9, Hash: signed.Hash(), Diffs: true, Instance: old.Instance}); got != want {
		t.Errorf("the box says it has %+v, want %+v", got, want)
	}
	again, err := New(b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.have(); got.Hash != signed.Hash() || got.Generation != 8 || got.Instance == "" || got.Instance == old.Instance {
		t.Errorf("after a restart the box says it has %+v", got)
	}
	again.runner.Stop()
}

func TestBeatSaysWhatIsApplied(t *testing.T) {
	b := newBox(t)
	b.dev.fail = errors.New("the port is taken")
	b.apply(t.Context())
	if got := b.beat(); got.Applied != 0 || got.ApplyError == "" {
		t.Errorf("the box says %+v", got)
	}
	b.dev.fail = nil
	b.apply(t.Context())
	if err := b.frame(wire.Frame{Generation: 11}); err != nil {
		t.Fatal(err)
	}
	if got := b.beat(); got != (wire.Beat{Applied: 11}) {
		t.Errorf("the box says %+v, want 11, for which its map is true", got)
	}
}
