package wire

import (
	"fmt"
)

// ListDiff leads from one list to another: some entries go, the others keep their order, and new ones take their places among them.
type ListDiff[T any] struct {
	// Drop are the places, in the old list, of what goes; ascending.
	Drop []int `json:"drop,omitempty"`
	// Put are the new entries, by their place in the new list; ascending.
	Put []Placed[T] `json:"put,omitempty"`
}

// Placed is an entry and its place in a list, counted from 0.
type Placed[T any] struct {
	At   int `json:"at"`
	Item T   `json:"item"`
}

// diffList makes a ListDiff. Two entries are the same object if their keys are equal, and it stays if stays says so. Between lists that
// are sorted in one way nothing is put that could stay; between others the result is longer, and as right.
func diffList[T any, K comparable](old, to []T, key func(T) K, stays func(old, to int) bool) ListDiff[T] {
	places := make(map[K]int, len(old))
	for i, t := range old {
		if _, twice := places[key(t)]; !twice {
			places[key(t)] = i
		}
	}
	var d ListDiff[T]
	next := 0 // place in old of the first entry that is not decided on
	for i, t := range to {
		j, ok := places[key(t)]
		if !ok || j < next || !stays(j, i) {
			d.Put = append(d.Put, Placed[T]{At: i, Item: t})
			continue
		}
		d.Drop = appendRange(d.Drop, next, j)
		next = j + 1
	}
	d.Drop = appendRange(d.Drop, next, len(old))
	return d
}

func appendRange(s []int, from, to int) []int {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

// empty reports whether d leads back to the same list.
func (d ListDiff[T]) empty() bool { return len(d.Drop) == 0 && len(d.Put) == 0 }

// apply makes the new list. It never changes old and fails for a d that was not made for a list of this length.
func (d ListDiff[T]) apply(old []T) ([]T, error) {
	if d.empty() {
		return old, nil
	}
	size := len(old) - len(d.Drop) + len(d.Put)
	if size < 0 {
		return nil, fmt.Errorf("%d entries are to go from %d", len(d.Drop), len(old))
	}
	to := make([]T, 0, size)
	drop, put := d.Drop, d.Put
	for i := 0; ; {
		switch {
		case len(put) > 0 && put[0].At == len(to):
			to = append(to, put[0].Item)
			put = put[1:]
		case i < len(old) && len(drop) > 0 && drop[0] == i:
			drop = drop[1:]
			i++
		case i < len(old):
			to = append(to, old[i])
			i++
		case len(put) > 0 || len(drop) > 0:
			return nil, fmt.Errorf("%d places do not exist, or are not in order", len(put)+len(drop))
		default:
			return to, nil
		}
	}
}
