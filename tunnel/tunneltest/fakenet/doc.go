// Package fakenet is an internet in memory, for testing/synctest: hosts behind NATs and firewalls of every kind, and a relay. A host's Bind
// goes under a real wireguard-go device.
//
// It models mappings and filters as RFC 4787 names them, their age, chains of them (CGNAT), realms of private addresses, delay and loss.
// It does not model rates, fragments, ICMP or hairpinning. The relay knows its two ends by where they are seen, as the product's knows them
// by their sessions; it does not look into packets.
//
// The finalizers of wireguard-go touch channels of the bubble: a test keeps its devices referenced until its process ends.
package fakenet
