// Package clock keeps a box's clock from going backwards, because WireGuard peers refuse whoever comes from the past.
//
// It compares the wall clock with three others: the floor, which is the latest time that this box has certainly lived through; the
// coordinator's clock, where it is heard; and the time that has passed in this process. It sets the clock only where the machine's owner
// said so, and never one that follows a time server. What is to be set to what is state.Clock's rule.
//
// State: the time floor's file in the state directory, which a Keeper alone raises while a gateway runs; the last repair, in memory.
package clock
