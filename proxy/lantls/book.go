package lantls

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a Book.
const (
	// MaxDevices is how many devices are kept; the one that was silent for longest goes first.
	MaxDevices = 512
	// MaxFaults is how many sources with failed connections are kept.
	MaxFaults = 128
	maxName   = 64
)

// Rule says until when cleartext is taken. Of those that fit, the one with the narrowest Device counts, and of two with the same, the one
// that names the Service. Where none fits, cleartext is taken with no end.
type Rule struct {
	// Device is where it comes from; the zero Prefix is everywhere.
	Device netip.Prefix
	// Service is empty for all.
	Service string
	// Until is the first moment at which cleartext is refused; zero is never.
	Until time.Time
}

func (r Rule) fits(source netip.Addr, service string) bool {
	return (!r.Device.IsValid() || r.Device.Contains(source)) && (r.Service == "" || r.Service == service)
}

// weight orders Rules by how narrow they are.
func (r Rule) weight() int {
	w := 0
	if r.Device.IsValid() {
		w = 2 * (1 + r.Device.Bits())
	}
	if r.Service != "" {
		w++
	}
	return w
}

// Visit is one association or message.
type Visit struct {
	Source            netip.Addr
	Protocol, Service string
	// Calling is the AE title, or the HL7 application and facility, of the device.
	Calling string
	TLS     bool
}

// Tally counts, and says when the last was.
type Tally struct {
	Count uint64    `json:"count"`
	Last  time.Time `json:"last,omitzero"`
}

func (t *Tally) add(now time.Time) { t.Count, t.Last = t.Count+1, now }

// Device is what came from one source under one name for one Service.
type Device struct {
	Source   netip.Addr `json:"source"`
	Calling  string     `json:"calling"`
	Protocol string     `json:"protocol"`
	Service  string     `json:"service"`
	// Refused counts what came in cleartext after its end.
	Cleartext Tally `json:"cleartext"`
	TLS       Tally `json:"tls"`
	Refused   Tally `json:"refused"`
	// Until is when cleartext ends for it by the rules of now; zero is never. It is not stored.
	Until time.Time `json:"until,omitzero"`
}

// Name says who it is, for a sentence.
func (d Device) Name() string {
	if d.Calling == "" {
		return "device " + d.Source.String()
	}
	return fmt.Sprintf("device %s (%s)", d.Calling, d.Source)
}

func (d Device) last() time.Time {
	return slices.MaxFunc([]time.Time{d.Cleartext.Last, d.TLS.Last, d.Refused.Last}, time.Time.Compare)
}

type deviceKey struct {
	source                     netip.Addr
	calling, protocol, service string
}

// Fault is what went wrong with connections from one source, last.
type Fault struct {
	Source  netip.Addr `json:"source"`
	Failure Failure    `json:"failure"`
	Tally   Tally      `json:"tally"`
}

type faultKey struct {
	source  netip.Addr
	failure Failure
}

// Book knows who speaks cleartext and who TLS. It is safe for concurrent use.
type Book struct {
	now func() time.Time

	mu      sync.Mutex
	rules   []Rule
	ports   map[string]uint16 // of TLS, by service
	devices map[deviceKey]*Device
	faults  map[faultKey]*Tally
	changed bool
}

// NewBook returns an empty one. now is the clock that ends go by: one that does not go back.
func NewBook(now func() time.Time) *Book {
	return &Book{now: now, devices: map[deviceKey]*Device{}, faults: map[faultKey]*Tally{}}
}

// Now is the Book's clock.
func (b *Book) Now() time.Time { return b.now() }

// Set changes the rules, and the TLS port of each Service, which is named to those that are refused.
func (b *Book) Set(rules []Rule, ports map[string]uint16) {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, c Rule) int { return cmp.Compare(c.weight(), a.weight()) })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules, b.ports = rules, ports
}

// Enter notes a Visit. It returns "" if the device may go on, else why not and what to do, in one sentence.
func (b *Book) Enter(v Visit) string {
	now := b.now().UTC()
	v.Source = v.Source.Unmap().WithZone("")
	v.Calling = short(v.Calling)
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.deviceLocked(v)
	b.changed = true
	if v.TLS {
		d.TLS.add(now)
		return ""
	}
	until := b.untilLocked(v.Source, v.Service)
	if until.IsZero() || now.Before(until) {
		d.Cleartext.add(now)
		return ""
	}
	d.Refused.add(now)
	return b.refusalLocked(*d, until)
}

