package reach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/towpath/towpath/tunnel"
)

// Errors of devices that cannot be used. ErrClosed wraps net.ErrClosed.
var (
	ErrClosed        = fmt.Errorf("tunnel device: %w", net.ErrClosed)
	ErrNotConfigured = errors.New("the tunnel is not configured yet")
)

// Reach is what one configuration lets a device talk to. It is immutable.
type Reach struct {
	own      []netip.Addr   // sorted
	first    [2]netip.Addr  // the first own address of each family: IPv4, IPv6
	prefixes []netip.Prefix // allowed IPs of all peers: sorted, none inside another
}

// New works out the reach of a valid Config.
func New(c tunnel.Config) *Reach {
	r := &Reach{}
	for _, p := range c.Addresses {
		a := p.Addr()
		r.own = append(r.own, a)
		if f := &r.first[family(a)]; !f.IsValid() {
			*f = a
		}
	}
	slices.SortFunc(r.own, netip.Addr.Compare)
	for _, p := range c.Peers {
		r.prefixes = append(r.prefixes, p.AllowedIPs...)
	}
	slices.SortFunc(r.prefixes, netip.Prefix.Compare)
	n := 0
	for _, p := range r.prefixes { // a prefix follows those that contain it
		if n == 0 || !r.prefixes[n-1].Overlaps(p) {
			r.prefixes[n] = p
			n++
		}
	}
	r.prefixes = r.prefixes[:n]
	return r
}

// Own are the device's addresses, sorted. The caller must not change them.
func (r *Reach) Own() []netip.Addr { return r.own }

// Source is the own address from which to talk to a: a itself if it is an own one, or else the first configured one of its family.
// The zero value means that there is none.
func (r *Reach) Source(a netip.Addr) netip.Addr {
	if r.isOwn(a) {
		return a
	}
	return r.first[family(a)]
}

// Sources are the own addresses from which to talk to others: at most one of each family.
func (r *Reach) Sources() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{r.first[0], r.first[1]}, func(a netip.Addr) bool { return !a.IsValid() })
}

// CheckDial says why the device cannot talk to a, at once instead of after a timeout.
func (r *Reach) CheckDial(a netip.Addr) error {
	if !r.Source(a).IsValid() {
		return fmt.Errorf("%w: this device has no address of the family of %v", syscall.ENETUNREACH, a)
	}
	if r.isOwn(a) {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.prefixes, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	if !ok {
		i--
	}
	if i < 0 || !r.prefixes[i].Contains(a) {
		return fmt.Errorf("%w: %v is among the allowed IPs of no peer", syscall.EHOSTUNREACH, a)
	}
	return nil
}

// CheckListen says why the device cannot listen on a.
func (r *Reach) CheckListen(a netip.Addr) error {
	if !r.isOwn(a) {
		return fmt.Errorf("%w: %v is not an address of this device, which has %v", syscall.EADDRNOTAVAIL, a, r.own)
	}
	return nil
}

func (r *Reach) isOwn(a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(r.own, a, netip.Addr.Compare)
	return ok
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
