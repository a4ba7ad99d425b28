// Package tpm seals keys with a TPM 2.0, so that a copy of the disk is of no use without the machine.
//
// The TPM keeps nothing: its storage key follows from a seed inside it and the TCG's standard template (TCG TPM v2.0 Provisioning
// Guidance 1.0, §7.5.1), and what was sealed is a data object under that key (TPM 2.0 Part 1, "Sealed Data Objects"), which the caller
// stores. Clearing the TPM changes the seed, and with that makes all that was sealed worthless. Commands and answers that carry a secret
// are encrypted in a session that is salted to the storage key (Part 1, "Session-based encryption"), so that a probe on the bus reads
// none.
//
// By default anybody who may talk to the TPM of a running box can unseal. PCRs can bind a secret to the firmware and software that the
// machine started with, too. They are off by default because every update of the image changes them: a box that updates itself at night
// would not be able to read its key in the morning. PCR 7 (Secure Boot's policy) changes least.
//
// State: none but a lock; the TPM is opened for each operation.
package tpm
