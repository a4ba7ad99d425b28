package dicom

import (
	"slices"
	"strings"
)

// probeSuffixes are the storage SOP classes under the common prefix (PS3.4 table B.5-1, PS3.6 table A-1), retired ones included that
// devices in the field still send.
const probeSuffixes = `1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 2.2 3 3.1 4 4.1 4.2 4.3 4.4 5 6 6.1 6.2 6.3 7 7.1 7.2 7.3 7.4 8 9 9.1 9.1.1 9.1.2 9.1.3
9.2.1 9.3.1 9.4.1 9.4.2 9.5.1 9.6.1 9.6.2 9.7.1 9.7.2 9.7.3 9.7.4 9.8.1 9.100.1 9.100.2 10 11 11.1 11.2 11.3 11.4 11.5 11.6 11.7 11.8 11.9 11.10 11.11 11.12
12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2 20 30 66 66.1 66.2 66.3 66.4 66.5 66.6 66.7 66.8 67 68.1 68.2
77.1 77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.3 77.1.5.4 77.1.5.5 77.1.5.6 77.1.5.7 77.1.5.8 77.1.6 77.1.7 77.2
78.1 78.2 78.3 78.4 78.5 78.6 78.7 78.8 79.1 80.1 81.1 82.1 88.1 88.2 88.3 88.4 88.11 88.22 88.33 88.34 88.35 88.40 88.50 88.59 88.65 88.67 88.68 88.69
88.70 88.71 88.72 88.73 88.74 88.75 88.76 90.1 91.1 104.1 104.2 104.3 104.4 104.5 128 128.1 129 130 131 200.1 200.2 200.3 200.7 200.8 201.1
481.1 481.2 481.3 481.4 481.5 481.6 481.7 481.8 481.9 481.10 481.11 481.12 481.13 481.14 481.15 481.16 481.17 481.18 481.19 481.20 481.21 481.22 481.23
481.24 481.25 501.1 501.2.1 501.2.2 501.3 501.4 501.5 501.6 601.1 601.2`

// probePhilips are Philips's private classes that devices are known to send: series data, volumes and reconstructions.
const probePhilips = "1.3.46.670589.2.3.1.1 1.3.46.670589.2.4.1.1 1.3.46.670589.2.5.1.1 1.3.46.670589.5.0.1 1.3.46.670589.5.0.1.1 1.3.46.670589.5.0.2 " +
	"1.3.46.670589.5.0.2.1 1.3.46.670589.5.0.3 1.3.46.670589.5.0.3.1 1.3.46.670589.5.0.4 1.3.46.670589.5.0.8 1.3.46.670589.5.0.9 1.3.46.670589.5.0.10 " +
	"1.3.46.670589.5.0.11 1.3.46.670589.5.0.11.1 1.3.46.670589.5.0.12 1.3.46.670589.5.0.13 1.3.46.670589.5.0.14 1.3.46.670589.7.8.1618510092 " +
	"1.3.46.670589.11.0.0.12.1 1.3.46.670589.11.0.0.12.2 1.3.46.670589.11.0.0.12.4"

// otherStorageClasses are those outside the common prefix (PS3.4 §B.5 and §GG.3), and private ones, by name.
const otherStorageClasses = "1.2.840.10008.5.1.4.34.7 " + // RT Beams Delivery Instruction
	"1.2.840.10008.5.1.4.34.10 " + // RT Brachy Application Setup Delivery Instruction
	"1.2.840.10008.5.1.4.38.1 " + // Hanging Protocol
	"1.2.840.10008.5.1.4.39.1 " + // Color Palette
	"1.2.840.10008.5.1.4.43.1 " + // Generic Implant Template
	"1.2.840.10008.5.1.4.44.1 " + // Implant Assembly Template
	"1.2.840.10008.5.1.4.45.1 " + // Implant Template Group
	"1.2.840.113619.4.2 " + // GE private: DICOM MR Image Info
	"1.2.840.113619.4.3 " + // GE private: DICOM CT Image Info
	"1.2.840.113619.4.4 " + // GE private: DICOM Display Image Info
	"1.2.840.113619.4.26 " + // GE private: 3D Model
	"1.2.840.113619.4.27 " + // GE private: Nuclear Medicine
	"1.2.840.113619.4.30 " + // GE private: PET Raw Data
	"1.3.12.2.1107.5.9.1 " + // Siemens private: CSA Non-Image
	"1.2.392.200036.9116.7.8.1.1.1" // Toshiba private: US Private Data

// transferSyntaxes are the encodings that store and forward: all of PS3.6 table A-1 that hold the object itself, as what follows
// Implicit VR Little Endian. The JPIP ones, whose pixels are behind an address at the modality, and the live video ones (SMPTE ST 2110)
// are not there.
const transferSuffixes = "- .1 .1.98 .1.99 .2 .5 .8.1 " + // implicit, explicit, encapsulated uncompressed, deflated, big-endian, RLE, deflated frame
	".4.50 .4.51 .4.52 .4.53 .4.54 .4.55 .4.56 .4.57 .4.58 .4.59 .4.60 .4.61 .4.62 .4.63 .4.64 .4.65 .4.66 .4.70 " + // JPEG
	".4.80 .4.81 .4.90 .4.91 .4.92 .4.93 " + // JPEG-LS, JPEG 2000
	".4.100 .4.100.1 .4.101 .4.101.1 " + // MPEG-2
	".4.102 .4.102.1 .4.103 .4.103.1 .4.104 .4.104.1 .4.105 .4.105.1 .4.106 .4.106.1 .4.107 .4.108 " + // H.264, H.265
	".4.110 .4.111 .4.112 .4.201 .4.202 .4.203" // JPEG XL, HTJ2K

// knownTransferSyntaxes returns all encodings that store and forward, and the one private one in wide use.
func knownTransferSyntaxes() []string {
	out := strings.Fields(transferSuffixes)
	for i, s := range out {
		out[i] = ImplicitLittleEndian + strings.TrimPrefix(s, "-")
	}
	return append(out, privateGEImplicitBE)
}

// knownTransferSyntax reports whether uid is one of knownTransferSyntaxes.
func knownTransferSyntax(uid string) bool {
	if uid == privateGEImplicitBE || uid == ImplicitLittleEndian {
		return true
	}
	rest, ok := strings.CutPrefix(uid, ImplicitLittleEndian)
	return ok && rest != "" && rest[0] == '.' && slices.Contains(strings.Fields(transferSuffixes), rest)
}

// storageClasses returns the storage SOP classes that every archive is asked for, sorted.
func storageClasses() []string {
	out := strings.Fields(probeSuffixes)
	for i, s := range out {
		out[i] = storagePrefix + s
	}
	out = append(out, strings.Fields(otherStorageClasses)...)
	out = append(out, strings.Fields(probePhilips)...)
	slices.Sort(out)
	return out
}
