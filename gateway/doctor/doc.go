// Package doctor explains the way from a box to its network, from the cable to the peers: what works, what does not, and what to do about it.
//
// It asks each part by itself, so that "the tunnel is down" becomes "UDP does not get out, everything else does". It changes nothing and sends
// nothing but what a box sends anyway. What it cannot ask itself (the tunnel, the coordinator) it is given as functions.
//
// State: none.
package doctor
