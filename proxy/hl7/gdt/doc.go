// Package gdt makes German practice software understand results: it writes an HL7 v2 result (ORU, MDM) as a record of the GDT interface, version
// 2.1 (Gerätedatenträger, Qualitätsring Medizinische Software e. V., 5/2001), record type 6310 "transmit data of an examination".
//
// A record is lines of a length (3 digits, its own and the line end included), a field identifier (4 digits), content and CR LF. What a record can
// not hold without loss is refused with an UnsuitedError, never cut: a wrong patient number or half a finding would be worse than none. The
// package is pure; it imports nothing of the gateway.
package gdt
