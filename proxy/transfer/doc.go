// Package transfer moves spooled items from one gateway to another inside the tunnel: many at a time, in numbered chunks over several
// connections, compressed by proxy/codec where that is faster, resumed inside an item after any break, the most urgent first, and with a queue
// in the line so short that interactive traffic beside it stays quick. docs/transfer.md describes the protocol.
//
// A [Sender] takes items from an [Outbox] and keeps each until the far gateway has signed that its receiver has it. A [Receiver] serves the
// connections as a proxy.Handler, checks the SHA-256 of each payload end to end, hands it to an [Inbox] exactly once and signs [Receipt]s.
// [SpoolOutbox], [SpoolInbox] and [Receiver.Sink] connect both to proxy/spool.
//
// It never dials by itself (the caller passes the Network), never looks into payloads but through the codec, never decides where an item goes,
// and puts no attribute, no payload and no name of an object into an error or a log.
//
// State: a Receiver owns the directory with partial items and the journal of what it took; a Sender persists nothing, its Outbox does.
package transfer
