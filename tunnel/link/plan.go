package link

import (
	"fmt"
	"net/netip"
	"slices"
)

// verb is one kind of change to the kernel.
type verb int

const (
	addBlackhole verb = iota
	setMTU
	addAddress
	setUp
	addRoute
	setSource
	removeRoute
	removeAddress
	removeBlackhole
)

func (v verb) String() string {
	return [...]string{
		"add unreachable route", "set MTU", "add address", "set up", "add route", "set source of route", "remove route", "remove address",
		"remove unreachable route",
	}[v]
}

// step is one change. The prefix belongs to the address and route verbs, the source to addRoute and setSource, the number to setMTU.
type step struct {
	verb   verb
	prefix netip.Prefix
	source netip.Addr
	mtu    int
}

func (s step) String() string {
	switch {
	case s.verb == setMTU:
		return fmt.Sprintf("%v %d", s.verb, s.mtu)
	case s.source.IsValid():
		return fmt.Sprintf("%v %v from %v", s.verb, s.prefix, s.source)
	case s.prefix.IsValid():
		return fmt.Sprintf("%v %v", s.verb, s.prefix)
	}
	return s.verb.String()
}

// state is what the kernel has.
type state struct {
	Config
	up bool
	// from has the source of each of Routes that has one.
	from map[netip.Prefix]netip.Addr
}

// plan lists the changes from what is to what should be, both normalized, in an order that never lets overlay traffic out: the
// unreachable routes are the first to come and the last to go. An address goes after all routes have another source, because the kernel
// removes with it the routes that it is the source of.
func plan(is state, want Config) []step {
	var steps []step
	missing := func(v verb, want, have []netip.Prefix) {
		for _, p := range want {
			if _, ok := slices.BinarySearchFunc(have, p, netip.Prefix.Compare); !ok {
				steps = append(steps, step{verb: v, prefix: p})
			}
		}
	}
	missing(addBlackhole, want.Blackhole, is.Blackhole)
	if want.MTU != 0 && want.MTU != is.MTU {
		steps = append(steps, step{verb: setMTU, mtu: want.MTU})
	}
	missing(addAddress, want.Addresses, is.Addresses)
	if !is.up {
		steps = append(steps, step{verb: setUp})
	}
	for _, p := range want.Routes {
		switch _, there := slices.BinarySearchFunc(is.Routes, p, netip.Prefix.Compare); {
		case !there:
			steps = append(steps, step{verb: addRoute, prefix: p, source: want.source(p)})
		case is.from[p] != want.source(p):
			steps = append(steps, step{verb: setSource, prefix: p, source: want.source(p)})
		}
	}
	missing(removeRoute, is.Routes, want.Routes)
	missing(removeAddress, is.Addresses, want.Addresses)
	missing(removeBlackhole, is.Blackhole, want.Blackhole)
	return steps
}
