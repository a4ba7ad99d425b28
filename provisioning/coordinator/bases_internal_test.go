package coordinator

import (
	"fmt"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestBasesAreBounded(t *testing.T) {
	var b bases
	const size = 1 << 20
	payload := make([]byte, size)
	keep := func(node, version int) provisioning.NodeID {
		id := provisioning.NodeID(fmt.Sprint(node))
		b.keep(id, wire.Encoded{Payload: payload, Hash: wire.ContentHash{byte(node), byte(version)}}, wire.NetMap{Generation: uint64(version)})
		sum := 0
		for _, of := range b.of {
			sum += len(of) * size
		}
		if b.size != sum || sum > maxBases {
			t.Fatalf("%d bytes are kept and %d counted, of %d allowed", sum, b.size, maxBases)
		}
		return id
	}
	for version := range 6 {
		id := keep(0, version)
		keep(0, version) // the same again takes no more room
		if m, ok := b.find(id, wire.ContentHash{0, byte(version)}); !ok || m.Generation != uint64(version) {
			t.Fatalf("version %d is not found: %+v", version, m)
		}
	}
	if n := len(b.of["0"]); n != basesPerNode {
		t.Errorf("%d maps of one node are kept, want %d", n, basesPerNode)
	}
	if _, ok := b.find("0", wire.ContentHash{0, 1}); ok {
		t.Error("the oldest map is still there")
	}
	for node := 1; node < maxBases/size; node++ {
		keep(node, 1)
		keep(node, 2)
	}
	if b.size < maxBases-size {
		t.Errorf("only %d bytes of %d are used", b.size, maxBases)
	}
	for id := range b.of {
		b.forget(id)
	}
	if b.size != 0 || len(b.of) != 0 {
		t.Errorf("%d bytes of %d nodes are left", b.size, len(b.of))
	}
}
