// Package pdu is the codec of the DICOM upper layer: the seven protocol data units of PS3.8 §9.3, as bytes in and values out.
//
// Every PDU starts with the same six bytes:
//
//	 0        1          2 .. 5                     6 ..
//	+------+----------+--------------------------+-----------------+
//	| type | reserved | length of what follows   | body            |
//	+------+----------+--------------------------+-----------------+
//	         (always 0)  (32 bits, big-endian)
//
// Six of the seven (association request, accept, reject; release request, reply; abort) are small and are decoded whole. The
// seventh, P-DATA-TF, carries objects of any size and is therefore only ever streamed: a Reader hands out one presentation data
// value (PDV) header after the other and then the payload as an io.Reader, so that no object ever sits in memory.
//
// The package imports nothing but the standard library, does no network or file access, starts no goroutines, keeps no time and
// logs nothing. It never judges what a PDU means at a given moment: that is the state machine of proxy/dicom/ul.
//
// State: only a Reader has any (how far it is inside the current PDU), owned by its single user.
package pdu
