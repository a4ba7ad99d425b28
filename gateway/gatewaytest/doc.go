// Package gatewaytest is the namespaces lab: clinics, an internet and a center as network namespaces of this machine, with the real
// towpath binary in them, real DICOM and HL7 programs as modality and PACS, an emulated wide-area line, and packet capture.
//
//	modality ── clinic ── internet ── center ── PACS
//	                         │
//	              clinic2 ───┘
//
// Everything that needs root is behind the build tag lab and runs with make lab. Without the tag the package holds what the lab
// judges by, which is kept independent of the product's own codecs: a Part 10 reader, a writer of canary studies, the search for the
// canary in bytes, and a reader of packet captures.
//
// It never imports product code: the lab drives the binary as an operator would. It touches no namespace, interface or process that
// it did not make; all its namespaces are called tp-PID-NAME, and those of dead runs are removed.
//
// State: a Network owns its namespaces, processes and captures, and ends with the test that made it.
package gatewaytest