func (b *Book) refusalLocked(d Device, until time.Time) string {
	where := "over TLS"
	if p := b.ports[d.Service]; p != 0 {
		where = fmt.Sprintf("over TLS at port %d", p)
	}
	return fmt.Sprintf("%s spoke cleartext to %s, which ended at %s: let it connect %s, or open cleartext again with \"towpath transition rollback\"",
		d.Name(), d.Service, until.UTC().Format(time.RFC3339), where)
}

func (b *Book) untilLocked(source netip.Addr, service string) time.Time {
	for _, r := range b.rules {
		if r.fits(source, service) {
			return r.Until
		}
	}
	return time.Time{}
}

func (b *Book) deviceLocked(v Visit) *Device {
	k := deviceKey{v.Source, v.Calling, v.Protocol, v.Service}
	if d := b.devices[k]; d != nil {
		return d
	}
	if len(b.devices) >= MaxDevices {
		var oldest deviceKey
		var at time.Time
		for k, d := range b.devices {
			if at.IsZero() || d.last().Before(at) {
				oldest, at = k, d.last()
			}
		}
		delete(b.devices, oldest)
	}
	d := &Device{Source: v.Source, Calling: v.Calling, Protocol: v.Protocol, Service: v.Service}
	b.devices[k] = d
	return d
}

// Devices returns all, by source, name and service.
func (b *Book) Devices() []Device {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Device, 0, len(b.devices))
	for _, d := range b.devices {
		x := *d
		x.Until = b.untilLocked(d.Source, d.Service)
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, c Device) int {
		return cmp.Or(a.Source.Compare(c.Source), cmp.Compare(a.Calling, c.Calling), cmp.Compare(a.Service, c.Service), cmp.Compare(a.Protocol, c.Protocol))
	})
	return out
}

// Late are the sentences of refusal for devices that were refused within the time, by device.
func (b *Book) Late(within time.Duration) map[Device]string {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[Device]string{}
	for _, d := range b.devices {
		until := b.untilLocked(d.Source, d.Service)
		if d.Refused.Count == 0 || now.Sub(d.Refused.Last) > within || until.IsZero() || now.Before(until) || d.TLS.Last.After(d.Refused.Last) {
			continue
		}
		out[*d] = b.refusalLocked(*d, until)
	}
	return out
}

// Restore puts back what Devices returned before a restart. What is there already stays.
func (b *Book) Restore(devices []Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range devices {
		k := deviceKey{d.Source, short(d.Calling), d.Protocol, d.Service}
		if b.devices[k] != nil || len(b.devices) >= MaxDevices || !d.Source.IsValid() {
			continue
		}
		d.Until, d.Calling = time.Time{}, k.calling
		b.devices[k] = &d
	}
}

// Changed reports whether there is something new since it was last asked.
func (b *Book) Changed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.changed
	b.changed = false
	return c
}

// fail notes a connection that came to nothing.
func (b *Book) fail(source netip.Addr, f Failure) {
	now := b.now().UTC()
	b.mu.Lock()
	defer b.mu.Unlock()
	k := faultKey{source, f}
	t := b.faults[k]
	if t == nil {
		if len(b.faults) >= MaxFaults {
			var oldest faultKey
			var at time.Time
			for k, t := range b.faults {
				if at.IsZero() || t.Last.Before(at) {
					oldest, at = k, t.Last
				}
			}
			delete(b.faults, oldest)
		}
		t = &Tally{}
		b.faults[k] = t
	}
	t.add(now)
}

// Faults returns what went wrong since the start, newest first.
func (b *Book) Faults() []Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Fault, 0, len(b.faults))
	for k, t := range b.faults {
		out = append(out, Fault{Source: k.source, Failure: k.failure, Tally: *t})
	}
	slices.SortFunc(out, func(a, c Fault) int {
		return cmp.Or(c.Tally.Last.Compare(a.Tally.Last), a.Source.Compare(c.Source), cmp.Compare(a.Failure, c.Failure))
	})
	return out
}

// short bounds a name that a device gave itself.
func short(s string) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}
