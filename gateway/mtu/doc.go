// Package mtu finds out how large packets in the tunnel may be, where routers on the way drop large ones and do not say so (RFC 2923): short
// messages get through then, and images hang. It only decides; it is told what was tried and what came of it.
//
//	        large ones are lost, small ones get through, Misses times
//	Size ────────────────────────────────────────────────────────────▶ the next smaller Size
//	  ▲                                                                      │
//	  └────────────── another network, or a day has passed ◀─────────────────┘
//
// What is tried goes to the coordinator and back, over a connection whose segments fill packets of the present size. The way to other peers begins with the
// same line, which is where small MTUs are; a way of theirs that is narrower elsewhere is not noticed.
package mtu
