package box

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	none := errors.New("this kernel has no WireGuard")
	for _, c := range []struct {
		machine
		backend, why string
	}{
		{machine{root: true}, Kernel, "the kernel has WireGuard"},
		{machine{kernel: nil, root: false, tun: fs.ErrNotExist}, Kernel, "the kernel has WireGuard"}, // the capability is enough
		{machine{kernel: none, root: true}, Userspace, "this kernel has no WireGuard; root and /dev/net/tun are there"},
		{machine{kernel: none, root: true, tun: fs.ErrNotExist}, Netstack, "this kernel has no WireGuard, and no /dev/net/tun here"},
		{machine{kernel: none}, Netstack, "not running as root"},
	} {
		if backend, why := c.choose(); backend != c.backend || why != c.why {
			t.Errorf("%+v: %s, %s", c.machine, backend, why)
		}
	}
}

func TestDeviceSaysWhichAndWhy(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, backend := range []string{Kernel, Userspace, Netstack} {
		d, why, err := Device(backend, "towbox0", nil, Ways{}, log)
		if err != nil {
			t.Fatal(err)
		}
		if why != backend+", asked for" {
			t.Errorf("asked for %s: %s", backend, why)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d, why, err := Device(Auto, "towbox0", nil, Ways{}, log)
	if err != nil {
		t.Fatal(err)
	}
	if b, reason, _ := strings.Cut(why, ", "); reason == "" || (b != Kernel && b != Userspace && b != Netstack) {
		t.Errorf("chosen: %s", why)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := Device("best", "towbox0", nil, Ways{}, log); err == nil || !strings.Contains(err.Error(), "auto, kernel, userspace or netstack") {
		t.Errorf("an unknown backend: %v", err)
	}
}
