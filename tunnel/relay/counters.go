package relay

// Reason is why a packet was not forwarded.
type Reason string

// The reasons.
const (
	// NoPair: a member calls somebody whom it may not call, or who is not there.
	NoPair Reason = "no-pair"
	// Unknown: the caller has no session with this relay, and calls nobody whom plain devices may call.
	Unknown Reason = "unknown-source"
	// Unreachable: it is not known where who is called is now.
	Unreachable Reason = "unreachable"
	// Asks: too many initiations, or too many keys to try.
	Asks Reason = "initiation-rate"
	// Full: as many sessions are known as may be.
	Full Reason = "table-full"
	// Collision: the index is another session's of the same end. WireGuard tries again with another one.
	Collision Reason = "index-collision"
	// Unvouched: what looks like a response was not made for who called.
	Unvouched Reason = "unvouched"
	// Unproven: more than came from there would go to an address that has not proven to be the caller's.
	Unproven Reason = "unproven-address"
	// PairRate and TotalRate: more bytes a second than Limits allow.
	PairRate  Reason = "pair-rate"
	TotalRate Reason = "total-rate"
	// Unsent: the system did not take it, because a queue was full or the address cannot be reached.
	Unsent Reason = "unsent"
)

// Counters are what a relay has done since its process began.
type Counters struct {
	// Packets and Bytes were forwarded.
	Packets, Bytes uint64
	// Dropped counts the packets that were for the relay and not forwarded.
	Dropped map[Reason]uint64
	// Members may meet, Located are those of which it is known where they are, Sessions are known.
	Members, Located, Sessions int
}
