// Package history remembers what became of DICOM objects, without patient data: a box tells a person who types a UID what happened to that object or
// study, and shows its studies without naming one.
//
// UIDs are there as HMAC-SHA-256 under a random key of the box that never leaves it, truncated to 128 bits: who has the files and not the key learns
// nothing of them, and who has the key must know a UID to ask for it.
//
// State: one folder. Events are records of fixed size with a checksum in files that take turns, appended in one write each and synced within a second;
// a power cut loses at most that, and what is half-written is never read. Studies are a picture of their sums, replaced now and then, that says up to
// which event it goes: what is younger is added from the events at start.
package history
