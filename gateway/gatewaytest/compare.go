package gatewaytest

import (
	"fmt"
	"maps"
	"slices"
)

// Compare matches two collections of objects by instance and digest, each occurrence once. It returns how many are in both, and in
// words what is only in want and what only in got.
func Compare(want, got []Object) (equal int, missing, extra []string) {
	count := map[[2]string]int{}
	for _, o := range want {
		count[[2]string{o.SOPInstanceUID, o.Digest}]++
	}
	for _, o := range got {
		k := [2]string{o.SOPInstanceUID, o.Digest}
		if count[k] > 0 {
			equal++
		}
		count[k]--
	}
	for _, k := range slices.SortedFunc(maps.Keys(count), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		text := fmt.Sprintf("%s with digest %.12s…", k[0], k[1])
		switch n := count[k]; {
		case n > 0:
			missing = append(missing, fmt.Sprintf("%d × %s", n, text))
		case n < 0:
			extra = append(extra, fmt.Sprintf("%d × %s", -n, text))
		}
	}
	return equal, missing, extra
}

// OnePerObject keeps the first of what is the same instance with the same bytes: a queue delivers that once.
func OnePerObject(objects []Object) []Object {
	seen := map[[2]string]bool{}
	var kept []Object
	for _, o := range objects {
		if k := [2]string{o.SOPInstanceUID, o.Digest}; !seen[k] {
			seen[k] = true
			kept = append(kept, o)
		}
	}
	return kept
}

// OnePerInstance keeps the first file of each SOP instance, for archives that keep one.
func OnePerInstance(files []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, f := range files {
		o, err := ReadObject(f)
		if err != nil || seen[o.SOPInstanceUID] {
			continue
		}
		seen[o.SOPInstanceUID] = true
		kept = append(kept, f)
	}
	return kept
}
