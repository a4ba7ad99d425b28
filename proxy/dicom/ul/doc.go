// Package ul is the DICOM upper layer of PS3.8 §9.2: the association between two application entities over one connection.
//
// It has two halves. state.go and table.go are the standard's state machine as a pure function, cell by cell the same as table
// 9-10, so that the two can be laid side by side. The rest performs the actions that the table asks for: reading and writing
// PDUs, fragmenting messages to the peer's maximum length, timing out peers that make no progress, and saying goodbye properly.
//
// An acceptor calls Receive, looks at the request, and answers it with Incoming.Accept or Reject; a requestor calls Request. Both
// then have an Association, on which whole messages move: a command set (small, in memory) and a data set (any size, streamed).
//
// The package never dials, listens or closes: whoever opened the connection closes it. It knows nothing of DIMSE commands, SOP
// classes or objects, and logs nothing but AE titles, counts and the standard's own codes.
//
// State: an Association belongs to one goroutine. It holds at most about 0.5 MB: 64 KiB to read, up to 150 KiB to write (only
// after an object was sent), and during negotiation one association PDU of at most 256 KiB with its decoded form.
package ul
