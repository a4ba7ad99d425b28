package coordinator

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of failed enrolments per remote address: a person with a damaged token gets through, a guesser gets nowhere. The secret has 128
// bits, so this protects the audit trail and the processor more than the secret.
const (
	failureBurst   = 10
	failureRefill  = time.Minute
	maxRemotes     = 4096
	remoteBits4    = 32
	remoteBits6    = 64 // one customer line
	failureForgets = failureBurst * failureRefill
)

// limiter counts recent failures per remote network, in a table that never grows beyond maxRemotes.
type limiter struct {
	mu      sync.Mutex
	remotes map[netip.Prefix]*bucket
	// swept is when the table was last searched for what is forgotten.
	swept time.Time
}

// bucket holds how many failures count at the time of the last one; one is forgotten each failureRefill.
type bucket struct {
	failures float64
	at       time.Time
}

func (b *bucket) level(now time.Time) float64 {
	return max(0, b.failures-float64(now.Sub(b.at))/float64(failureRefill))
}

// wait returns how long the remote must wait before its next attempt counts; 0 means that it may try.
func (l *limiter) wait(remote netip.Prefix, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.remotes[remote]
	if !ok {
		return 0
	}
	over := b.level(now) - (failureBurst - 1)
	if over <= 0 {
		return 0
	}
	return time.Duration(over * float64(failureRefill))
}

func (l *limiter) fail(remote netip.Prefix, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.remotes[remote]
	if !ok {
		if len(l.remotes) >= maxRemotes {
			l.evictLocked(now)
		}
		b = &bucket{}
		if l.remotes == nil {
			l.remotes = map[netip.Prefix]*bucket{}
		}
		l.remotes[remote] = b
	}
	b.failures, b.at = min(b.level(now)+1, failureBurst), now
}

// evictLocked makes room: at most once each failureRefill by a search for what is forgotten, otherwise at any entry's expense, because a
// search for each of a flood of failures would be what the flood is for.
func (l *limiter) evictLocked(now time.Time) {
	if now.Sub(l.swept) >= failureRefill {
		l.swept = now
		for p, b := range l.remotes {
			if now.Sub(b.at) >= failureForgets {
				delete(l.remotes, p)
			}
		}
	}
	for p := range l.remotes {
		if len(l.remotes) < maxRemotes {
			return
		}
		delete(l.remotes, p)
	}
}

// remoteOf reads the remote address of a connection, as "host:port" or only "host". What cannot be read shares one bucket.
func remoteOf(remote string) netip.Prefix {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		ap, err := netip.ParseAddrPort(remote)
		if err != nil {
			return netip.Prefix{}
		}
		addr = ap.Addr()
	}
	addr = addr.Unmap().WithZone("")
	bits := remoteBits6
	if addr.Is4() {
		bits = remoteBits4
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
