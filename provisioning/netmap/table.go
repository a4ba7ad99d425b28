package netmap

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// table is a map that never changes: with and without return another one, which shares all but a few branches with it. The zero value is an
// empty table. It is a hash array mapped trie (Bagwell, Ideal Hash Trees, 2001).
type table[K comparable, V any] struct {
	seed maphash.Seed
	root *branch[K, V]
	size int
}

// branch has a slot for each bit of used.
type branch[K comparable, V any] struct {
	used  uint32
	slots []slot[K, V]
}

// slot is either a branch or the entries whose hashes begin alike: one, but for equal hashes.
type slot[K comparable, V any] struct {
	sub     *branch[K, V]
	entries *entry[K, V]
}

type entry[K comparable, V any] struct {
	hash  uint64
	key   K
	value V
	next  *entry[K, V]
}

// tableBits are the bits of a hash that each level takes.
const tableBits = 5

// len is how many entries there are.
func (t table[K, V]) len() int { return t.size }

func (t table[K, V]) get(k K) (v V, ok bool) {
	if t.root == nil {
		return v, false
	}
	h := maphash.Comparable(t.seed, k)
	b := t.root
	for shift := 0; b != nil; shift += tableBits {
		at, there := b.find(h, shift)
		if !there {
			return v, false
		}
		s := b.slots[at]
		for e := s.entries; e != nil; e = e.next {
			if e.hash == h && e.key == k {
				return e.value, true
			}
		}
		b = s.sub
	}
	return v, false
}

func (t table[K, V]) has(k K) bool {
	_, ok := t.get(k)
	return ok
}

// all goes through the table in no order.
func (t table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.walk(yield) }
}

func (b *branch[K, V]) walk(yield func(K, V) bool) bool {
	if b == nil {
		return true
	}
	for _, s := range b.slots {
		for e := s.entries; e != nil; e = e.next {
			if !yield(e.key, e.value) {
				return false
			}
		}
		if !s.sub.walk(yield) {
			return false
		}
	}
	return true
}

// with is t with k at v.
func (t table[K, V]) with(k K, v V) table[K, V] {
	t.put(k, v, false)
	return t
}

// load puts k at v in place. Only who makes a table may do that, before anybody else has it.
func (t *table[K, V]) load(k K, v V) { t.put(k, v, true) }

func (t *table[K, V]) put(k K, v V, own bool) {
	if t.root == nil {
		t.seed, t.root = maphash.MakeSeed(), &branch[K, V]{}
	}
	e := &entry[K, V]{hash: maphash.Comparable(t.seed, k), key: k, value: v}
	root, grown := t.root.put(e, 0, own)
	t.root = root
	if grown {
		t.size++
	}
}

// find returns the slot for a hash.
func (b *branch[K, V]) find(hash uint64, shift int) (at int, there bool) {
	bit := uint32(1) << (hash >> shift & (1<<tableBits - 1))
	return bits.OnesCount32(b.used & (bit - 1)), b.used&bit != 0
}

func (b *branch[K, V]) put(e *entry[K, V], shift int, own bool) (_ *branch[K, V], grown bool) {
	if !own {
		b = &branch[K, V]{used: b.used, slots: slices.Clone(b.slots)}
	}
	at, there := b.find(e.hash, shift)
	if !there {
		b.used |= 1 << (e.hash >> shift & (1<<tableBits - 1))
		b.slots = slices.Insert(b.slots, at, slot[K, V]{entries: e})
		return b, true
	}
	s := &b.slots[at]
	switch {
	case s.sub != nil:
		s.sub, grown = s.sub.put(e, shift+tableBits, own)
	case s.entries.hash == e.hash:
		rest, had := s.entries.without(e.key)
		e.next, s.entries, grown = rest, e, !had
	default:
		old := s.entries
		s.entries = nil
		s.sub = &branch[K, V]{}
		at, _ := s.sub.find(old.hash, shift+tableBits)
		s.sub.used = 1 << (old.hash >> (shift + tableBits) & (1<<tableBits - 1))
		s.sub.slots = slices.Insert(s.sub.slots, at, slot[K, V]{entries: old})
		s.sub, grown = s.sub.put(e, shift+tableBits, true)
	}
	return b, grown
}

// without returns the entries but that of k.
func (e *entry[K, V]) without(k K) (_ *entry[K, V], had bool) {
	switch {
	case e == nil:
		return nil, false
	case e.key == k:
		return e.next, true
	}
	rest, had := e.next.without(k)
	if !had {
		return e, false
	}
	return &entry[K, V]{hash: e.hash, key: e.key, value: e.value, next: rest}, true
}

// without is t without k.
func (t table[K, V]) without(k K) table[K, V] {
	if t.root == nil {
		return t
	}
	if root, had := t.root.without(k, maphash.Comparable(t.seed, k), 0); had {
		t.root = root
		t.size--
	}
	return t
}

// without returns nil for a branch that is empty then.
func (b *branch[K, V]) without(k K, hash uint64, shift int) (_ *branch[K, V], had bool) {
	at, there := b.find(hash, shift)
	if !there {
		return b, false
	}
	s := b.slots[at]
	if s.sub != nil {
		s.sub, had = s.sub.without(k, hash, shift+tableBits)
	} else {
		s.entries, had = s.entries.without(k)
	}
	if !had {
		return b, false
	}
	out := &branch[K, V]{used: b.used, slots: slices.Clone(b.slots)}
	if s.sub != nil || s.entries != nil {
		out.slots[at] = s
		return out, true
	}
	out.slots = slices.Delete(out.slots, at, at+1)
	out.used &^= 1 << (hash >> shift & (1<<tableBits - 1))
	if len(out.slots) == 0 && shift > 0 {
		return nil, true
	}
	return out, true
}
