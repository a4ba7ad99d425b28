package prove

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

type hash = [sha256.Size]byte

// bag is a multiset of leaves whose digest costs only the groups that changed, see Digests.
type bag struct {
	group [256][]hash
	sum   [256]hash
	stale [256]bool
}

func newBag() *bag {
	b := &bag{}
	for i := range b.stale {
		b.stale[i] = true
	}
	return b
}

func compareHash(a, b hash) int { return bytes.Compare(a[:], b[:]) }

func (b *bag) add(h hash) {
	g := &b.group[h[0]]
	i, _ := slices.BinarySearchFunc(*g, h, compareHash)
	*g = slices.Insert(*g, i, h)
	b.stale[h[0]] = true
}

// remove wants a leaf that is there.
func (b *bag) remove(h hash) {
	g := &b.group[h[0]]
	if i, ok := slices.BinarySearchFunc(*g, h, compareHash); ok {
		*g = slices.Delete(*g, i, i+1)
		b.stale[h[0]] = true
	}
}

func (b *bag) digest() string {
	all := sha256.New()
	for i := range b.group {
		if b.stale[i] {
			one := sha256.New()
			for _, h := range b.group[i] {
				one.Write(h[:])
			}
			one.Sum(b.sum[i][:0])
			b.stale[i] = false
		}
		all.Write(b.sum[i][:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

func leaf(kind string, v any) (hash, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return hash{}, fmt.Errorf("digest a %s: %w", kind, err)
	}
	h := sha256.New()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write(b)
	return hash(h.Sum(nil)), nil
}

func mapLeaf(m wire.NetMap) (hash, error) {
	m.Generation, m.Issued, m.Expires = 0, time.Time{}, time.Time{}
	return leaf("map", m)
}
