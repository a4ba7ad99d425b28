// Package hl7 carries HL7 version 2 messages over MLLP: a Router takes them on the LAN and either holds the line until the far end has
// answered (pass-through) or stores them and answers at once (queued); a Sink delivers what was stored; Send and Inbox are for
// technicians and demonstrations.
//
// It reads message headers and acknowledgments with the sender's own delimiters and nothing else: there is no parser of segments, and
// the bytes of a message are never changed. It never acknowledges an acknowledgment, never claims delivery that is not certain, and
// never puts control IDs, texts of acknowledgments or content in logs or errors: they may name patients.
//
// State: connections belong to the Router's Serve call or to the Sink that opened them; stored messages are the spool's.
package hl7
