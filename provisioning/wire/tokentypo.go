package wire

import (
	"fmt"
	"slices"
)

// diagnoseToken finds the one mistake, if there is only one: a wrong character, two neighbors swapped, one too many or one missing.
func diagnoseToken(symbols []byte) error {
	if len(symbols) > maxTokenBytes/groupBytes*groupChars+1 {
		return fmt.Errorf("%w: it is too long; perhaps it was pasted twice", ErrTokenTypo)
	}
	var finding string
	switch len(symbols) % groupChars {
	case 0:
		finding = wrongOrSwapped(symbols)
	case 1:
		finding = oneTooMany(symbols)
	case groupChars - 1:
		finding = oneMissing(symbols)
	}
	if finding != "" {
		return fmt.Errorf("%w: %s", ErrTokenTypo, finding)
	}
	if len(symbols) < 2 {
		return fmt.Errorf("%w: only its beginning is there", ErrTokenTruncated)
	}
	if want := declaredBytes(symbols) / groupBytes * groupChars; len(symbols) < want {
		return fmt.Errorf("%w: %d of its %d characters are there; copy it again, to the end", ErrTokenTruncated, len(symbols), want)
	}
	return fmt.Errorf("%w, or several: copy it again", ErrTokenTypo)
}

func wrongOrSwapped(symbols []byte) string {
	_, syndrome, ok := packSymbols(symbols)
	if !ok {
		return ""
	}
	e := newEffects(len(symbols))
	try := slices.Clone(symbols)
	for i := range symbols {
		for delta := byte(1); delta < byte(len(tokenAlphabet)); delta++ {
			if e.of(i, delta) != syndrome {
				continue
			}
			if try[i] ^= delta; fits(try) {
				return "look at " + place(i)
			}
			try[i] ^= delta
		}
		if i == 0 {
			continue
		}
		if delta := symbols[i] ^ symbols[i-1]; e.of(i, delta)^e.of(i-1, delta) == syndrome {
			if try[i], try[i-1] = try[i-1], try[i]; fits(try) {
				return place(i) + " and the one before are swapped"
			}
			try[i], try[i-1] = try[i-1], try[i]
		}
	}
	return ""
}

func oneTooMany(symbols []byte) string {
	for i := range symbols {
		if fits(slices.Delete(slices.Clone(symbols), i, i+1)) {
			return place(i) + " is one too many"
		}
	}
	return ""
}

func oneMissing(symbols []byte) string {
	e := newEffects(len(symbols) + 1)
	for i := range len(symbols) + 1 {
		try := slices.Insert(slices.Clone(symbols), i, 0)
		_, syndrome, ok := packSymbols(try)
		for v := range byte(len(tokenAlphabet)) {
			if !ok || e.of(i, v) != syndrome {
				continue
			}
			if try[i] = v; fits(try) {
				return "one character is missing before " + place(i)
			}
		}
	}
	return ""
}

func fits(symbols []byte) bool {
	_, ok := joinSymbols(symbols)
	return ok
}

// effects holds what inverting each bit does to the syndrome. A CRC is linear, so that what several do is the exclusive or; that makes
// trying all mistakes cost hardly more than checking once.
type effects []uint32

func newEffects(symbols int) effects {
	n := symbols / groupChars * groupBytes
	e := make(effects, 8*n)
	for k := range 32 {
		e[8*(n-checksumSize)+k] = 1 << (31 - k)
	}
	// c is what each bit of a byte does, highest first; one byte more behind it turns the register once.
	var c [8]uint32
	for k := range c {
		c[k] = castagnoli[byte(0x80>>k)]
	}
	for p := n - checksumSize - 1; p >= 0; p-- {
		for k := range c {
			e[8*p+k] = c[k]
			c[k] = castagnoli[byte(c[k])] ^ c[k]>>8
		}
	}
	return e
}

// of is what changing symbol i by delta does.
func (e effects) of(i int, delta byte) uint32 {
	var v uint32
	for k := range 5 {
		if delta&(16>>k) != 0 {
			v ^= e[5*i+k]
		}
	}
	return v
}
