// Package standby chooses which gateway of a center a clinic uses, and moves what leads to the center there.
//
// A clinic keeps WireGuard sessions to all gateways of the center. Each gateway has an address of its own, which never moves. The
// services' addresses are on all of them, and the clinic's tunnel leads them to exactly one: the active one. Each clinic decides by
// itself, so a switch needs no coordinator, and no gateway has to agree with another.
//
//	             Failures in a row, and another is healthy
//	active = A ─────────────────────────────────────────────▶ active = B
//	           ◀─────────────────────────────────────────────
//	             A ranks higher, is healthy for Hold, and the last move is Hold ago
//	             or: B fails, and A is healthy
//
// Healthy means that the last probe found that the gateway reaches all services that any of them reaches. If nobody is, the active one stays:
// a move would help nobody and end what still runs.
//
// Machine is the choice, a pure function of probes and time. Watch probes and obeys it. Keeper does so for all centers of a map. Place is the
// change of the map that a choice makes; it is compiled and applied like any other, in one configuration of the tunnel. Answerer is the other
// end of the probes, at the center: a line per question, on one connection that is kept.
//
// State: the active gateways that are not the preferred ones, which the Keeper hands to Save.
package standby
