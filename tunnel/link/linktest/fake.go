package linktest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/towpath/towpath/tunnel/link"
)

// Fake is a Linker that remembers. Interfaces must be added before they are configured, as in a kernel. The zero value is ready.
type Fake struct {
	// Err, if set, may refuse an Apply.
	Err func(link.Config) error

	mu         sync.Mutex
	interfaces map[string]link.Config
	blackhole  []netip.Prefix
	changes    int
}

var _ link.Linker = (*Fake)(nil)

// AddInterface makes an interface without addresses.
func (f *Fake) AddInterface(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.interfaces == nil {
		f.interfaces = map[string]link.Config{}
	}
	f.interfaces[name] = link.Config{Interface: name, MTU: 1500}
}

// Changes counts the Applies and Removes that changed something.
func (f *Fake) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// Apply implements link.Linker.
func (f *Fake) Apply(ctx context.Context, c link.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Err != nil {
		if err := f.Err(c); err != nil {
			return err
		}
	}
	old, ok := f.interfaces[c.Interface]
	if !ok {
		return fmt.Errorf("%w: %s", link.ErrNotFound, c.Interface)
	}
	for _, p := range slices.Concat(c.Addresses, c.Routes, c.Blackhole) {
		if !p.IsValid() || p != p.Masked() {
			return errors.New("not a masked prefix")
		}
	}
	if c.MTU == 0 {
		c.MTU = old.MTU
	}
	for _, a := range c.Sources {
		if !slices.Contains(c.Addresses, netip.PrefixFrom(a, a.BitLen())) {
			return fmt.Errorf("%v is no address of %s", a, c.Interface)
		}
	}
	c.Addresses, c.Routes, c.Blackhole = sorted(c.Addresses), sorted(c.Routes), sorted(c.Blackhole)
	c.Sources = routed(c)
	if c.MTU != old.MTU || !slices.Equal(c.Addresses, old.Addresses) || !slices.Equal(c.Routes, old.Routes) || !slices.Equal(c.Sources, old.Sources) ||
		!slices.Equal(c.Blackhole, f.blackhole) {
		f.changes++
	}
	f.blackhole, c.Blackhole = c.Blackhole, nil
	f.interfaces[c.Interface] = c
	return nil
}

// Observe implements link.Linker.
func (f *Fake) Observe(ctx context.Context, name string) (link.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.interfaces[name]
	if !ok {
		c.Interface = name
	}
	c.Blackhole = f.blackhole
	return c, ctx.Err()
}

// Remove implements link.Linker.
func (f *Fake) Remove(ctx context.Context, name string, keepBlackhole bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.interfaces[name]; ok {
		f.interfaces = maps.Clone(f.interfaces)
		f.interfaces[name] = link.Config{Interface: name, MTU: c.MTU}
		f.changes++
	}
	if !keepBlackhole {
		f.blackhole = nil
	}
	return ctx.Err()
}

// routed are the sources of the families that have routes.
func routed(c link.Config) []netip.Addr {
	list := slices.DeleteFunc(slices.Clone(c.Sources), func(a netip.Addr) bool {
		return !slices.ContainsFunc(c.Routes, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
	})
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func sorted(ps []netip.Prefix) []netip.Prefix {
	s := slices.Clone(ps)
	slices.SortFunc(s, netip.Prefix.Compare)
	return slices.Compact(s)
}
