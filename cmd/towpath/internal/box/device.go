package box

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/carrier"
	"github.com/towpath/towpath/tunnel/kernel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/userspace"
)

// Interface is the name of the tunnel's network interface, where the backend has one.
const Interface = "tow0"

// Backends that a person may ask for.
const (
	Auto      = "auto"
	Kernel    = "kernel"
	Netstack  = "netstack"
	Userspace = "userspace"
)

// Ways are how encrypted packets leave, besides plain UDP. Both may be nil; Steer has been made with the Bind of Carrier then.
type Ways struct {
	// Carrier takes them over TCP where UDP is blocked.
	Carrier *carrier.Client
	// Steer takes them past relays.
	Steer *steer.Bind
}

// NewWays returns what is wanted, put together.
func NewWays(carried, direct bool, log *slog.Logger) (w Ways) {
	if carried {
		w.Carrier = carrier.NewClient(carrier.Times{}, log)
	}
	switch {
	case direct && carried:
		w.Steer = steer.New(w.Carrier.Bind(nil))
	case direct:
		w.Steer = steer.New(nil)
	}
	return w
}

// Device makes the tunnel device: the backend asked for, or the best this machine allows. It also returns which one and why.
//
// On a machine's own network stack the overlay stays unreachable after the process has ended, in order or not: what is meant for the tunnel
// must not leave by another way because a service was stopped.
//
// Tap is shown all packets; it may be nil. W is how encrypted packets leave, with the backends on wireguard-go.
func Device(backend, iface string, tap *capture.Tap, w Ways, log *slog.Logger) (gateway.Device, string, error) {
	return device(backend, iface, true, tap, w, log)
}

// DialDevice is Device for a person's computer: there the overlay is reachable again, by whatever way there is, once the process has ended
// in order.
func DialDevice(backend, iface string, tap *capture.Tap, w Ways, log *slog.Logger) (gateway.Device, string, error) {
	return device(backend, iface, false, tap, w, log)
}

func device(backend, iface string, keep bool, tap *capture.Tap, w Ways, log *slog.Logger) (gateway.Device, string, error) {
	why := "asked for"
	if backend == Auto {
		backend, why = look().choose()
	}
	why = backend + ", " + why
	switch backend {
	case Netstack:
		o := netstack.Options{Log: log, Name: iface, Socket: iface, FwMark: tunnel.MarkOuter, Tap: tap}
		switch {
		case w.Steer != nil:
			o.Bind = w.Steer
		case w.Carrier != nil:
			o.Bind = w.Carrier.Bind(nil)
		}
		d, err := netstack.New(o)
		if err != nil {
			return nil, "", fmt.Errorf("make the netstack tunnel: %w", err)
		}
		return d, why, nil
	case Kernel:
		d, err := kernel.New(kernel.Options{Log: log, Interface: iface, KeepBlackhole: keep})
		if err != nil {
			return nil, "", fmt.Errorf("make the kernel tunnel: %w", err)
		}
		return d, why, nil
	case Userspace:
		if err := kernel.CleanUp(iface); err != nil {
			return nil, "", err
		}
		o := userspace.Options{Log: log, Interface: iface, KeepBlackhole: keep, Tap: tap}
		switch {
		case w.Steer != nil:
			o.Bind = w.Steer
		case w.Carrier != nil:
			o.Bind = w.Carrier.Bind(nil)
		}
		d, err := userspace.New(o)
		if err != nil {
			return nil, "", fmt.Errorf("make the userspace tunnel: %w", err)
		}
		return d, why, nil
	}
	return nil, "", fmt.Errorf("there is no backend %q: use %s, %s, %s or %s", backend, Auto, Kernel, Userspace, Netstack)
}

// Tapped reports whether a device shows its packets to a tap: the kernel's own shows them to nobody.
func Tapped(d gateway.Device) bool {
	_, kernels := d.(*kernel.Device)
	return !kernels
}

// Wrapped reports whether a device sends by Ways: the kernel sends its own packets.
func Wrapped(d gateway.Device) bool { return Tapped(d) }

// machine is what decides about the backend.
type machine struct {
	kernel error // why the kernel's WireGuard cannot be used
	root   bool
	tun    error // why there can be no TUN interface
}

func look() machine {
	m := machine{kernel: kernel.Available(), root: os.Geteuid() == 0}
	_, m.tun = os.Stat("/dev/net/tun")
	return m
}

// choose takes the fastest backend that the machine allows, and says why no faster one.
func (m machine) choose() (backend, why string) {
	switch {
	case m.kernel == nil:
		return Kernel, "the kernel has WireGuard"
	case !m.root:
		return Netstack, "not running as root"
	case m.tun != nil:
		return Netstack, m.kernel.Error() + ", and no /dev/net/tun here"
	}
	return Userspace, m.kernel.Error() + "; root and /dev/net/tun are there"
}
