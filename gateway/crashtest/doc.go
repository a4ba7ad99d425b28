// Package crashtest is the crash campaign: modality, clinic's box, center's box and archive, and everything that can go wrong between them.
//
//	modality ══ box "clinic" ══ line ══ box "center" ══ archive
//
// Each box is a process of its own: the test binary started again, with the real DICOM router, sealed queue, transfer, delivery and ledger on
// a directory that outlives it. What goes wrong, and when, follows from a seed. Faults of the disk are made where the kernel would make
// them: a seccomp filter stops the box's own system calls, and they fail, or the box dies there. Afterwards everything is left in peace,
// and what the modality was told is compared with what the archive has. HL7 messages go the same way, from a practice to a HIS.
//
// TestCrashPrograms does the same with whole programs instead of boxes: coordinator, center's and clinic's gateway, the tunnel between them through
// an internet of the campaign's own. There the filter is put in place before the program is, and its calls are judged in the campaign's process.
//
// Not everything is real: see docs/reliability.md for what is simulated and how. It holds tests only, and needs Linux and no root.
package crashtest
