package coordinator

import (
	"slices"
	"sync"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

const (
	// diffFrom is the size, in bytes, from which on a map may travel as a change: of a clinic's map, the parts that always travel are most.
	diffFrom = 4 << 10
	// basesPerNode is how many maps of one Node are kept: what was sent last is not yet what the Node has.
	basesPerNode = 4
	// maxBases bounds the maps that are kept, in bytes of their encoded form.
	maxBases = 128 << 20
)

// base is a map that was sent to a Node.
type base struct {
	hash wire.ContentHash
	m    wire.NetMap
	size int
}

// bases are the large maps that were sent last, from which changes are made. All maps of a network have an entry or two for each grant, so
// that those worth keeping are few, or small. A map that is gone costs nothing but the whole map once.
type bases struct {
	mu   sync.Mutex
	of   map[provisioning.NodeID][]base // oldest first
	size int
}

// keep remembers a map that is being sent.
func (b *bases) keep(id provisioning.NodeID, e wire.Encoded, m wire.NetMap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[provisioning.NodeID][]base{}
	}
	if i := slices.IndexFunc(b.of[id], func(old base) bool { return old.hash == e.Hash }); i >= 0 {
		b.drop(id, i)
	}
	b.of[id] = append(b.of[id], base{hash: e.Hash, m: m, size: len(e.Payload)})
	b.size += len(e.Payload)
	if len(b.of[id]) > basesPerNode {
		b.drop(id, 0)
	}
	for other := range b.of {
		if b.size <= maxBases {
			break
		}
		b.drop(other, 0)
	}
}

func (b *bases) drop(id provisioning.NodeID, i int) {
	b.size -= b.of[id][i].size
	if b.of[id] = slices.Delete(b.of[id], i, i+1); len(b.of[id]) == 0 {
		delete(b.of, id)
	}
}

// find returns the map of a Node with a content.
func (b *bases) find(id provisioning.NodeID, hash wire.ContentHash) (wire.NetMap, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, old := range b.of[id] {
		if old.hash == hash {
			return old.m, true
		}
	}
	return wire.NetMap{}, false
}

// forget drops those of a removed Node.
func (b *bases) forget(id provisioning.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.of[id]) > 0 {
		b.drop(id, 0)
	}
}
