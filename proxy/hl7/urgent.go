package hl7

import (
	"bytes"
	"strings"
)

// Limits of the look for a priority, so that a long message costs little: what stands behind them is not seen.
const (
	maxUrgentSegments = 256
	maxUrgentBytes    = 256 << 10
	maxUrgentFields   = 40
)

// urgent reports whether a message is about something that cannot wait: one of its orders or requests has the priority S (stat) or A (as soon as
// possible). That stands in ORC-7 and OBR-27, which are timings whose component 6 it is (HL7 2.5.1 §2.A.81, TQ.6), and since version 2.5 in
// TQ1-9, whose component 1 it is (§4.5.4.9, table 0485). Any repetition counts. It is read with the sender's own delimiters.
func urgent(h Header, msg []byte) bool {
	rest := msg[:min(len(msg), maxUrgentBytes)]
	for range maxUrgentSegments {
		rest = bytes.TrimLeft(rest, "\r\n \t\x00")
		if len(rest) == 0 {
			return false
		}
		segment := rest
		if end := bytes.IndexAny(rest, "\r\n"); end >= 0 {
			segment, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		if len(segment) < 4 || segment[3] != h.separator {
			continue
		}
		switch string(segment[:3]) {
		case "ORC":
			if h.stat(segment, 7, 6) {
				return true
			}
		case "OBR":
			if h.stat(segment, 27, 6) {
				return true
			}
		case "TQ1":
			if h.stat(segment, 9, 1) {
				return true
			}
		}
	}
	return false
}

// stat looks at one component of all repetitions of a field. Field 1 follows the segment's name.
func (h Header) stat(segment []byte, field, component int) bool {
	fields := bytes.SplitN(segment, []byte{h.separator}, maxUrgentFields)
	if field >= len(fields) {
		return false
	}
	for repetition := range bytes.SplitSeq(fields[field], []byte{h.encoding(1)}) {
		parts := bytes.SplitN(repetition, []byte{h.encoding(0)}, component+1)
		if component > len(parts) {
			continue
		}
		code, _, _ := bytes.Cut(parts[component-1], []byte{h.encoding(3)})
		switch strings.ToUpper(string(bytes.TrimSpace(code))) {
		case "S", "A":
			return true
		}
	}
	return false
}
