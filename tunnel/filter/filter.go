package filter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Table is the name of our table, of the inet family. There is one in each network namespace.
const Table = "towpath"

// ErrUnavailable is wrapped when this machine has no such filter, or this process no right to it. Nothing was changed then.
var ErrUnavailable = errors.New("no packet filter here")

// ErrInvalid is wrapped by what is wrong with a Ruleset.
var ErrInvalid = errors.New("invalid firewall rules")

// Limits of a Ruleset, far above what a plan has.
const (
	maxPrefixes   = 1 << 13
	maxPorts      = 1 << 12
	maxInterfaces = 256
	maxOpen       = 1 << 16
	maxName       = 15 // IFNAMSIZ without its end
)

// Ruleset is all that the table says. The order of lists does not matter, and prefixes may overlap.
type Ruleset struct {
	// Tunnel is the name of the tunnel's interface, which need not exist yet.
	Tunnel string
	// Overlay are the plan's prefixes. Their addresses may be on the tunnel's interface and on loopback only, as source or destination.
	Overlay []netip.Prefix
	// Keep are networks that this machine is attached to although the plan has them, too: an error of planning, which must not cut the
	// machine off. They are left out of Overlay where that bars other interfaces, and only there.
	Keep []netip.Prefix
	// Ports are the clinical TCP ports: they are barred on every interface but the tunnel's, loopback and the Site's own. Listen are further
	// ports that only the Site may call; calling others there is nobody's harm.
	Ports, Listen []uint16
	// LAN are the interfaces of the Site. Shared are those that lead to the internet, too: there only Site belongs to the Site.
	LAN, Shared []string
	Site        []netip.Prefix
	// Also are networks of the Site that are reached by whatever interface.
	Also []netip.Prefix
	// Open is where this machine may be called from inside of the tunnel. Answers to its own calls, and ICMP, need no place here.
	Open []netip.AddrPort
}

// Drop counts what a rule has dropped since the process started to count.
type Drop struct {
	// What is the rule's comment.
	What    string
	Packets uint64
	Bytes   uint64
}

// Status is what the kernel says of our table.
type Status struct {
	// Loaded means that there is such a table, Intact that it is the one applied last by this process, unchanged.
	Loaded, Intact bool
	// Dropped has the rules that drop, in their order.
	Dropped []Drop
}

// Firewall applies Rulesets. Implementations are safe for concurrent use.
type Firewall interface {
	// Apply makes the table be exactly r, in one transaction: at every moment the old or the new rules hold. It is idempotent.
	Apply(ctx context.Context, r Ruleset) error
	// Status reads what is there.
	Status(ctx context.Context) (Status, error)
	// Remove takes our table away, if it is there.
	Remove(ctx context.Context) error
	// Close releases what the Firewall itself holds. The table stays.
	Close() error
}

// Tight is what may be in force while old is being replaced by next: all that either bars, and nothing that not both let through. A zero
// old stands for a machine that offers nothing yet.
func Tight(old, next Ruleset) Ruleset {
	return Ruleset{
		Tunnel:  next.Tunnel,
		Overlay: slices.Concat(old.Overlay, next.Overlay),
		Keep:    common(old.Keep, next.Keep),
		Ports:   slices.Concat(old.Ports, next.Ports),
		Listen:  slices.Concat(old.Listen, next.Listen),
		LAN:     common(old.LAN, next.LAN),
		Shared:  common(old.Shared, next.Shared),
		Site:    common(old.Site, next.Site),
		Also:    common(old.Also, next.Also),
		Open:    common(old.Open, next.Open),
	}
}

// common returns what both have.
func common[T comparable](a, b []T) (both []T) {
	for _, x := range a {
		if slices.Contains(b, x) {
			both = append(both, x)
		}
	}
	return both
}

// Equal reports whether both say the same.
func (r Ruleset) Equal(o Ruleset) bool {
	return r.Validate() == nil && o.Validate() == nil && compile(r).id == compile(o).id
}

// Validate says what is wrong.
func (r Ruleset) Validate() error {
	if !validName(r.Tunnel) {
		return fmt.Errorf("%w: %q is no name of an interface", ErrInvalid, r.Tunnel)
	}
	if n := len(r.LAN) + len(r.Shared); n > maxInterfaces {
		return fmt.Errorf("%w: %d interfaces are more than %d", ErrInvalid, n, maxInterfaces)
	}
	for _, n := range slices.Concat(r.LAN, r.Shared) {
		if !validName(n) || n == r.Tunnel {
			return fmt.Errorf("%w: %q is no interface of a Site", ErrInvalid, n)
		}
	}
	for _, list := range [][]netip.Prefix{r.Overlay, r.Keep, r.Site, r.Also} {
		if len(list) > maxPrefixes {
			return fmt.Errorf("%w: %d prefixes are more than %d", ErrInvalid, len(list), maxPrefixes)
		}
		for _, p := range list {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				return fmt.Errorf("%w: %v is not a masked prefix", ErrInvalid, p)
			}
		}
	}
	for _, p := range r.Overlay {
		if p.Bits() == 0 {
			return fmt.Errorf("%w: the overlay cannot be everything (%v): the machine would be cut off", ErrInvalid, p)
		}
	}
	if n := len(r.Ports) + len(r.Listen); n > maxPorts || slices.Contains(r.Ports, 0) || slices.Contains(r.Listen, 0) {
		return fmt.Errorf("%w: %d ports, which must be at most %d and none of them 0", ErrInvalid, n, maxPorts)
	}
	if len(r.Open) > maxOpen {
		return fmt.Errorf("%w: %d places are more than %d", ErrInvalid, len(r.Open), maxOpen)
	}
	for _, a := range r.Open {
		if !a.IsValid() || a.Port() == 0 || a.Addr().Is4In6() || a.Addr().Zone() != "" {
			return fmt.Errorf("%w: %v is no place to be called at", ErrInvalid, a)
		}
	}
	return nil
}

// validName reports whether the kernel takes a name and nft(8) can say it.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == '"' || c == '*' || c == '\\' || c == ':' {
			return false
		}
	}
	return true
}
