// Package relay carries WireGuard packets between peers that cannot reach each other, unmodified and without a byte of overhead, on the UDP
// port of a WireGuard device that runs in the same process.
//
// It never opens a socket, reads what is in a packet beyond its header, answers anybody or makes a packet of its own: what leaves is what
// came, or nothing. State: a Table in memory, and a file from which a restarted relay goes on.
//
// # How it works
//
// A handshake initiation names nobody, but its mac1 is a hash under the public key of who is called (WireGuard paper §5.4.4), and the relay
// knows the keys of its members. It tries those that the sender may call. All later packets carry an index that their receiver has
// chosen; the relay learns it when the handshake passes. The table is keyed by who sends and by the index, so that two ends that happen to
// choose one number do not meet.
//
// Who a sender is, the address says: the device of this process has a session with every managed member and knows where it is. A plain
// WireGuard device has none. What calls from an unknown address reaches a member that plain devices may call, at a low rate, and nothing
// else follows until that member has answered: its response carries a mac1 under the key of who called, which only the member can know
// after it has decrypted the initiation. Until the caller then uses the index that only the response told it, no more goes to its address
// than came from there.
//
// Only a handshake or the device's own session moves an end to another address; no packet of a session does.
package relay
