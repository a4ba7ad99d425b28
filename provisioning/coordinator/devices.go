package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxDecisions is how many devices of one Site may be decided on.
const maxDecisions = 256

// DeviceState is what an operator has decided of a device.
type DeviceState string

// The states.
const (
	DeviceUnknown  DeviceState = "unknown"
	DeviceApproved DeviceState = "approved"
	DeviceDenied   DeviceState = "denied"
)

// DeviceInfo is a device of a Site: one that called its box, one that was decided on, or both.
type DeviceInfo struct {
	wire.Device
	State DeviceState
	// First and Last are when it called, zero for never, and Services what for.
	First, Last time.Time
	Services    []string
}

// Devices returns those of a Site by AE title and address: the decisions, and the devices that its boxes report which none of them fits.
func (c *Coordinator) Devices(ctx context.Context, site string) ([]DeviceInfo, error) {
	var out []DeviceInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		s, err := siteNamed(tx, site)
		if err != nil {
			return err
		}
		nodes, err := tx.Nodes().List()
		if err != nil {
			return fmt.Errorf("read the nodes: %w", err)
		}
		out = nil
		for _, d := range s.Devices {
			state := DeviceApproved
			if d.Denied {
				state = DeviceDenied
			}
			out = append(out, DeviceInfo{Device: d, State: state})
		}
		for _, n := range nodes {
			if n.Site == s.ID {
				out = addCallers(out, n.Facts.Devices)
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b DeviceInfo) int { return compareDevices(a.Device, b.Device) })
	return out, err
}

// addCallers notes who has called at the decision that counts for it, or as unknown.
func addCallers(list []DeviceInfo, called []wire.DeviceFacts) []DeviceInfo {
	for _, f := range called {
		at := slices.IndexFunc(list, func(d DeviceInfo) bool { return d.AETitle == f.AETitle && d.Address == f.Address })
		if at < 0 {
			at = slices.IndexFunc(list, func(d DeviceInfo) bool { return d.AETitle == f.AETitle && !d.Address.IsValid() })
		}
		if at < 0 {
			list = append(list, DeviceInfo{Device: wire.Device{AETitle: f.AETitle, Address: f.Address}, State: DeviceUnknown})
			at = len(list) - 1
		}
		d := &list[at]
		if d.First.IsZero() || f.First.Before(d.First) {
			d.First = f.First
		}
		if f.Last.After(d.Last) {
			d.Last = f.Last
		}
		d.Services = append(d.Services, f.Services...)
		slices.Sort(d.Services)
		d.Services = slices.Compact(d.Services)
	}
	return list
}

func compareDevices(a, b wire.Device) int {
	return cmp.Or(cmp.Compare(a.AETitle, b.AETitle), a.Address.Compare(b.Address))
}

// DecideDevice approves or denies a device of a Site, or takes what was decided of it back.
func (c *Coordinator) DecideDevice(ctx context.Context, actor, site string, d wire.Device, state DeviceState) error {
	return c.change(ctx, actor, "device."+string(state), func(tx store.Tx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		if err := checkDevice(d, state); err != nil {
			return "", "", err
		}
		d.Denied = state == DeviceDenied
		list := slices.DeleteFunc(slices.Clone(s.Devices), func(o wire.Device) bool { return compareDevices(o, d) == 0 })
		switch {
		case state == DeviceUnknown && len(list) == len(s.Devices):
			return "", "", provisioning.Errorf(provisioning.NotFound, "nothing was decided of %s", d.AETitle).
				WithHint("\"towpath device list --site %s\" shows what was", s.Name)
		case state != DeviceUnknown && len(list) >= maxDecisions:
			return "", "", provisioning.Errorf(provisioning.Conflict, "%d devices of site %s were decided on already", len(list), s.Name).
				WithHint("forget those that are gone")
		case state != DeviceUnknown:
			list = append(list, d)
		}
		slices.SortFunc(list, compareDevices)
		s.Devices = list
		if len(list) == 0 {
			s.Devices = nil
		}
		if err := tx.Sites().Update(s); err != nil {
			return "", "", fmt.Errorf("store the devices: %w", err)
		}
		where := "anywhere"
		if d.Address.IsValid() {
			where = d.Address.String()
		}
		return s.Name, fmt.Sprintf("%s at %s %s", d.AETitle, where, d.Report), nil
	})
}

func checkDevice(d wire.Device, state DeviceState) error {
	if err := provisioning.CheckAETitle(d.AETitle); err != nil {
		return err
	}
	if state != DeviceUnknown && state != DeviceApproved && state != DeviceDenied {
		return provisioning.Errorf(provisioning.Invalid, "%q is no state of a device", clean(string(state), maxShort)).
			WithHint("give approved, denied or unknown")
	}
	if a := d.Address; a.IsValid() && (a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast()) {
		return provisioning.Errorf(provisioning.Invalid, "%v is no address of a device", a).WithHint("give one address, such as 192.168.10.7")
	}
	if d.Report != "" {
		return provisioning.CheckTarget(d.Report)
	}
	return nil
}

// cleanDevices is for what a box tells of its callers.
func cleanDevices(list []wire.DeviceFacts) []wire.DeviceFacts {
	var out []wire.DeviceFacts
	for _, d := range list[:min(len(list), maxCalled)] {
		d.AETitle = clean(d.AETitle, maxShort)
		if d.AETitle == "" || !d.Address.IsValid() || d.Address.Zone() != "" {
			continue
		}
		d.First, d.Last = d.First.UTC(), d.Last.UTC()
		var services []string
		for _, s := range d.Services[:min(len(d.Services), 8)] {
			services = append(services, clean(s, maxShort))
		}
		d.Services = services
		out = append(out, d)
	}
	return out
}
