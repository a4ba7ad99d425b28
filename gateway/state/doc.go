// Package state keeps a box's own files: its identity and keys, the last good NetMap, the time floor. Every file has one writer, is
// written whole and synced, and is readable by its owner only. Keys are in the files as they are, or sealed by a key store (Sealer).
//
// It never interprets a NetMap beyond verifying it, and never holds clinical data: the queue has its own directory and package.
//
// State: one directory, owned by the process that holds its lock.
package state
