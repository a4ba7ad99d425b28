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
	switch uid {
	case "1.2.840.10008.5.1.4.34.7", // RT Beams Delivery Instruction
		"1.2.840.10008.5.1.4.34.10",     // RT Brachy Application Setup Delivery Instruction
		"1.2.840.10008.5.1.4.38.1",      // Hanging Protocol
		"1.2.840.10008.5.1.4.39.1",      // Color Palette
		"1.2.840.10008.5.1.4.43.1",      // Generic Implant Template
		"1.2.840.10008.5.1.4.44.1",      // Implant Assembly Template
		"1.2.840.10008.5.1.4.45.1",      // Implant Template Group
		"1.2.840.113619.4.2",            // GE private: DICOM MR Image Info
		"1.2.840.113619.4.3",            // GE private: DICOM CT Image Info
		"1.2.840.113619.4.4",            // GE private: DICOM Display Image Info
		"1.2.840.113619.4.26",           // GE private: 3D Model
		"1.2.840.113619.4.27",           // GE private: Nuclear Medicine
		"1.2.840.113619.4.30",           // GE private: PET Raw Data
		"1.3.12.2.1107.5.9.1",           // Siemens private: CSA Non-Image
		"1.2.392.200036.9116.7.8.1.1.1": // Toshiba private: US Private Data
		return true
	}
	return strings.HasPrefix(uid, "1.3.46.670589.") && ValidUID(uid) // Philips private: series data, volumes, reconstructions
}

// knownTransferSyntax reports whether uid is an encoding that stores and forwards: all of PS3.6 table A-1 that hold the object
// itself, and the one private one in wide use. The JPIP ones, whose pixels are behind an address at the modality, and the live
// video ones (SMPTE ST 2110) are not.
func knownTransferSyntax(uid string) bool {
	if uid == "1.2.840.113619.5.2" { // GE private: Implicit VR, big-endian pixels
		return true
	}
	rest, ok := strings.CutPrefix(uid, ImplicitLittleEndian)
	if !ok {
		return false
	}
	if jpeg, ok := strings.CutPrefix(rest, ".4."); ok {
		return slices.Contains([]string{
			"50", "51", "52", "53", "54", "55", "56", "57", "58", "59", "60", "61", "62", "63", "64", "65", "66", "70", // JPEG
			"80", "81", // JPEG-LS
			"90", "91", "92", "93", // JPEG 2000
			"100", "100.1", "101", "101.1", // MPEG-2
			"102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1", // H.264
			"107", "108", // H.265
			"110", "111", "112", // JPEG XL
			"201", "202", "203", // HTJ2K
		}, jpeg)
	}
	switch rest {
	case "", ".1", ".1.98", ".1.99", ".2", ".5", ".8.1":
		return true // implicit, explicit, encapsulated uncompressed, deflated, big-endian, RLE, deflated frame
	}
	return false
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
