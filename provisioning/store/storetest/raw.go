package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// This file is for the tests beside each engine, which go around the program: what is there, and what is to be refused.

// with returns r with a change.
func with(r provisioning.Range, change func(*provisioning.Range)) provisioning.Range {
	change(&r)
	return r
}

func labeled(r provisioning.Range, label string) provisioning.Range {
	r.Label = label
	return r
}

func ownedBy(r provisioning.Range, owner string) provisioning.Range {
	r.Owner = owner
	return r
}

func purposed(r provisioning.Range, purpose provisioning.RangePurpose) provisioning.Range {
	r.Purpose = purpose
	return r
}

func ending(r provisioning.Range) provisioning.Range {
	r.Until = time.Unix(9, 9).UTC()
	return r
}

// fixedRanges are the ranges of Fixture. Tests name them by number.
func fixedRanges() []provisioning.Range {
	return []provisioning.Range{
		labeled(RangeOf(pool, "10.64.0.0/16"), "north"),
		RangeOf(pool, "fd00::/48"),
		labeled(RangeOf(allocation, "10.64.4.0/24"), "mitte"),
		ownedBy(RangeOf(reserved, "10.64.6.0/24"), ""),
		RangeOf(foreign, "10.64.128.0/17"),
		RangeOf(foreign, "10.64.128.0/24"),
		RangeOf(allocation, "fd00:0:0:4::/64"),
		RangeOf(pool, "10.64.4.0/22"),
		RangeOf(lan, "192.168.178.0/24"),
		RangeOf(reported, "192.168.179.0/24"),
		mappedTo("10.64.9.0/24", "192.168.178.0/24"),
		ending(ownedBy(RangeOf(allocation, "10.64.12.0/24"), "")),
		ending(ownedBy(RangeOf(reserved, "10.64.13.0/24"), "")),
		RangeOf(pool, "10.64.32.0/24"),
		RangeOf(pool, "10.72.0.0/16"),
		RangeOf(pool, "10.72.1.0/24"),
		RangeOf(allocation, "10.72.1.0/25"),
		RangeOf(reserved, "10.64.14.0/24"),
	}
}

