package gatewaytest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// Patient is a canary: a person who does not exist, with a name and identifiers that occur nowhere else, so that any trace of them
// outside the tunnel can be found.
type Patient struct {
	Family, Given string
	ID, Accession string
	StudyUID      string
}

// NewPatient makes a canary that no other run has.
func NewPatient() Patient {
	n := strconv.FormatUint(rand.Uint64(), 36)
	return Patient{
		Family: "Kanarienvogel" + n, Given: "Tweety" + n, ID: "PID" + n, Accession: "ACC" + n,
		StudyUID: fmt.Sprintf("2.25.%d%d", rand.Uint64()>>1, rand.Uint32()),
	}
}

// Canary lists what may not be seen of the patient.
func (p Patient) Canary() Canary {
	return Canary{"family name": p.Family, "given name": p.Given, "patient id": p.ID, "accession number": p.Accession, "study UID": p.StudyUID}
}

const (
	ctImageStorage = "1.2.840.10008.5.1.4.1.1.2"
	explicitLittle = "1.2.840.10008.1.2.1"
)

// WriteStudy writes a CT study of n slices with side × side pixels into dir: plausible headers, pixels that do not compress to
// nothing. It returns the files and what is in them.
func (p Patient) WriteStudy(dir string, n, side int) (files []string, objects []Object, err error) {
	series := p.StudyUID + ".1"
	for i := range n {
		data := p.slice(series, i+1, side)
		o, err := ParseObject(data)
		if err != nil {
			return nil, nil, err
		}
		name := filepath.Join(dir, fmt.Sprintf("ct%04d.dcm", i+1))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return nil, nil, err
		}
		files, objects = append(files, name), append(objects, o)
	}
	return files, objects, nil
}

func (p Patient) slice(series string, number, side int) []byte {
	instance := fmt.Sprintf("%s.%d", series, number)
	var meta, b bytes.Buffer
	text := func(b *bytes.Buffer, group, elem uint16, vr, value string) {
		element(b, group, elem, vr, []byte(value))
	}
	short := func(group, elem uint16, value int) {
		element(&b, group, elem, "US", binary.LittleEndian.AppendUint16(nil, uint16(value)))
	}

	element(&meta, 2, 0x0001, "OB", []byte{0, 1})
	text(&meta, 2, 0x0002, "UI", ctImageStorage)
	text(&meta, 2, 0x0003, "UI", instance)
	text(&meta, 2, 0x0010, "UI", explicitLittle)
	text(&meta, 2, 0x0012, "UI", "2.25.7460")

	text(&b, 0x0008, 0x0005, "CS", "ISO_IR 192")
	text(&b, 0x0008, 0x0008, "CS", `ORIGINAL\PRIMARY\AXIAL`)
	text(&b, 0x0008, 0x0016, "UI", ctImageStorage)
	text(&b, 0x0008, 0x0018, "UI", instance)
	text(&b, 0x0008, 0x0020, "DA", "20261122")
	text(&b, 0x0008, 0x0030, "TM", "101500")
	text(&b, 0x0008, 0x0050, "SH", p.Accession[:min(16, len(p.Accession))])
	text(&b, 0x0008, 0x0060, "CS", "CT")
	text(&b, 0x0008, 0x0070, "LO", "Lab")
	text(&b, 0x0008, 0x0090, "PN", "Überweiser^Ärztin")
	text(&b, 0x0010, 0x0010, "PN", p.Family+"^"+p.Given)
	text(&b, 0x0010, 0x0020, "LO", p.ID)
	text(&b, 0x0010, 0x0030, "DA", "19700101")
	text(&b, 0x0010, 0x0040, "CS", "O")
	text(&b, 0x0018, 0x0050, "DS", "1.0")
	text(&b, 0x0020, 0x000d, "UI", p.StudyUID)
	text(&b, 0x0020, 0x000e, "UI", series)
	text(&b, 0x0020, 0x0010, "SH", "1")
	text(&b, 0x0020, 0x0011, "IS", "1")
	text(&b, 0x0020, 0x0013, "IS", strconv.Itoa(number))
	short(0x0028, 0x0002, 1)
	text(&b, 0x0028, 0x0004, "CS", "MONOCHROME2")
	short(0x0028, 0x0010, side)
	short(0x0028, 0x0011, side)
	text(&b, 0x0028, 0x0030, "DS", `0.7\0.7`)
	short(0x0028, 0x0100, 16)
	short(0x0028, 0x0101, 12)
	short(0x0028, 0x0102, 11)
	short(0x0028, 0x0103, 0)
	element(&b, 0x7fe0, 0x0010, "OW", pixels(number, side))

	out := bytes.NewBuffer(make([]byte, 128))
	out.WriteString("DICM")
	element(out, 2, 0x0000, "UL", binary.LittleEndian.AppendUint32(nil, uint32(meta.Len())))
	out.Write(meta.Bytes())
	out.Write(b.Bytes())
	return out.Bytes()
}

// pixels draws a disk with noise.
func pixels(number, side int) []byte {
	rng := rand.New(rand.NewPCG(uint64(number), 12))
	b := make([]byte, 0, 2*side*side)
	for y := range side {
		for x := range side {
			v := 40 + rng.IntN(24)
			if dx, dy := x-side/2, y-side/2; dx*dx+dy*dy < side*side/6 {
				v += 1000 + number
			}
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	}
	return b
}
