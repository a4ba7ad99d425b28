// Package mllp puts HL7 messages into frames and finds them again, as the Minimal Lower Layer Protocol (HL7 Transport Specification:
// MLLP, release 1) says and as devices really send them: junk before the start, no carriage return after the end, several frames
// in one segment.
//
// It never reads, writes, waits or logs, and never looks at what is inside a frame.
//
// State: a Decoder belongs to one connection and one goroutine.
package mllp