// Fixture fills an empty Store with something of everything: the site_a; the nodes node_1 at 10.64.4.1, formerly .2, and node_2 at .3,
// formerly .4; the services svc_a at .5 and svc_b without address; three events, three entries of the history; generation 1; and ranges of
// every kind with the ids 1 to 18, of which 1, 2, 8, 14, 15 and 16 are pools.
func Fixture(t testing.TB, s store.Store) {
	t.Helper()
	berlin := provisioning.Site{ID: "site_a", Name: "a"}
	node := func(n byte, address, former string) provisioning.Node {
		return provisioning.Node{
			ID: provisioning.NodeID(fmt.Sprint("node_", n)), Site: berlin.ID, Kind: wire.Gateway, PublicKey: wgkey.PublicKey{n},
			Address: addr(address), Former: addr(former),
		}
	}
	update(t, s, func(tx store.Tx) error {
		if err := errors.Join(bump(tx), tx.Sites().Create(berlin), tx.Nodes().Create(node(1, "10.64.4.1", "10.64.4.2")),
			tx.Nodes().Create(node(2, "10.64.4.3", "10.64.4.4")),
			tx.Services().Create(provisioning.Service{ID: "svc_a", Site: berlin.ID, Name: "a", Port: 1, Address: addr("10.64.4.5")}),
			tx.Services().Create(provisioning.Service{ID: "svc_b", Site: berlin.ID, Name: "b", Port: 2})); err != nil {
			return err
		}
		for i, r := range fixedRanges() {
			if _, err := tx.Ranges().Create(r); err != nil {
				return err
			}
			if i >= 3 {
				continue
			}
			if _, err := tx.Events().Append(provisioning.Event{At: now(), Action: "a"}); err != nil {
				return err
			}
			if _, err := tx.History().Append(provisioning.RangeEvent{At: now(), Range: r}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Dump is all that the rules are about, as text.
func Dump(t testing.TB, s store.Store) string {
	t.Helper()
	var b strings.Builder
	view(t, s, func(tx store.Tx) error {
		ranges, err1 := tx.Ranges().List()
		events, err2 := tx.Events().List(0, 100)
		nodes, err3 := tx.Nodes().List()
		services, err4 := tx.Services().List()
		v4, err5 := tx.History().Overlapping(netip.MustParsePrefix("0.0.0.0/0"), 100)
		v6, err6 := tx.History().Overlapping(netip.MustParsePrefix("::/0"), 100)
		g, err7 := tx.Generation()
		fmt.Fprintln(&b, ranges, events, nodes, services, v4, v6, g)
		return errors.Join(err1, err2, err3, err4, err5, err6, err7)
	})
	return b.String()
}

// Overlaps are ranges that Fixture leaves no place for.
func Overlaps() map[string]provisioning.Range {
	return map[string]provisioning.Range{
		"pool equal to a pool":               RangeOf(pool, "10.64.0.0/16"),
		"pool in an allocation":              RangeOf(pool, "10.64.4.128/25"),
		"pool in a quarantined allocation":   RangeOf(pool, "10.64.12.0/25"),
		"pool over a LAN":                    RangeOf(pool, "192.168.0.0/16"),
		"pool equal to a LAN":                RangeOf(pool, "192.168.178.0/24"),
		"pool in a LAN":                      RangeOf(pool, "192.168.178.64/26"),
		"pool over what a box reported":      RangeOf(pool, "192.168.179.0/24"),
		"pool in what a box reported":        RangeOf(pool, "192.168.179.255/32"),
		"LAN over pools":                     RangeOf(lan, "10.0.0.0/8"),
		"LAN equal to a pool":                RangeOf(lan, "10.64.0.0/16"),
		"LAN in a pool":                      RangeOf(lan, "10.64.250.0/24"),
		"LAN over an allocation":             RangeOf(lan, "10.64.4.0/23"),
		"reported over pools":                RangeOf(reported, "0.0.0.0/0"),
		"reported in a pool":                 RangeOf(reported, "10.64.250.0/24"),
		"reported in an allocation":          RangeOf(reported, "10.64.4.1/32"),
		"IPv6 LAN in a pool":                 RangeOf(lan, "fd00:0:0:99::/64"),
		"the same LAN":                       RangeOf(lan, "192.168.178.0/24"),
		"reported again":                     RangeOf(reported, "192.168.179.0/24"),
		"allocation over an allocation":      RangeOf(allocation, "10.64.4.0/23"),
		"allocation in an allocation":        RangeOf(allocation, "10.64.4.77/32"),
		"the same allocation":                RangeOf(allocation, "10.64.4.0/24"),
		"allocation around a pool":           RangeOf(allocation, "10.64.32.0/23"),
		"allocation over a quarantined one":  RangeOf(allocation, "10.64.12.0/24"),
		"allocation over a reservation":      RangeOf(allocation, "10.64.6.0/24"),
		"allocation in what is quarantined":  RangeOf(allocation, "10.64.13.0/25"),
		"reservation over an allocation":     RangeOf(reserved, "10.64.0.0/16"),
		"reservation in a reservation":       RangeOf(reserved, "10.64.6.128/25"),
		"allocation inside a foreign range":  RangeOf(allocation, "10.64.200.0/24"),
		"allocation in the nested foreign":   RangeOf(allocation, "10.64.128.8/29"),
		"allocation equal to a foreign":      RangeOf(allocation, "10.64.128.0/17"),
		"foreign range over an allocation":   RangeOf(foreign, "10.0.0.0/8"),
		"foreign range in an allocation":     RangeOf(foreign, "10.64.4.128/25"),
		"allocation outside":                 RangeOf(allocation, "10.65.0.0/24"),
		"allocation wider than its pool":     RangeOf(allocation, "fd00::/47"),
		"allocation in a LAN":                RangeOf(allocation, "192.168.178.0/26"),
		"IPv6 allocation in an allocation":   RangeOf(allocation, "fd00:0:0:4::1/128"),
		"IPv6 foreign range over everything": RangeOf(foreign, "::/0"),
		"a label that is taken":              labeled(RangeOf(reserved, "10.64.10.0/24"), "north"),
	}
}

// MappedRange is harmless and stands for 192.168.178.0/26.
func MappedRange() provisioning.Range { return mappedTo("10.64.10.0/26", "192.168.178.0/26") }

// BadRanges are wrong in themselves.
func BadRanges() map[string]provisioning.Range {
	free := RangeOf(foreign, "11.0.0.0/8")
	mapped := MappedRange()
	maps := func(r provisioning.Range, p netip.Prefix) provisioning.Range {
		r.Maps = p
		return r
	}
	return map[string]provisioning.Range{
		"another kind":            with(free, func(r *provisioning.Range) { r.Kind = "gift" }),
		"pool with an owner":      ownedBy(RangeOf(pool, "11.0.0.0/8"), "site_a"),
		"foreign with an owner":   ownedBy(free, "site_a"),
		"LAN of nobody":           ownedBy(RangeOf(lan, "11.0.0.0/8"), ""),
		"reported by nobody":      ownedBy(RangeOf(reported, "11.0.0.0/8"), ""),
		"reported as nothing":     purposed(RangeOf(reported, "11.0.0.0/8"), ""),
		"reported as overlay":     purposed(RangeOf(reported, "11.0.0.0/8"), "overlay"),
		"LAN with a purpose":      purposed(RangeOf(lan, "11.0.0.0/8"), "lan"),
		"pool with a purpose":     purposed(RangeOf(pool, "11.0.0.0/8"), "overlay"),
		"allocated for nothing":   purposed(RangeOf(allocation, "10.64.10.0/24"), ""),
		"allocated as LAN":        purposed(RangeOf(allocation, "10.64.10.0/24"), "lan"),
		"foreign with a label":    labeled(free, "x"),
		"LAN with a label":        labeled(RangeOf(lan, "11.0.0.0/8"), "x"),
		"reported with a label":   labeled(RangeOf(reported, "11.0.0.0/8"), "x"),
		"mapped to nothing":       maps(mapped, netip.Prefix{}),
		"overlay with a LAN":      purposed(mapped, "overlay"),
		"reserved for a LAN":      maps(RangeOf(reserved, "10.64.10.0/26"), mapped.Maps),
		"pool with an end":        ending(RangeOf(pool, "11.0.0.0/8")),
		"foreign with an end":     ending(free),
		"LAN with an end":         ending(RangeOf(lan, "11.0.0.0/8")),
		"reported with an end":    ending(RangeOf(reported, "11.0.0.0/8")),
		"reservation with an end": ending(RangeOf(reserved, "11.0.0.0/8")),
	}
}

// Harmless are ranges that Fixture leaves a place for, all at once.
func Harmless() []provisioning.Range {
	return []provisioning.Range{
		RangeOf(allocation, "10.64.5.0/24"), RangeOf(foreign, "10.64.128.0/17"), RangeOf(pool, "10.64.4.0/24"), RangeOf(pool, "10.0.0.0/8"),
		RangeOf(allocation, "10.64.32.0/24"), RangeOf(lan, "192.168.178.0/25"), RangeOf(reserved, "192.168.178.0/24"),
		RangeOf(foreign, "10.64.6.0/25"), MappedRange(), mappedTo("fd00:0:0:9::/64", "fd12::/64"),
		ownedBy(RangeOf(lan, "192.168.178.0/24"), "site_b"), purposed(RangeOf(reported, "192.168.179.0/24"), provisioning.PurposeLAN),
		labeled(RangeOf(reserved, "10.64.7.0/24"), "west"), ending(RangeOf(allocation, "10.64.15.0/24")),
	}
}
