package tunnel

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// DefaultMTU is the inner MTU used until a larger one is proven on a path: the IPv6 minimum (RFC 8200 §5), which fits through DS-Lite,
// PPPoE and every carrier seen so far.
const DefaultMTU = 1280

// Config is one complete desired device. Devices apply it idempotently and compute the difference themselves.
type Config struct {
	PrivateKey wgkey.PrivateKey
	// ListenPort is the UDP port of the device; 0 lets the system choose one, which is then kept until the device is closed.
	ListenPort uint16
	// Addresses are the node's own overlay addresses, as host prefixes (/32 or /128). The first of each family is the source of all that is
	// dialed from now on, unless it is to an own address; the others are for listening. Connections from an earlier first address live on
	// for as long as that is among Addresses.
	Addresses []netip.Prefix
	// Blackhole lists the overlay prefixes that must never leave by any other interface; they may nest. Backends without a kernel routing table
	// need not do anything: they have no other interface.
	Blackhole []netip.Prefix
	// MTU is the inner MTU in bytes; 0 means DefaultMTU.
	MTU   int
	Peers []Peer
}

// Peer is the desired state of one other end.
type Peer struct {
	PublicKey wgkey.PublicKey
	// Next is the key that the peer will change to; the zero value means that it keeps its own. A device that package turn wraps takes both:
	// AllowedIPs belong to PublicKey until there is a handshake with Next, and to Next from then on. Devices themselves ignore it.
	Next wgkey.PublicKey
	// PresharedKey is optional: the zero value means none.
	PresharedKey wgkey.PresharedKey
	// Endpoint is where to reach the peer first. The zero value means unknown: the peer calls us. A device sets it when the peer
	// is new or when the configured value changes, and otherwise leaves the endpoint that WireGuard learned by roaming alone.
	Endpoint netip.AddrPort
	// Relayed says that Endpoint is a relay's, behind which a Device that can may look for a direct way: see package steer.
	Relayed bool
	// AllowedIPs are masked prefixes. No prefix may belong to two peers of one Config: WireGuard would silently give it to the last.
	AllowedIPs []netip.Prefix
	// PersistentKeepalive is rounded to whole seconds; 0 turns it off.
	PersistentKeepalive time.Duration
}

// Status is what a device says about itself.
type Status struct {
	// Backend names the implementation and, for kernel-backed ones, the interface.
	Backend    string
	PublicKey  wgkey.PublicKey
	ListenPort uint16
	Peers      []PeerStatus
}

// PeerStatus is the observed state of one peer.
type PeerStatus struct {
	PublicKey wgkey.PublicKey
	// Endpoint is the address in use now; the zero value means none is known.
	Endpoint netip.AddrPort
	// LastHandshake is zero if there has been none.
	LastHandshake    time.Time
	RxBytes, TxBytes uint64
	AllowedIPs       []netip.Prefix
}

// Device is a WireGuard device. Implementations are safe for concurrent use; tunneltest has the contract suite they all pass.
type Device interface {
	// Configure makes the device match the whole Config. Sessions of peers that did not change survive. It is idempotent.
	Configure(ctx context.Context, c Config) error
	Status(ctx context.Context) (Status, error)
	// Close ends all sessions and removes what the device made on the system. It is idempotent.
	Close() error
}

// Stack is implemented by devices through which this process can open connections inside the tunnel and nowhere else.
// Addresses are literal IP addresses with a port; names are never resolved.
type Stack interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen accepts network "tcp" only. The address is one of the device's own.
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}
