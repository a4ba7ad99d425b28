package dicom

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The bounds of Devices. When there are more, the ones not heard for longest are forgotten.
const (
	maxDevices      = 512
	maxDeviceUses   = 8
	maxRatedCallers = 1024
)

// Decision is what an operator has said of a device.
type Decision struct {
	AETitle string
	// Address is where it is; the zero value means anywhere.
	Address netip.Addr
	Denied  bool
	// Report is the host:port where it listens for outcomes of storage commitments; empty for the usual.
	Report string
}

// Device is one that has called.
type Device struct {
	AETitle string     `json:"ae_title"`
	Address netip.Addr `json:"address"`
	First   time.Time  `json:"first"`
	Last    time.Time  `json:"last"`
	// Services are what it called for, at most eight.
	Services []string `json:"services"`
	// State is "unknown", "approved" or "denied".
	State string `json:"state"`
}

// deviceState is what has been decided of a device.
type deviceState uint8

const (
	deviceUnknown   deviceState = iota
	deviceApproved              // at this address, or anywhere
	deviceDenied                // so, too
	deviceElsewhere             // approved at another address
)

// Devices is the book of a Site's devices: who has called, and what was decided of them. It is safe for concurrent use; a nil one knows
// nobody and forgets all.
type Devices struct {
	mu        sync.Mutex
	seen      map[deviceKey]*Device
	decisions []Decision
	rates     map[rateKey]*rate
}

type deviceKey struct {
	ae   string
	addr netip.Addr
}

type rateKey struct {
	service string
	deviceKey
}

// rate counts the associations of the minute that began at.
type rate struct {
	at time.Time
	n  int
}

// NewDevices returns a book with what was saved of another.
func NewDevices(saved []Device) *Devices {
	d := &Devices{seen: map[deviceKey]*Device{}, rates: map[rateKey]*rate{}}
	for _, s := range saved[:min(len(saved), maxDevices)] {
		s.State = ""
		d.seen[deviceKey{s.AETitle, s.Address}] = &s
	}
	return d
}

// Decide replaces what operators have decided.
func (d *Devices) Decide(decisions []Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decisions = slices.Clone(decisions)
}

// state returns what was decided, and the AE titles that are approved.
func (d *Devices) state(ae string, from netip.Addr) (deviceState, []string) {
	if d == nil {
		return deviceUnknown, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stateLocked(ae, from)
}

// stateLocked lets a decision about this very address count before one about all.
func (d *Devices) stateLocked(ae string, from netip.Addr) (deviceState, []string) {
	state := deviceUnknown
	var approved []string
	exact := false
	for _, x := range d.decisions {
		if !x.Denied {
			approved = append(approved, x.AETitle)
		}
		if x.AETitle != ae || exact {
			continue
		}
		switch here := x.Address == from; {
		case x.Address.IsValid() && !here:
			if !x.Denied && state == deviceUnknown {
				state = deviceElsewhere
			}
		case x.Denied:
			state, exact = deviceDenied, here
		default:
			state, exact = deviceApproved, here
		}
	}
	return state, approved
}

// saw notes that a device has called.
func (d *Devices) saw(service, ae string, from netip.Addr, now time.Time) {
	if d == nil || !from.IsValid() {
		return
	}
	ae = printable(ae)
	d.mu.Lock()
	defer d.mu.Unlock()
	k := deviceKey{ae, from}
	s := d.seen[k]
	if s == nil {
		if len(d.seen) >= maxDevices {
			d.forgetLocked()
		}
		s = &Device{AETitle: ae, Address: from, First: now.UTC()}
		d.seen[k] = s
	}
	s.Last = now.UTC()
	if !slices.Contains(s.Services, service) && len(s.Services) < maxDeviceUses {
		s.Services = append(s.Services, service)
		slices.Sort(s.Services)
	}
}

func (d *Devices) forgetLocked() {
	var oldest deviceKey
	for k, s := range d.seen {
		if o := d.seen[oldest]; o == nil || s.Last.Before(o.Last) {
			oldest = k
		}
	}
	delete(d.seen, oldest)
}

// mayCall counts an association, and reports whether the device stays within its rate.
func (d *Devices) mayCall(service, ae string, from netip.Addr, most int, now time.Time) bool {
	if d == nil || most <= 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := rateKey{service, deviceKey{printable(ae), from}}
	r := d.rates[k]
	if r == nil {
		if len(d.rates) >= maxRatedCallers {
			clear(d.rates)
		}
		r = &rate{at: now}
		d.rates[k] = r
	}
	if now.Sub(r.at) >= time.Minute {
		*r = rate{at: now}
	}
	r.n++
	return r.n <= most
}

// Report is where a device listens for outcomes of storage commitments, as an operator has said; empty if nobody has.
func (d *Devices) Report(ae string, from netip.Addr) string {
	if d == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	found := ""
	for _, x := range d.decisions {
		if x.AETitle != ae || x.Report == "" || x.Address.IsValid() && x.Address != from {
			continue
		}
		if found == "" || x.Address == from {
			found = x.Report
		}
	}
	return found
}

// List returns who has called, by AE title and address.
func (d *Devices) List() []Device {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Device, 0, len(d.seen))
	for _, s := range d.seen {
		c := *s
		c.Services = slices.Clone(s.Services)
		switch state, _ := d.stateLocked(s.AETitle, s.Address); state {
		case deviceApproved:
			c.State = "approved"
		case deviceDenied:
			c.State = "denied"
		default:
			c.State = "unknown"
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Device) int {
		if c := strings.Compare(a.AETitle, b.AETitle); c != 0 {
			return c
		}
		return a.Address.Compare(b.Address)
	})
	return out
}
