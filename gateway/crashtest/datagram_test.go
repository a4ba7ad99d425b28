package crashtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// datagrams is the internet in front of a UDP port: it carries datagrams there and back, and may lose them, be late, go silent, or forget who its
// callers were, so that they come from another port from then on, as behind a router that was restarted.
type datagrams struct {
	front *net.UDPConn
	to    netip.AddrPort
	wg    sync.WaitGroup

	mu     sync.Mutex
	back   map[netip.AddrPort]*net.UDPConn // by caller
	loss   float64
	delay  time.Duration
	passed int
}

func newDatagrams(to netip.AddrPort) (*datagrams, error) {
	front, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, err
	}
	d := &datagrams{front: front, to: to, back: map[netip.AddrPort]*net.UDPConn{}}
	d.wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue // what the kernel says of a port that is closed
			}
			if c, err := d.caller(from); err == nil {
				d.carry(append([]byte{}, buf[:n]...), func(b []byte) { _, _ = c.Write(b) })
			}
		}
	})
	return d, nil
}

func (d *datagrams) address() netip.AddrPort {
	a, _ := netip.ParseAddrPort(d.front.LocalAddr().String())
	return a
}

// caller returns the socket by which a caller is carried on.
func (d *datagrams) caller(from netip.AddrPort) (*net.UDPConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.back[from]; c != nil {
		return c, nil
	}
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(d.to))
	if err != nil {
		return nil, err
	}
	d.back[from] = c
	d.wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err == nil {
				d.carry(append([]byte{}, buf[:n]...), func(b []byte) { _, _ = d.front.WriteToUDPAddrPort(b, from) })
			}
		}
	})
	return c, nil
}

func (d *datagrams) carry(b []byte, on func(b []byte)) {
	d.mu.Lock()
	lost, delay := rand.Float64() < d.loss, d.delay
	if !lost {
		d.passed++
	}
	d.mu.Unlock()
	switch {
	case lost:
	case delay > 0:
		time.AfterFunc(delay, func() { on(b) })
	default:
		on(b)
	}
}

// be says what share is lost, from 0 to 1, and how late the rest is.
func (d *datagrams) be(loss float64, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loss, d.delay = loss, delay
}

// forget drops all callers.
func (d *datagrams) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for from, c := range d.back {
		_ = c.Close()
		delete(d.back, from)
	}
}

// carried is how many datagrams have passed.
func (d *datagrams) carried() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

func (d *datagrams) close() {
	_ = d.front.Close()
	d.forget()
	d.wg.Wait()
}
