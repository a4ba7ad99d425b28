package transfer

import "slices"

// spans is the set of bytes of a payload that are there: prefix from the start, and what came ahead of its turn.
type spans struct {
	prefix int64
	ahead  [][2]int64 // disjoint, not touching, sorted, all beyond prefix
}

// maxAhead bounds how many pieces may be ahead. More lanes and blocks than that are never under way.
const maxAhead = 1024

// add takes in the bytes from..to. It is false when the pieces get too many.
func (s *spans) add(from, to int64) bool {
	if to <= s.prefix || from >= to {
		return true
	}
	if from <= s.prefix {
		s.prefix = to
		for len(s.ahead) > 0 && s.ahead[0][0] <= s.prefix {
			s.prefix = max(s.prefix, s.ahead[0][1])
			s.ahead = s.ahead[1:]
		}
		return true
	}
	i, _ := slices.BinarySearchFunc(s.ahead, from, func(a [2]int64, f int64) int {
		if a[1] < f {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s.ahead) && s.ahead[j][0] <= to {
		from, to = min(from, s.ahead[j][0]), max(to, s.ahead[j][1])
		j++
	}
	s.ahead = slices.Replace(s.ahead, i, j, [2]int64{from, to})
	return len(s.ahead) <= maxAhead
}
