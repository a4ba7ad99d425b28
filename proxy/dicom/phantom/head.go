package phantom

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// ellipsoid is one body of the phantom, in units of half the field of view: x to the left, y to the back, z to the head.
type ellipsoid struct {
	x, y, z    float64 // center
	a, b, c    float64 // half axes
	phi        float64 // rotation about z in degrees
	hounsfield float64 // added to what it is drawn over
}

// head is the head of Shepp and Logan (1974) in three dimensions, as Kak and Slaney give it, with Hounsfield units that a window
// for brain shows well.
var head = [...]ellipsoid{
	{0, 0, 0, 0.69, 0.92, 0.90, 0, 1800},             // skull, over air
	{0, 0.0184, 0, 0.6624, 0.874, 0.88, 0, -765},     // brain
	{-0.22, 0, -0.25, 0.41, 0.16, 0.21, 108, -28},    // left ventricle
	{0.22, 0, -0.25, 0.31, 0.11, 0.22, 72, -28},      // right ventricle
	{0, -0.35, -0.25, 0.21, 0.25, 0.5, 0, 22},        // mass
	{0, -0.1, -0.25, 0.046, 0.046, 0.046, 0, 35},     // small lesions
	{-0.08, 0.605, -0.25, 0.046, 0.023, 0.02, 0, 35}, //
	{0.06, 0.605, -0.25, 0.046, 0.023, 0.02, 90, 35}, //
	{0.06, 0.105, 0.625, 0.056, 0.04, 0.1, 90, 30},   //
	{0, -0.1, 0.625, 0.056, 0.056, 0.1, 0, -30},      //
	{0, 0.1, -0.25, 0.046, 0.046, 0.046, 0, 45},      //
	{0, 0.98, -0.1, 0.75, 0.04, 4, 0, 120},           // head rest
}

const (
	air           = -1000.0 // Hounsfield units
	noiseInside   = 9.0     // standard deviation in tissue
	noiseOutside  = 4.0     // and in air
	rescaleOffset = -1024   // stored value + rescaleOffset = Hounsfield units
)

// pixels draws the slice at height z (-1 to 1) as signed 16-bit little-endian stored values, n by n.
func pixels(n int, z float64, noise *rand.Rand) []byte {
	field := make([]float64, n*n)
	for i := range field {
		field[i] = air
	}
	for _, e := range head {
		e.draw(field, n, z)
	}
	out := make([]byte, 0, 2*n*n)
	for _, hu := range field {
		sd := noiseInside
		if hu < air/2 {
			sd = noiseOutside
		}
		v := math.Round(hu + sd*noise.NormFloat64() - rescaleOffset)
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(min(max(v, math.MinInt16), math.MaxInt16))))
	}
	return out
}

// draw adds the body's cut at height z to the field.
func (e ellipsoid) draw(field []float64, n int, z float64) {
	dz := (z - e.z) / e.c
	if dz*dz >= 1 {
		return
	}
	r2 := 1 - dz*dz // the cut is an ellipse, shrunk by the root of this
	sin, cos := math.Sincos(e.phi * math.Pi / 180)
	reach := max(e.a, e.b)
	step := 2 / float64(n)
	first, last := bounds(e.y, reach, n)
	left, right := bounds(e.x, reach, n)
	for row := first; row < last; row++ {
		y := (float64(row)+0.5)*step - 1 - e.y
		for col := left; col < right; col++ {
			x := (float64(col)+0.5)*step - 1 - e.x
			u, v := (x*cos+y*sin)/e.a, (y*cos-x*sin)/e.b
			if u*u+v*v < r2 {
				field[row*n+col] += e.hounsfield
			}
		}
	}
}

// bounds returns the range of pixels that a body around center can touch.
func bounds(center, reach float64, n int) (first, last int) {
	first = int(math.Floor((center - reach + 1) / 2 * float64(n)))
	last = int(math.Ceil((center+reach+1)/2*float64(n))) + 1
	return max(first, 0), min(last, n)
}
