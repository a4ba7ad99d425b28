package codec

// blockTarget is the length of a block in original bytes where nothing speaks for another one.
const blockTarget = 1 << 20

// maxComps is the most components that a sample of pixels has.
const maxComps = 4

// kind says what a block holds, and so what is tried on it.
type kind byte

const (
	finished kind = iota // compressed already: nothing is tried
	opaque               // zstd
	numbers              // wide numbers: bytes by significance, zstd
	samples              // prediction
)

// shape is how samples lie in the bytes of a block. Rows come frame by frame; a row has width samples of each component.
type shape struct {
	width, rows, comps int
	bytes              int  // of a sample: 1 or 2; 4 or 8 for numbers
	planar             bool // a frame holds the components one after the other, not sample by sample
	transposed         bool // the rows of the only frame are interleaved: channels of a waveform
}

// frame returns the length of a frame in bytes.
func (s shape) frame() int { return s.width * s.rows * s.comps * s.bytes }

// row returns where a row begins and the distance between its samples, in samples.
func (s shape) row(frame, comp, y int) (offset, stride int) {
	switch {
	case s.transposed:
		return y, s.rows
	case s.planar:
		return ((frame*s.comps+comp)*s.rows + y) * s.width, 1
	default:
		return (frame*s.rows+y)*s.width*s.comps + comp, s.comps
	}
}

// part is a block to be.
type part struct {
	offset int64
	size   int
	kind   kind
	shape  shape
}

// divide cuts an object into blocks. They cover it without gaps.
func divide(size int64, f findings) []part {
	d := divider{}
	for _, r := range f.regions {
		if r.offset < d.at || r.offset+r.size > size {
			continue
		}
		d.plain(r.offset, opaque)
		d.region(r)
		d.plain(r.offset+r.size, opaque) // what does not fill a row
	}
	k := opaque
	if f.compressed {
		k = finished
	}
	d.plain(size, k)
	return d.parts
}

type divider struct {
	at    int64
	parts []part
}

func (d *divider) add(size int, k kind, s shape) {
	d.parts = append(d.parts, part{offset: d.at, size: size, kind: k, shape: s})
	d.at += int64(size)
}

// plain adds blocks without a shape up to a place.
func (d *divider) plain(end int64, k kind) {
	for d.at < end {
		d.add(int(min(end-d.at, blockTarget)), k, shape{})
	}
}

func (d *divider) region(r region) {
	switch {
	case r.channels > 0 && (r.bits == 8 || r.bits == 16):
		d.waveform(r)
	case r.channels > 0:
	case r.bits == 32 || r.bits == 64:
		d.wide(r)
	case r.bits == 8 || r.bits == 16:
		d.image(r)
	}
}

// wide adds blocks of numbers that are not predicted.
func (d *divider) wide(r region) {
	s := shape{bytes: r.bits / 8}
	for end := r.offset + r.size; end-d.at >= int64(s.bytes); {
		n := int(min(end-d.at, blockTarget))
		d.add(n-n%s.bytes, numbers, s)
	}
}

// waveform adds blocks of a span of time each, in which every channel is a row.
func (d *divider) waveform(r region) {
	step := r.channels * r.bits / 8 // bytes of an instant
	for end := r.offset + r.size; end-d.at >= int64(step); {
		n := min(end-d.at, blockTarget) / int64(step)
		if n == 0 {
			return // too many channels
		}
		d.add(int(n)*step, samples, shape{width: int(n), rows: r.channels, comps: 1, bytes: r.bits / 8, transposed: true})
	}
}

// image adds blocks of whole frames, or of bands of rows where a frame is longer than a block. NumberOfFrames is not needed: what is
// there counts, and a frame that was cut off ends in a band.
func (d *divider) image(r region) {
	if r.rows == 0 || r.cols == 0 || r.comps < 1 || r.comps > maxComps {
		return
	}
	s := shape{width: r.cols, rows: r.rows, comps: r.comps, bytes: r.bits / 8, planar: r.planar && r.comps > 1}
	end := r.offset + r.size
	if s.planar && s.frame() > MaxBlock {
		s.comps, s.planar = 1, false // every plane is a frame of its own
	}
	if int64(s.width)*int64(s.comps)*int64(s.bytes) > blockTarget {
		return
	}
	for end-d.at >= int64(s.frame()) {
		if s.frame() <= blockTarget || s.planar {
			n := max(1, min((end-d.at)/int64(s.frame()), int64(blockTarget/s.frame())))
			d.add(int(n)*s.frame(), samples, s)
			continue
		}
		d.bands(s, s.rows)
	}
	if s.planar {
		s.comps, s.planar = 1, false
		for end-d.at >= int64(s.frame()) {
			d.bands(s, s.rows)
		}
	}
	if rest := int((end - d.at) / int64(s.frame()/s.rows)); rest > 0 {
		d.bands(s, rest)
	}
}

// bands adds blocks of about the same number of rows.
func (d *divider) bands(s shape, rows int) {
	line := s.width * s.comps * s.bytes
	n := (rows*line + blockTarget - 1) / blockTarget
	for ; n > 0; n-- {
		s.rows = (rows + n - 1) / n
		d.add(s.rows*line, samples, s)
		rows -= s.rows
	}
}
