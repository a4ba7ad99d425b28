package box

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/tunnel/filter"
	"github.com/towpath/towpath/tunnel/netstack"
)

// GuardOptions are what a person may choose about the firewall.
type GuardOptions struct {
	// Interface is the tunnel's.
	Interface string
	// LAN are the addresses that the Site's devices connect to, if somebody named them; Also are networks of the Site wherever they are.
	LAN  []netip.Addr
	Also []netip.Prefix
	// Off is somebody's explicit wish to go without.
	Off bool
	// Person means a person's computer, of which only the overlay's addresses are guarded.
	Person bool
}

// Guard makes the firewall that fits a device: only a backend with an interface of its own needs one, and only there are there the rights.
func Guard(dev gateway.Device, o GuardOptions) gateway.Guard {
	if _, ok := dev.(*netstack.Device); ok {
		return gateway.Guard{Absent: "not needed: this backend has no interface, so nothing in the tunnel has another way out"}
	}
	if o.Off {
		return gateway.Guard{Absent: "turned off with --no-firewall"}
	}
	named := slices.DeleteFunc(slices.Clone(o.LAN), func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() })
	return gateway.Guard{
		Firewall: &filter.Kernel{}, Interface: o.Interface, OverlayOnly: o.Person,
		Sides: func() reconcile.Sides {
			s := Sides(named, Interface, o.Interface)
			s.Also = o.Also
			return s
		},
	}
}
