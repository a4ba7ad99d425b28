package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/huff0"
)

// chunk is how many tokens of a group are coded together at most, so that tables follow what changes within a block.
const chunk = 128 << 10

// coder says how a chunk of tokens is coded.
type coder byte

const (
	asIs    coder = iota
	same          // one token, all over
	huffman       // huff0
	finite        // FSE: fractions of a bit, for skewed distributions
	lz            // zstd: runs of them
)

// appendGroups appends the tokens, which are sorted by context, in groups of contexts that share a table. total holds how many tokens each
// of n contexts has, w.counts how often each token occurs in it.
func (w *worker) appendGroups(dst []byte, n int, total *[contexts * maxComps]int) []byte {
	at := 0
	for q := 0; q < n; {
		size, members := total[q], 1
		if size == 0 {
			q++
			continue
		}
		merged := (*[tokens]uint32)(w.counts[q*tokens:])
		cost := tableCost(merged)
		for q++; q < n; q++ {
			if total[q] == 0 {
				continue
			}
			next := (*[tokens]uint32)(w.counts[q*tokens:])
			var both [tokens]uint32
			for i := range both {
				both[i] = merged[i] + next[i]
			}
			joint := tableCost(&both)
			if joint >= cost+tableCost(next) {
				break
			}
			*merged, cost = both, joint
			size += total[q]
			members++
		}
		dst = binary.AppendUvarint(dst, uint64(members))
		dst = w.appendTokens(dst, w.sorted[at:][:size], merged)
		at += size
	}
	return dst
}

// tableCost estimates the bits of tokens with a table of their own: their entropy and about five bits for each entry.
func tableCost(counts *[tokens]uint32) float64 {
	n, cost := 0, 24.0
	for _, c := range counts {
		if c > 0 {
			n += int(c)
			cost += 5 - float64(c)*math.Log2(float64(c))
		}
	}
	return cost + float64(n)*math.Log2(float64(n))
}

// appendTokens appends the chunks of a group. counts tell what is worth trying.
func (w *worker) appendTokens(dst, toks []byte, counts *[tokens]uint32) []byte {
	entropy, common := tableCost(counts)/float64(len(toks)), float64(slices.Max(counts[:]))/float64(len(toks))
	for len(toks) > 0 {
		n := min(len(toks), chunk)
		c, coded := w.shortest(toks[:n], entropy, common)
		dst = append(dst, byte(c))
		dst = binary.AppendUvarint(dst, uint64(len(coded)))
		dst = append(dst, coded...)
		toks = toks[n:]
	}
	return dst
}

// finiteFrom is from which part of a chunk on its commonest token is worth a fraction of a bit that counts.
const finiteFrom = 0.45

// shortest returns the shortest form of a chunk. entropy is how many bits a token takes, common the part that the commonest one has.
func (w *worker) shortest(toks []byte, entropy, common float64) (coder, []byte) {
	best, how := toks, asIs
	if common > finiteFrom {
		switch coded, err := fse.Compress(toks, &w.fse); {
		case err == fse.ErrUseRLE: //nolint:errorlint // fse returns it as it is
			return same, toks[:1]
		case err == nil && len(coded) < len(best):
			best, how = coded, finite
		}
	}
	if how == asIs {
		coded, _, err := huff0.Compress4X(toks, &w.huff)
		switch {
		case err == huff0.ErrUseRLE: //nolint:errorlint // huff0 returns it as it is
			return same, toks[:1]
		case err == nil && len(coded) < len(best):
			best, how = coded, huffman
		}
	}
	if entropy < 0.75 {
		w.out = w.zip.EncodeAll(toks, w.out[:0])
		if len(w.out) < len(best) {
			best, how = w.out, lz
		}
	}
	return how, best
}

// places are where the tokens of each context of each component begin, in the first strand and in the second one.
type places [strands][contexts * maxComps]uint32

// parseGroups fills in w.sorted, and returns where the tokens of each context begin. There are total tokens. In a block of one strand the
// second one's places are of no use.
func (w *worker) parseGroups(r *reader, comps int, shift uint, total, strands int) (begin places, err error) {
	n := comps << contextBits
	var size [contexts * maxComps]int
	sum := 0
	for comp := range comps {
		var set [8]byte
		copy(set[:], r.bytes(8>>shift))
		for i := range contexts {
			q := comp<<contextBits + i
			begin[0][q] = uint32(sum)
			if set[i>>3]>>(i&7)&1 != 0 {
				size[q] = r.length(total - sum)
				if strands == 2 {
					begin[1][q] = uint32(sum + r.length(size[q]))
				}
			}
			sum += size[q]
		}
	}
	if r.bad || sum != total {
		return begin, fmt.Errorf("%w: contexts", ErrCorrupt)
	}
	w.sorted = grow(w.sorted, total)
	at := 0
	for q := 0; q < n; {
		if size[q] == 0 {
			q++
			continue
		}
		members, group := r.length(n), 0
		for ; q < n && (members > 0 || size[q] == 0); q++ {
			if size[q] > 0 {
				members--
				group += size[q]
			}
		}
		if r.bad || members > 0 || group == 0 {
			return begin, fmt.Errorf("%w: contexts", ErrCorrupt)
		}
		if err := w.parseTokens(r, w.sorted[at:][:group]); err != nil {
			return begin, err
		}
		at += group
	}
	return begin, nil
}

// parseTokens fills in the tokens of a group.
func (w *worker) parseTokens(r *reader, toks []byte) error {
	for len(toks) > 0 {
		n := min(len(toks), chunk)
		how := coder(r.byte())
		coded := r.bytes(r.length(n))
		if r.bad || !w.expand(toks[:n:n], coded, how) {
			return fmt.Errorf("%w: tokens", ErrCorrupt)
		}
		toks = toks[n:]
	}
	return nil
}

// expand fills in a chunk. It reports false if coded does not hold exactly that many tokens.
func (w *worker) expand(toks, coded []byte, how coder) bool {
	var out []byte
	var err error
	switch how {
	case asIs:
		return copy(toks, coded) == len(toks)
	case same:
		if len(coded) != 1 {
			return false
		}
		for i := range toks {
			toks[i] = coded[0]
		}
		return true
	case huffman:
		w.tree, coded, err = huff0.ReadTable(coded, w.tree)
		if err != nil {
			w.tree = nil
			return false
		}
		out, err = w.tree.Decoder().Decompress4X(toks[:0], coded)
	case finite:
		w.unfse.DecompressLimit = len(toks)
		w.unfse.Out = w.unfse.Out[:0]
		if out, err = fse.Decompress(coded, &w.unfse); err == nil && len(out) == len(toks) {
			copy(toks, out)
		}
	case lz:
		out, err = w.unzip.DecodeAll(coded, toks[:0])
	default:
		return false
	}
	return err == nil && len(out) == len(toks)
}
