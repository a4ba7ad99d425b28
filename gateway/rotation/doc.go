// Package rotation decides what a box does next while its key is being changed.
//
// It is pure: it makes no key, writes no file and calls nobody. What it decides on is in files (the keys, the map) and a few times of the
// running process, so that a box that was cut off at any point goes on after a restart with what it finds.
//
// The keys of a box are in one of three states, see gateway/state:
//
//	                 plan says "make"                    plan says "turn" with the next key
//	      ┌─────────┐ Make          ┌──────────┐ Turn                      ┌────────┐
//	──────► settled ├──────────────►│ prepared ├──────────────────────────►│ turned │
//	      └────▲────┘               └┬───▲──▲──┘                           └┬──┬────┘
//	           │        plan "make"  │   │  │   hub silent for 2 minutes,    │  │
//	           │        Tell         └───┘  │   or plan without this key     │  │
//	           │                            └────────── Back ───────────────┘  │
//	           └──────────────────────── Settle ───────────────────────────────┘
//	                                     plan says that the new key is the box's
//
// Before Turn, the hub and all peers know both keys; from the handshake that the hub sees under the new key on, the plan knows the new
// one alone. Whoever went back and missed that finds the hub silent, and turns again.
//
// State: none.
package rotation
