package rotation

import (
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	// ReachWithin is how long the hub may be silent after a Turn until the box goes Back, and before a Turn that is made without it.
	ReachWithin = 2 * time.Minute
	// AgainAfter is how long a box that went Back stays there.
	AgainAfter = 10 * time.Minute
)

// Step is what a box does next.
type Step string

// The steps. All can be repeated.
const (
	Nothing Step = ""
	// Make makes and saves the next key.
	Make Step = "make"
	// Tell tells the coordinator the next key.
	Tell Step = "tell"
	// Turn makes the next key the box's own.
	Turn Step = "turn"
	// Back makes the former key the box's own again.
	Back Step = "back"
	// Settle forgets the former key.
	Settle Step = "settle"
	// Lost means that the plan waits for a key that is not on this box: somebody has to begin again.
	Lost Step = "lost"
)

// Box is what a box knows of its keys. Of Next and Former one at most is set; zero is none.
type Box struct {
	Own, Next, Former wgkey.PublicKey
	// Self is that of the newest map.
	Self wire.Self
	// Connected says whether the coordinator is heard, Since from when on it is so.
	Connected bool
	Since     time.Time
	// Turned is when the device got the key that is in use since a Turn, or since this process runs; zero for not yet.
	Turned time.Time
	// Reached means that there was a handshake with the hub after Turned.
	Reached bool
	// Back is when this process went Back the last time; zero for never.
	Back time.Time
}

// Decide returns what the box does next.
func Decide(b Box, now time.Time) Step {
	switch {
	case !b.Former.IsZero():
		return b.turned(now)
	case !b.Next.IsZero():
		return b.prepared(now)
	}
	return b.settled()
}

func (b Box) settled() Step {
	if b.Self.PublicKey != b.Own {
		return Nothing // no map of ours: whoever takes maps has refused it
	}
	switch b.Self.Rotate {
	case wire.RotateMake:
		return Make
	case wire.RotateWait, wire.RotateTurn:
		return Lost
	}
	return Nothing
}

func (b Box) prepared(now time.Time) Step {
	switch {
	case b.Self.PublicKey == b.Next:
		return Turn // nobody knows the other one any more
	case b.Self.Rotate == wire.RotateMake:
		return Tell
	case b.Self.Rotate != "" && b.Self.NextKey != b.Next:
		return Lost
	case b.Self.Rotate == wire.RotateTurn && b.mayTurn(now):
		return Turn
	}
	return Nothing
}

// mayTurn wants to hear the coordinator, because it is who sees whether the new key works. Where it is silent, it may have seen the new
// key already and know no other.
func (b Box) mayTurn(now time.Time) bool {
	if !b.Back.IsZero() && now.Sub(b.Back) < AgainAfter {
		return false
	}
	return b.Connected || now.Sub(b.Since) >= ReachWithin
}

func (b Box) turned(now time.Time) Step {
	switch {
	case b.Self.PublicKey == b.Own:
		return Settle
	case b.Self.NextKey != b.Own:
		return Back // the plan has forgotten the change
	case !b.Reached && !b.Turned.IsZero() && now.Sub(b.Turned) >= ReachWithin:
		return Back
	}
	return Nothing
}
