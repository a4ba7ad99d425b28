// Package dimse is the codec of DICOM message commands (PS3.7): command sets as bytes in and values out, and what status codes
// mean.
//
// A command set is a short list of elements of group 0000 in Implicit VR Little Endian (PS3.7 §6.3.1, annex E). Set gives access
// to any command; StoreRQ, EchoRQ, FindRQ, ActionRQ, EventReportRQ and Response are the typed forms of those that this product takes
// part in itself. Data sets are not its business: they pass by as streams.
//
// The package imports the standard library only, does no I/O, and bounds what it keeps by the caller's limit on the size of a set.
package dimse
