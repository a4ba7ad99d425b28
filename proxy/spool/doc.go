// Package spool is the durable queue between "acknowledged" and "delivered". What Commit has returned for is on disk and synced, and
// it is forgotten only when a Sink has said that the far end has it.
//
// It never looks into payloads, never deletes what it cannot read (such items are set aside and counted), never logs attributes, and
// never dials: Sinks do.
//
// State: one directory, owned by exactly one open Spool (a lock file says so). The items are the truth; nothing else is needed to
// rebuild the queue after a crash. Large items are files (format.go), small ones records of a journal, so that those that arrive together share
// a write and a sync (journalformat.go).
package spool
