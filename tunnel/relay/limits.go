package relay

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"time"
)

// Limits bound what a relay spends. A zero field takes the default.
type Limits struct {
	// Sessions is how many handshakes and sessions are known at a time; 65,536 by default, at about half a kilobyte each.
	Sessions int
	// PairBytes and TotalBytes are bytes a second, forwarded for one pair and in all; 25,000,000 and 125,000,000 by default.
	PairBytes, TotalBytes int64
	// Work is how many public keys a second are tried on initiations in all; 200,000 by default, which is a tenth of a core.
	Work int
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Sessions: cmp.Or(l.Sessions, 1<<16), PairBytes: cmp.Or(l.PairBytes, 25_000_000), TotalBytes: cmp.Or(l.TotalBytes, 125_000_000),
		Work: cmp.Or(l.Work, 200_000),
	}
}

// Bounds that nobody has to choose.
const (
	// maxMembers and maxPairs bound one Admission. A WireGuard device has no more peers (tunnel.MaxPeers).
	maxMembers = 1 << 16
	maxPairs   = 1 << 18

	// asksPerSecond and asksBurst bound the initiations from one member to another. WireGuard sends one in five seconds.
	asksPerSecond, asksBurst = 1, 6
	// maxAsks is how many initiations of one pair may wait for a response, maxPairSessions how many sessions of it are known. WireGuard
	// has three at a time.
	maxAsks, maxPairSessions = 16, 8
	// Callers from unknown addresses: initiations a second from one address and to one member. maxUnknown is how many may wait.
	callerPerSecond, callerBurst = 1, 6
	doorPerSecond, doorBurst     = 50, 100
	maxUnknown                   = 1024
	callerBuckets                = 1024
	// maxTries is how many responses to one initiation are looked at that do not fit.
	maxTries = 3
	// workPerMate is how many times a second a member's initiations may be tried on all whom it may call.
	workPerMate, workFloor = 4, 64
)

// Times of WireGuard, with some room for what is under way (WireGuard paper §6.1).
const (
	// askLife is how long an initiation waits for its response; the sender makes another one after REKEY_TIMEOUT, 5 s.
	askLife = 10 * time.Second
	// sessionLife is REJECT_AFTER_TIME, 180 s, from the response on.
	sessionLife = 200 * time.Second
	// liveFor is how long after a handshake a member's address is believed. A session that is in use is renewed after 120 s.
	liveFor = 4 * time.Minute
	// provenFor is how long the address of a plain device is believed, from its last session on.
	provenFor = 10 * time.Minute
)

// bucket is a token bucket. The zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

// take spends n tokens of a bucket that holds burst and regains rate a second, or nothing if there are not as many.
func (b *bucket) take(now time.Time, n, rate, burst float64) bool {
	if d := now.Sub(b.at); d > 0 {
		b.spent = max(0, b.spent-d.Seconds()*rate)
		b.at = now
	}
	if b.spent+n > burst {
		return false
	}
	b.spent += n
	return true
}

// callers limits initiations by where they come from, in a fixed space: addresses may share a bucket, by a hash that nobody can foresee.
type callers struct {
	seed    maphash.Seed
	buckets [callerBuckets]bucket
}

// take spends one initiation of an address. An IPv6 caller has a network of 64 bits.
func (c *callers) take(now time.Time, a netip.Addr) bool {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	return c.buckets[maphash.Comparable(c.seed, p)%callerBuckets].take(now, 1, callerPerSecond, callerBurst)
}
