package dicom

import (
	"slices"
	"strings"
)

// UIDs that this package names (PS3.6 annex A).
const (
	Verification         = "1.2.840.10008.1.1"
	ImplicitLittleEndian = "1.2.840.10008.1.2"
	ExplicitLittleEndian = "1.2.840.10008.1.2.1"
	deflatedExplicit     = "1.2.840.10008.1.2.1.99"
)

// storagePrefix is where nearly all storage SOP classes are (PS3.4 §B.5).
const storagePrefix = "1.2.840.10008.5.1.4.1.1."

// IsStorageClass reports whether uid is a storage SOP class: those under the common prefix but for the few queries and
// managements that live there too, those of PS3.4 §B.5 and §GG.3 elsewhere, and the private ones that modalities are known to
// send.
func IsStorageClass(uid string) bool {
	if rest, ok := strings.CutPrefix(uid, storagePrefix); ok {
		switch rest {
		case "200.4", "200.5", "200.6", // protocol approval: find, move, get
			"201.2", "201.3", "201.4", // inventory: find, move, get
			"201.5", "201.6": // inventory creation, repository query
			return false
		}
		return ValidUID(uid)
	}
	if slices.Contains(strings.Fields(otherStorageClasses), uid) {
		return true
	}
	return strings.HasPrefix(uid, "1.3.46.670589.") && ValidUID(uid) // Philips private: series data, volumes, reconstructions
}

// chooseTransferSyntax picks from what a peer offers in one context: Explicit VR Little Endian, since everybody can take it on,
// then Implicit, then the first known one. Empty means none.
func chooseTransferSyntax(offered []string) string {
	for _, preferred := range []string{ExplicitLittleEndian, ImplicitLittleEndian} {
		if slices.Contains(offered, preferred) {
			return preferred
		}
	}
	if i := slices.IndexFunc(offered, knownTransferSyntax); i >= 0 {
		return offered[i]
	}
	return ""
}

// ValidUID reports whether s looks like a UID (PS3.5 §9.1): 1 to 64 digits and dots, no component empty. Leading zeros in
// components, which the standard forbids, are let pass, because real devices make them.
func ValidUID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && digits > 0:
			digits = 0
		default:
			return false
		}
	}
	return digits > 0
}
