// Package pairkey agrees on the preshared key of a pair of boxes, which makes what is recorded of their tunnel today useless to who has a
// quantum computer later (WireGuard paper §5.2).
//
// It is pure: a Pair takes messages, what the tunnel shows and the time, and says what to save, to post and to configure. The messages
// are left with the coordinator, one per direction, the newest in place of the one before; it can lose, keep, repeat and reorder them, and
// read nothing. The box with the lower node ID makes the keys, the other one takes them:
//
//	taker                                      maker
//	  offer: a KEM key of this exchange only ──►
//	                                        ◄── key: epoch and key, sealed to it
//	  saves it, in doubt whether it is used
//	  ack: a MAC under the key ────────────────►  saves it, uses it from now on
//	                                        ◄── commit: a MAC under the key
//	  uses it from now on
//	                                        ◄── want: asks for an offer, where the maker has no key
//
// All messages carry a MAC under what both WireGuard keys give by X25519, so that the coordinator can make none. A key is used after it was
// confirmed by the other end only, and saved before that.
//
// WireGuard mixes the key into handshakes alone: a session lives on for 180 s whatever the key is, and is renewed after 120 s. What can
// happen in between is that the maker uses a key of which the taker is in doubt, because the commit did not come. The states of a taker:
//
//	           Tick: none, old, or fallen back          key opens
//	┌───────┐ ────────────────────────────► ┌─────────┐ ───────────► ┌──────────┐
//	│ rests │                               │ offered │              │ in doubt │
//	└───▲───┘                               └─────────┘              └────┬─────┘
//	    └──── commit, or a handshake under the new key, or it is in the ──┘
//	          base of the next key
//
// A pair whose handshakes fail asks for another key by mail within seconds, and looks for the key that the other end uses, in case that
// nobody reaches the coordinator. A taker in doubt tries its two keys in turn as soon as it sees that a handshake failed. Without doubt, as
// after the loss of one end's files, the taker goes through all it has at every scanDwell after scanAfter, and the maker more slowly than
// the taker's whole round, so that both meet without a clock in common. An end that hears nothing at all is most likely cut off: then it
// begins after minutes and is back at its best key in between, and begins anew when it hears the other end. Where the network does not
// require a key, having none is the last of the choices. A pair that fell back agrees on the next key at once.
//
// State: that of a Pair.
package pairkey
