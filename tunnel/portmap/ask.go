package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// ErrSilent means that the router answers neither protocol.
var ErrSilent = errors.New("the router offers no port mapping")

// lease is how long a mapping is asked for. It is renewed long before, see renewEvery.
const lease = 2 * time.Hour

// tries are how long an answer is waited for, each time a question is sent (RFC 6886 §3.1, cut short).
func tries() []time.Duration {
	return []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}
}

// maxForeign is how many packets that are no answer are read between two questions.
const maxForeign = 16

// socket speaks to one router. It is connected, so that the system drops what others send.
type socket struct{ c *net.UDPConn }

func open(ctx context.Context, router netip.AddrPort) (socket, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		mark(c)
		return nil
	}}
	c, err := d.DialContext(ctx, "udp4", router.String())
	if err != nil {
		return socket{}, fmt.Errorf("reach the router: %w", err)
	}
	return socket{c.(*net.UDPConn)}, nil
}

// own is the address that the router sees, in front of translation.
func (s socket) own() netip.Addr { return s.c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap() }

// ask sends q until read takes an answer.
func (s socket) ask(ctx context.Context, q []byte, read func([]byte) error) error {
	stop := context.AfterFunc(ctx, func() { _ = s.c.Close() })
	defer stop()
	b := make([]byte, maxPacket+1)
	for _, wait := range tries() {
		if err := s.c.SetDeadline(time.Now().Add(wait)); err != nil {
			return fmt.Errorf("ask the router: %w", err)
		}
		// Some systems tell the refusal of the packet before (ICMP port unreachable) when the next is sent.
		if _, err := s.c.Write(q); errors.Is(err, syscall.ECONNREFUSED) {
			return ErrSilent
		} else if err != nil {
			return fmt.Errorf("ask the router: %w", err)
		}
		for range maxForeign {
			n, err := s.c.Read(b)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				return ErrSilent
			}
			if err != nil {
				break
			}
			if err := read(b[:n]); !errors.Is(err, errForeign) {
				return err
			}
		}
	}
	return ErrSilent
}

func (s socket) pcp(ctx context.Context, port uint16, wanted netip.AddrPort, n nonce, lifetime time.Duration) (a answer, err error) {
	err = s.ask(ctx, appendPCP(nil, s.own(), port, wanted, n, lifetime), func(b []byte) (err error) {
		a, err = parsePCP(b, port, n)
		return err
	})
	return a, err
}

func (s socket) pmp(ctx context.Context, port, wanted uint16, lifetime time.Duration) (a answer, err error) {
	var at netip.Addr
	if lifetime != 0 {
		err = s.ask(ctx, []byte{0, pmpAddress}, func(b []byte) (err error) {
			at, err = parsePMPAddress(b)
			return err
		})
		if err != nil {
			return a, err
		}
	}
	err = s.ask(ctx, appendPMP(nil, port, wanted, lifetime), func(b []byte) error {
		external, granted, err := parsePMP(b, port)
		a = answer{netip.AddrPortFrom(at, external), granted}
		return err
	})
	return a, err
}
