package kernel

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel/link"
)

// group is the interface group (IFLA_GROUP) of our interfaces, the number of link.Protocol: "ip link show group 116". It is set in the same
// request that makes the interface, so that there is no moment at which a crash leaves one behind that nobody recognizes.
const group = link.Protocol

const (
	kind   = "wireguard"
	rights = "this needs the capability NET_ADMIN; run as root or use the netstack backend"
)

// Available says why this process cannot use the kernel's WireGuard; nil means it can. Asking loads the kernel's module, and changes nothing
// else.
func Available() error {
	var caps [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return fmt.Errorf("find out what this process may do: %w", err)
	}
	if caps[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("not allowed to administrate the network (no capability NET_ADMIN)")
	}
	_, err := netlink.GenlFamilyGet(kind)
	if errors.Is(err, unix.ENOENT) {
		return errors.New("this kernel has no WireGuard")
	}
	if err != nil {
		return fmt.Errorf("ask the kernel for WireGuard: %w", err)
	}
	return nil
}

// holdName makes this process the only one that uses the interface, until the connection is closed or the process ends. Names of this
// kind (unix(7), abstract) belong to the network namespace, as interfaces do.
func holdName(name string) (net.PacketConn, error) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "@towpath/" + name})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("use the WireGuard interface %s: %w: another program holds it; stop that one or choose another interface name", name, unix.EBUSY)
	}
	if err != nil {
		return nil, fmt.Errorf("hold the WireGuard interface %s: %w", name, err)
	}
	return c, nil
}

func withLinks(do func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return do(h)
}

// find returns our interface, or nil if there is none. One that is not ours is an error.
func find(h *netlink.Handle, name string) (netlink.Link, error) {
	l, err := h.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for interface %s: %w", name, err)
	}
	switch {
	case l.Type() != kind:
		return nil, fmt.Errorf("use the WireGuard interface %s: an interface of another kind (%s) has this name; remove it or choose another name",
			name, l.Type())
	case l.Attrs().Group != group:
		return nil, fmt.Errorf("use the WireGuard interface %s: another program made one of this name; remove it (ip link delete %s) or choose "+
			"another name", name, name)
	}
	return l, nil
}

// makeInterface makes the interface with an MTU in bytes, unless it is there. Making it is all: it has no key and is down.
func makeInterface(name string, mtu int) (made bool, err error) {
	err = withLinks(func(h *netlink.Handle) error {
		if l, err := find(h, name); l != nil || err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.Group = name, mtu, group
		if err := h.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}); err != nil {
			return explain(name, err)
		}
		made = true
		return nil
	})
	return made, err
}

func explain(name string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		hint = ": " + rights
	case errors.Is(err, unix.EOPNOTSUPP):
		hint = ": this kernel has no WireGuard; use the userspace or netstack backend"
	}
	return fmt.Errorf("create the WireGuard interface %s: %w%s", name, err, hint)
}

// removeInterface removes our interface, if there is one, and with it its sessions.
func removeInterface(name string) error {
	return withLinks(func(h *netlink.Handle) error {
		l, err := find(h, name)
		if l == nil || err != nil {
			return err
		}
		if err := h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the WireGuard interface %s: %w", name, err)
		}
		return nil
	})
}

// CleanUp removes the interface of a Device whose process was killed, for when another backend is used from now on: it would hold the UDP port
// and answer its peers. An interface that a running process holds, or that is not ours, stays, and is no error. Routes are package link's.
func CleanUp(name string) error {
	hold, err := holdName(name)
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = hold.Close() }()
	return withLinks(func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err != nil || l.Type() != kind || l.Attrs().Group != group {
			return nil //nolint:nilerr // nothing of ours; whoever makes the interface says what is in the way
		}
		if err := h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the left-over WireGuard interface %s: %w", name, err)
		}
		return nil
	})
}
