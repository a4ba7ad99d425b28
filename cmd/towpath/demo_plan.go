package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
)

// demoPlan is what the demo uses of this machine.
type demoPlan struct {
	pool                          netip.Prefix
	httpPort, hubPort, centerPort uint16
	// The "LAN addresses" are loopback addresses of their own, so that every box can use the same ports, as in life.
	center, clinicA, clinicB netip.Addr
	dicomPort, hl7Port       uint16
}

// planDemo finds ports and prefixes that are free here.
func planDemo() (demoPlan, error) {
	var p demoPlan
	f := box.Facts(version)
	var err error
	if p.pool, err = freePool(slices.Concat(f.LANs, f.WANs, f.Containers)); err != nil {
		return p, err
	}
	for _, f := range []struct {
		into    *uint16
		network string
	}{{&p.httpPort, "tcp"}, {&p.hubPort, "udp"}, {&p.centerPort, "udp"}} {
		if *f.into, err = freePort(f.network, p.hubPort); err != nil {
			return p, err
		}
	}
	for third := range 200 {
		p.center, p.clinicA, p.clinicB = loopback(third, 10), loopback(third, 11), loopback(third, 12)
		for _, ports := range [][2]uint16{{11112, 2575}, {11113, 2576}, {21112, 22575}} {
			p.dicomPort, p.hl7Port = ports[0], ports[1]
			if allFree(p) {
				return p, nil
			}
		}
	}
	return p, errors.New("no loopback address has a free DICOM and HL7 port: is this Linux?")
}

func loopback(third, last int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(third), byte(last)})
}

func allFree(p demoPlan) bool {
	for _, a := range []netip.Addr{p.center, p.clinicA, p.clinicB} {
		for _, port := range []uint16{p.dicomPort, p.hl7Port} {
			if !freeTCP(netip.AddrPortFrom(a, port).String()) {
				return false
			}
		}
	}
	return true
}

// freePool returns a private /16 that touches none of the machine's own networks.
func freePool(lans []netip.Prefix) (netip.Prefix, error) {
	for _, s := range []string{"10.201.0.0/16", "10.77.0.0/16", "10.143.0.0/16", "172.27.0.0/16"} {
		pool := netip.MustParsePrefix(s)
		if !slices.ContainsFunc(lans, pool.Overlaps) {
			return pool, nil
		}
	}
	return netip.Prefix{}, errors.New("this machine's own networks leave no room for an address plan")
}

// freePort asks the system for a port, other than not.
func freePort(network string, not uint16) (uint16, error) {
	for range 20 {
		var addr string
		var err error
		if network == "udp" {
			addr, err = probeUDP("127.0.0.1:0")
		} else {
			addr, err = probeTCP("127.0.0.1:0")
		}
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && uint16(n) != not {
			return uint16(n), nil
		}
	}
	return 0, errors.New("find a free port: the system keeps offering the same one")
}

func freeTCP(addr string) bool {
	_, err := probeTCP(addr)
	return err == nil
}

func probeTCP(addr string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func probeUDP(addr string) (string, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().String(), nil
}
