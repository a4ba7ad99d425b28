// Package hl7 carries HL7 version 2 messages over MLLP: a Router takes them and either holds the line until the far end has answered
// (pass-through), stores them and answers at once (queued), or writes them to a Folder (filed); a Sink delivers what was stored, and Returns
// take back what the receivers said about it; a Ledger keeps a message that is sent again from having effect again. Send, Inbox and Inspect
// are for technicians and demonstrations.
//
// It reads message headers and acknowledgments with the sender's own delimiters and nothing else (Inspect, which carries nothing, looks at
// names and ends of segments, too): there is no parser of segments, and the bytes of a message are never changed. It never acknowledges an
// acknowledgment, never claims delivery that is not certain, and never puts control IDs, texts of acknowledgments or content in logs,
// counters, Findings or errors: they may name patients.
//
// State: connections belong to the Router's Serve call or to the Sink that opened them; stored messages are the spool's; a Ledger and a Folder
// own one directory each.
package hl7
