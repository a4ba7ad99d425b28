// Package turn lets the two ends of a tunnel change their keys without a gap. It wraps any tunnel.Device and makes tunnel.Peer.Next
// true; everything it does goes through Configure and Status of the device below, so it needs nothing of a backend that the kernel does
// not have as well. A device with a method StatusOf(ctx, keys), a Status of those peers only, is asked by that.
//
// It never makes keys, decides who changes when, or talks to the coordinator. State: which key of a pair is in use, in memory; after a
// restart the handshakes that the device remembers say it again.
//
// # The sequence
//
//  1. Everybody who has the peer is configured with PublicKey (in use) and Next (to come), and says so. The device gets two WireGuard
//     peers. Next has the same endpoint and preshared key, but no allowed IPs and no keepalive, so that it is silent: it takes part
//     only when the other end starts.
//  2. The end that changes is configured with another PrivateKey. WireGuard ends its sending sessions, but goes on receiving with the
//     old ones, and forgets that it may send only one initiation in five seconds. This package then calls every peer whose endpoint is
//     known, at once, whether traffic waits or not.
//  3. The handshake arrives at Next. Allowed IPs and keepalive move there in one Configure. Until then all traffic to the end that
//     changed goes through the old session, which that end still receives.
//  4. Some time later a Config with the former Next as PublicKey, and no Next, drops the old key. The device keeps the session: to it
//     the peer of that key has been there all along.
//
// Turning back is the same with the keys exchanged: whichever of the two had the latest handshake is in use.
//
// # Reasons
//
// What counts is LastHandshake, not an initiation: an initiation can be recorded and replayed by anybody, while WireGuard reports a
// handshake to the responder only when the first packet under the new session has proved that the other end is alive. The price is
// that this packet, and those in the few milliseconds before the move, are dropped as coming from a peer without allowed IPs. The gap
// towards the end that stays is one round trip (packets wait meanwhile, they are not lost) and one polling interval; the gap towards
// the end that changes is nothing.
//
// Which handshake is later is decided by the order in which they are seen, and by their times only if both are new: the clock of a box
// may be set back between two handshakes.
//
// Two initiations that cross on the way destroy each other, and both ends then wait five seconds (REKEY_TIMEOUT). Here they cannot
// cross in the normal case: the staying end still calls the old key, which the changing end ignores without a trace, because it cannot
// even check the message; and Next never calls. WireGuard is made to call by turning the persistent keepalive on: wireguard-go and
// the kernel then send an empty packet at once, and without a session that begins with a handshake. Calls go out in groups, the peers
// heard last first: as soon as more than 128 handshake messages wait, wireguard-go takes itself to be under attack and answers with
// cookies, and whoever gets one waits five seconds.
//
// If nobody answers under the key in use, Next is called as well: a second or two after this end changed its key or started (which of
// the two, the order of the keys decides, so that the calls do not cross), and whenever a peer that is to be kept alive has had no
// handshake for three minutes. It is for both ends changing at the same time, for a box that slept while the other end changed, and
// for one that boots from a saved configuration. If the key is not in use, the other end ignores the call.
//
// Nothing notifies about a handshake, so the status is polled while there is a Next: every 20 ms, but never more than a twentieth of
// one core. With 2,000 peers on wireguard-go a look takes 7 ms of a server's core, so there are 135 ms between two. Without a Next, and
// when all calls are made, there is no goroutine.
//
// # Limits
//
// If a message of the handshake is lost on the way, WireGuard repeats it after five seconds, and nothing can make it do so earlier. The
// same happens when an end turns back to its former key at the very moment at which the other end calls that key once more: for some
// 100 s after a turn it does so every five seconds, and the calls cross if they are under way at the same time.
package turn
