package codec_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

const (
	implicitLittle = "1.2.840.10008.1.2"
	explicitLittle = "1.2.840.10008.1.2.1"
	explicitBig    = "1.2.840.10008.1.2.2"
	jpegLossless   = "1.2.840.10008.1.2.4.70"
)

// dataSet writes DICOM elements.
type dataSet struct {
	b      []byte
	syntax string
}

func (d *dataSet) order() binary.AppendByteOrder {
	if d.syntax == explicitBig {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (d *dataSet) tag(tag uint32) {
	d.b = d.order().AppendUint16(d.b, uint16(tag>>16))
	d.b = d.order().AppendUint16(d.b, uint16(tag))
}

// element writes an element whose length may be a lie.
func (d *dataSet) element(tag uint32, vr string, length uint32, value []byte) {
	d.tag(tag)
	switch {
	case vr == "" || d.syntax == implicitLittle:
		d.b = d.order().AppendUint32(d.b, length)
	case vr == "OB" || vr == "OW" || vr == "SQ" || vr == "UN" || vr == "OF" || vr == "OD" || vr == "UT":
		d.b = append(d.b, vr...)
		d.b = append(d.b, 0, 0)
		d.b = d.order().AppendUint32(d.b, length)
	default:
		d.b = append(d.b, vr...)
		d.b = d.order().AppendUint16(d.b, uint16(length))
	}
	d.b = append(d.b, value...)
}

func (d *dataSet) text(tag uint32, vr, value string) {
	if len(value)%2 == 1 {
		value += " "
	}
	d.element(tag, vr, uint32(len(value)), []byte(value))
}

func (d *dataSet) number(tag uint32, v int) {
	d.element(tag, "US", 2, d.order().AppendUint16(nil, uint16(v)))
}

// part10 returns the data set with preamble and file meta information.
func (d *dataSet) part10() []byte {
	meta := dataSet{syntax: explicitLittle, b: append(make([]byte, 128), "DICM"...)}
	meta.element(0x0002_0001, "OB", 2, []byte{0, 1})
	uid := d.syntax
	if len(uid)%2 == 1 {
		uid += "\x00"
	}
	meta.element(0x0002_0010, "UI", uint32(len(uid)), []byte(uid))
	return append(meta.b, d.b...)
}

// image describes a picture to be made up.
type image struct {
	syntax             string
	rows, cols, frames int
	bits, stored       int
	comps              int
	signed, planar     bool
	step               int     // only multiples of it occur
	noise              float64 // standard deviation in 1/1000 of the range
	junk               bool    // in the bits that are not stored
	claimRows          int     // added to Rows
	cut                int     // bytes missing at the end of the file
	tail               bool    // something behind the pixels
}

// pixels makes a smooth picture with edges and noise.
func (p image) pixels(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var order binary.AppendByteOrder = binary.LittleEndian
	if p.syntax == explicitBig {
		order = binary.BigEndian
	}
	top := float64(int(1)<<p.stored - 1)
	var b []byte
	at := func(frame, comp, y, x int) {
		fx, fy := float64(x)/float64(p.cols), float64(y)/float64(p.rows)
		v := 0.35 + 0.25*math.Sin(5*fx+float64(frame)/7)*math.Cos(4*fy) + 0.02*float64(comp)
		if (fx-0.5)*(fx-0.5)+(fy-0.4)*(fy-0.4) < 0.06 {
			v += 0.2
		}
		if fx < 0.06 || fy > 0.95 {
			v = 0
		} else {
			v += r.NormFloat64() * p.noise / 1000
		}
		n := int(min(max(v, 0), 1)*top) / p.step * p.step
		if p.signed {
			n -= 1 << (p.stored - 1)
		}
		if p.junk {
			n = n&(1<<p.stored-1) | r.IntN(1<<(p.bits-p.stored))<<p.stored
		}
		switch p.bits {
		case 8:
			b = append(b, byte(n))
		case 16:
			b = order.AppendUint16(b, uint16(n))
		default:
			b = order.AppendUint32(b, uint32(n))
		}
	}
	for frame := range p.frames {
		if p.planar {
			for comp := range p.comps {
				for y := range p.rows {
					for x := range p.cols {
						at(frame, comp, y, x)
					}
				}
			}
			continue
		}
		for y := range p.rows {
			for x := range p.cols {
				for comp := range p.comps {
					at(frame, comp, y, x)
				}
			}
		}
	}
	return b
}

// withDefaults fills in what was left open.
func (p image) withDefaults() image {
	if p.syntax == "" {
		p.syntax = explicitLittle
	}
	p.frames, p.comps, p.step = max(p.frames, 1), max(p.comps, 1), max(p.step, 1)
	if p.bits == 0 {
		p.bits, p.stored = 16, 12
	}
	if p.stored == 0 {
		p.stored = p.bits
	}
	return p
}

// dataSet makes a data set with the picture, and some of what else is in one.
func (p image) dataSet(seed uint64) *dataSet {
	p = p.withDefaults()
	d := &dataSet{syntax: p.syntax}
	d.text(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.7\x00") // secondary capture
	d.text(0x0008_0018, "UI", "2.25.1234567890")
	d.text(0x0008_0060, "CS", "OT")
	d.text(0x0010_0010, "PN", "Phantom^Made Up")
	d.element(0x0008_1140+0x0010_0000, "SQ", 0xFFFFFFFF, nil) // a sequence of undefined length in a private group
	d.element(0xFFFE_E000, "", 0xFFFFFFFF, nil)
	d.number(0x0028_0010, 9999) // Rows of something else
	d.element(0xFFFE_E00D, "", 0, nil)
	d.element(0xFFFE_E0DD, "", 0, nil)
	d.number(0x0028_0002, p.comps)
	if p.comps == 1 {
		d.text(0x0028_0004, "CS", "MONOCHROME2")
	} else {
		d.text(0x0028_0004, "CS", "RGB")
	}
	if p.comps > 1 {
		planar := 0
		if p.planar {
			planar = 1
		}
		d.number(0x0028_0006, planar)
	}
	d.number(0x0028_0010, p.rows+p.claimRows)
	d.number(0x0028_0011, p.cols)
	d.number(0x0028_0100, p.bits)
	d.number(0x0028_0101, p.stored)
	d.number(0x0028_0102, p.stored-1)
	if p.signed {
		d.number(0x0028_0103, 1)
	} else {
		d.number(0x0028_0103, 0)
	}
	vr := "OW"
	if p.bits == 8 {
		vr = "OB"
	}
	px := p.pixels(seed)
	d.element(0x7FE0_0010, vr, uint32(len(px)), px)
	if p.tail {
		d.element(0xFFFC_FFFC, "OB", 10, make([]byte, 10))
	}
	d.b = d.b[:len(d.b)-min(p.cut, len(d.b))]
	return d
}

// waveform makes a data set with curves of so many channels, in multiples of step.
func waveform(syntax string, channels, instants, step int, seed uint64) *dataSet {
	r := rand.New(rand.NewPCG(seed, 2))
	item := &dataSet{syntax: syntax}
	item.number(0x003A_0005, channels)
	item.number(0x5400_1004, 16)
	var b []byte
	for t := range instants {
		for c := range channels {
			v := 900*math.Sin(float64(t)/40+float64(c)/3) + 300*math.Sin(float64(t)/11) + 4*r.NormFloat64()
			b = item.order().AppendUint16(b, uint16(int16(v)/int16(step)*int16(step)))
		}
	}
	item.element(0x5400_1010, "OW", uint32(len(b)), b)
	d := &dataSet{syntax: syntax}
	d.text(0x0008_0060, "CS", "ECG")
	d.element(0x5400_0100, "SQ", uint32(len(item.b)+8), nil)
	d.element(0xFFFE_E000, "", uint32(len(item.b)), item.b)
	return d
}

// named are pictures of all kinds.
func named() map[string][]byte {
	all := map[string][]byte{
		"ct":          image{rows: 256, cols: 256, noise: 5, signed: true, stored: 12, bits: 16}.dataSet(1).part10(),
		"implicit":    image{syntax: implicitLittle, rows: 200, cols: 130, noise: 3}.dataSet(2).part10(),
		"big endian":  image{syntax: explicitBig, rows: 128, cols: 128, noise: 3}.dataSet(3).part10(),
		"bands":       image{rows: 1100, cols: 900, noise: 2}.dataSet(4).part10(),
		"frames":      image{rows: 64, cols: 64, frames: 40, noise: 4, tail: true}.dataSet(5).part10(),
		"many bits":   image{rows: 90, cols: 100, noise: 30, bits: 16, stored: 16}.dataSet(6).part10(),
		"junk":        image{rows: 128, cols: 128, noise: 2, bits: 16, stored: 10, junk: true}.dataSet(7).part10(),
		"sparse":      image{rows: 256, cols: 256, noise: 6, step: 9}.dataSet(8).part10(),
		"grey 8":      image{rows: 300, cols: 200, bits: 8, noise: 6}.dataSet(9).part10(),
		"color":       image{rows: 120, cols: 160, bits: 8, comps: 3, noise: 6}.dataSet(10).part10(),
		"planar":      image{rows: 120, cols: 160, bits: 8, comps: 3, frames: 3, planar: true, noise: 6}.dataSet(11).part10(),
		"color 16":    image{rows: 60, cols: 70, bits: 16, comps: 3, noise: 6}.dataSet(12).part10(),
		"big color":   image{syntax: explicitBig, rows: 60, cols: 70, bits: 16, comps: 3, noise: 6}.dataSet(13).part10(),
		"dose":        image{rows: 50, cols: 60, frames: 4, bits: 32, stored: 24, noise: 2}.dataSet(14).part10(),
		"cut":         image{rows: 256, cols: 256, noise: 5, cut: 12_345}.dataSet(15).part10(),
		"wrong rows":  image{rows: 256, cols: 256, noise: 5, claimRows: 77}.dataSet(16).part10(),
		"odd":         image{rows: 31, cols: 17, bits: 8, noise: 5}.dataSet(17).part10(),
		"ecg":         waveform(explicitLittle, 12, 5000, 1, 18).part10(),
		"curves":      waveform(explicitBig, 4, 1200, 60, 21).part10(),
		"short waves": waveform(implicitLittle, 3, 40, 1, 19).part10(),
		"empty":       {},
		"one byte":    {7},
		"zeros":       make([]byte, 3<<20),
	}
	random := make([]byte, 1<<20+17)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(random)
	all["random"] = random
	jpeg := image{rows: 128, cols: 128, noise: 2}.dataSet(20)
	jpeg.syntax = jpegLossless
	all["compressed"] = jpeg.part10()
	return all
}
