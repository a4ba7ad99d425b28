package netmap

import "strings"

// typeSet is a set of HL7 message types, "ORU" for all triggers of one and "ORU^R01" for a single one.
type typeSet struct {
	all   bool
	whole map[string]bool // types and types with trigger, as they were added
	codes map[string]bool // types of which at least one trigger was added
}

// meets reports whether a message could be of the set and of types; no types are all.
func (s *typeSet) meets(types []string) bool {
	switch {
	case s.all:
		return true
	case len(types) == 0:
		return len(s.whole) > 0
	}
	for _, t := range types {
		code, _, exact := strings.Cut(t, "^")
		if s.whole[code] || s.whole[t] || !exact && s.codes[code] {
			return true
		}
	}
	return false
}

func (s *typeSet) add(types []string) {
	if len(types) == 0 {
		s.all = true
		return
	}
	if s.whole == nil {
		s.whole, s.codes = map[string]bool{}, map[string]bool{}
	}
	for _, t := range types {
		code, _, _ := strings.Cut(t, "^")
		s.whole[t], s.codes[code] = true, true
	}
}

// typesMeet reports whether a message could be of both; no types are all.
func typesMeet(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x == y || strings.HasPrefix(x, y+"^") || strings.HasPrefix(y, x+"^") {
				return true
			}
		}
	}
	return false
}
