package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

// urgentStat is an option of services of both protocols.
const urgentStat = "urgent-stat"

// modalityClasses are the SOP classes of images by the modality that makes them (PS3.4 §B.5, PS3.6 annex A).
func modalityClasses() map[string][]string {
	const storage = "1.2.840.10008.5.1.4.1.1."
	return map[string][]string{
		"CR": {storage + "1"},
		"DX": {storage + "1.1", storage + "1.1.1"},
		"MG": {storage + "1.2", storage + "1.2.1", storage + "13.1.3"},
		"CT": {storage + "2", storage + "2.1", storage + "2.2"},
		"US": {storage + "3.1", storage + "6.1", storage + "6.2"},
		"MR": {storage + "4", storage + "4.1", storage + "4.2", storage + "4.3", storage + "4.4"},
		"XA": {storage + "12.1", storage + "12.1.1"},
		"RF": {storage + "12.2", storage + "12.2.1"},
		"NM": {storage + "20"},
		"PT": {storage + "128", storage + "130"},
		"SR": {storage + "88.11", storage + "88.22", storage + "88.33", storage + "88.34"},
		"KO": {storage + "88.59"},
	}
}

// classesNamed takes SOP class UIDs as they are, and modalities for their SOP classes.
func classesNamed(list []string) ([]string, error) {
	known := modalityClasses()
	var out []string
	for _, s := range list {
		if strings.Trim(s, "0123456789.") == "" {
			out = append(out, s)
			continue
		}
		classes, ok := known[strings.ToUpper(s)]
		if !ok {
			return nil, ui.Usagef("give a SOP class UID, or one of "+strings.Join(slices.Sorted(maps.Keys(known)), ", "), "%q is neither a UID nor a modality known here", s)
		}
		out = append(out, classes...)
	}
	return out, nil
}

// classNames shows SOP classes by their modality where all of it are there.
func classNames(classes []string) string {
	left := slices.Clone(classes)
	var out []string
	known := modalityClasses()
	for _, m := range slices.Sorted(maps.Keys(known)) {
		if !slices.ContainsFunc(known[m], func(c string) bool { return !slices.Contains(classes, c) }) {
			out = append(out, m)
			left = slices.DeleteFunc(left, func(c string) bool { return slices.Contains(known[m], c) })
		}
	}
	return strings.Join(append(out, left...), ", ")
}
