package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

var external = netip.MustParseAddrPort("203.0.113.7:40001")

// fake is a router on loopback.
type fake struct {
	at netip.AddrPort

	mu       sync.Mutex
	pcp      bool // speaks PCP
	code     byte
	external netip.AddrPort
	deleted  int
	slow     time.Duration // before each answer
	twisted  func([]byte)  // spoils answers to map requests
}

func start(t *testing.T, f *fake) *fake {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f.at = c.LocalAddr().(*net.UDPAddr).AddrPort()
	if !f.external.IsValid() {
		f.external = external
	}
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			time.Sleep(f.slow)
			_, _ = c.WriteToUDPAddrPort(f.answer(b[:n]), from)
		}
	}()
	return f
}

// silent is a port that takes everything and answers nothing.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (f *fake) answer(q []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	ip := f.external.Addr().As4()
	switch {
	case q[0] == pcpVersion && !f.pcp:
		return []byte{0, pmpAnswer, 0, 1, 0, 0, 0, 9}
	case q[0] == pcpVersion:
		a := append([]byte(nil), q...)
		a[1], a[3] = pcpAnswer|pcpMap, f.code
		if binary.BigEndian.Uint32(q[4:]) == 0 {
			f.deleted++
		}
		binary.BigEndian.PutUint16(a[42:], f.external.Port())
		to := f.external.Addr().As16()
		copy(a[44:], to[:])
		if f.twisted != nil {
			f.twisted(a)
		}
		return a
	case q[1] == pmpAddress:
		return append([]byte{0, pmpAnswer, 0, f.code, 0, 0, 0, 9}, ip[:]...)
	}
	if binary.BigEndian.Uint32(q[8:]) == 0 {
		f.deleted++
	}
	a := append([]byte{0, pmpAnswer | pmpUDP, 0, f.code, 0, 0, 0, 9}, q[4:6]...)
	a = binary.BigEndian.AppendUint16(a, f.external.Port())
	return append(a, q[8:12]...)
}

func (f *fake) removed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deleted
}

func keeper(f *fake) *Keeper {
	return New(Options{
		Router: func() netip.AddrPort { return f.at }, Port: func(context.Context) uint16 { return 51820 }, Log: slog.New(slog.DiscardHandler),
	})
}

// A router of either protocol maps the port, and forgets it when the keeper ends.
func TestMappedAndRemoved(t *testing.T) {
	for _, tc := range []struct {
		pcp      bool
		protocol string
	}{{true, "PCP"}, {false, "NAT-PMP"}} {
		f := start(t, &fake{pcp: tc.pcp})
		k := keeper(f)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx); close(done) }()
		for end := time.Now().Add(10 * time.Second); !k.Mapping().External.IsValid() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		m := k.Mapping()
		if m.External != external || m.Protocol != tc.protocol || !m.Public() || time.Until(m.Expires) > lease || time.Until(m.Expires) < lease-time.Minute {
			t.Errorf("%s: %+v", tc.protocol, m)
		}
		cancel()
		<-done
		if f.removed() != 1 || k.Mapping().External.IsValid() {
			t.Errorf("%s: removed %d times, has %+v", tc.protocol, f.removed(), k.Mapping())
		}
	}
}

// A router of the older protocol that answers after the question was repeated refuses PCP twice. The second refusal is none of NAT-PMP.
func TestSlowRouterOfTheOlderProtocol(t *testing.T) {
	f := start(t, &fake{slow: 300 * time.Millisecond})
	if m := keeper(f).request(t.Context(), f.at, 51820, Mapping{}); m.Err != nil || m.External != external || m.Protocol != "NAT-PMP" {
		t.Errorf("%+v", m)
	}
}

// What the router takes back is gone at once; an answer that is lost takes nothing away.
func TestRenewalThatFails(t *testing.T) {
	for refuses, want := range map[bool]bool{true: false, false: true} {
		f := start(t, &fake{pcp: true})
		k := keeper(f)
		had := k.request(t.Context(), f.at, 51820, Mapping{})
		at := f.at
		if refuses {
			f.mu.Lock()
			f.code = 2
			f.mu.Unlock()
		} else {
			at = silent(t)
		}
		m := k.request(t.Context(), at, 51820, had)
		if had.Err != nil || m.Err == nil || stands(had, m.Err) != want || stands(Mapping{}, m.Err) {
			t.Errorf("refused %v: %+v after %+v", refuses, m, had)
		}
	}
}

// Each refusal is reported as such, with its protocol and code.
func TestRefused(t *testing.T) {
	for _, pcp := range []bool{true, false} {
		for code := byte(2); code <= 14; code++ {
			f := start(t, &fake{pcp: pcp, code: code})
			m := keeper(f).request(t.Context(), f.at, 51820, Mapping{})
			want := RefusedError{"NAT-PMP", uint16(code)}
			if pcp {
				want.Protocol = "PCP"
			}
			var refused *RefusedError
			if !errors.As(m.Err, &refused) || *refused != want || m.External.IsValid() {
				t.Errorf("%+v: %+v", want, m)
			}
		}
	}
}

// An answer with another nonce or port is not taken, nor is a mapping to nowhere.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	for name, twist := range map[string]func([]byte){
		"nonce":    func(b []byte) { b[30]++ },
		"port":     func(b []byte) { b[41]++ },
		"protocol": func(b []byte) { b[36] = 6 },
		"nowhere":  func(b []byte) { copy(b[56:], []byte{0, 0, 0, 0}) },
		"no port":  func(b []byte) { b[42], b[43] = 0, 0 },
		"no lease": func(b []byte) { copy(b[4:], []byte{0, 0, 0, 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, &fake{pcp: true, twisted: twist})
			s, err := open(t.Context(), f.at)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.c.Close() }()
			_, err = s.pcp(t.Context(), 51820, netip.AddrPort{}, nonce{1}, lease)
			switch name {
			case "nonce", "port", "protocol":
				if !errors.Is(err, ErrSilent) {
					t.Errorf("taken: %v", err)
				}
			default:
				if m := keeper(f).request(t.Context(), f.at, 51820, Mapping{}); m.Err == nil {
					t.Errorf("taken: %+v", m)
				}
			}
		})
	}
}

func TestPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"203.0.113.7:1": true, "10.0.0.1:1": false, "192.168.1.1:1": false, "100.64.3.4:1": false, "100.128.0.1:1": true, "127.0.0.1:1": false, "192.0.0.2:1": false, "198.18.0.1:1": false, "240.0.0.1:1": false, "169.254.1.1:1": false,
	} {
		if got := (Mapping{External: netip.MustParseAddrPort(a)}).Public(); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0, pmpAnswer | pmpUDP, 0, 0, 0, 0, 0, 9, 0xca, 0x6c, 0x9c, 0x41, 0, 0, 0x1c, 0x20})
	f.Add(appendPCP(nil, netip.MustParseAddr("192.168.1.5"), 51820, external, nonce{1}, lease))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parsePCP(b, 51820, nonce{1}); err == nil && (len(b) < pcpLength || nonce(b[24:36]) != (nonce{1})) {
			t.Errorf("taken: %x", b)
		}
		if _, err := parsePMPAddress(b); err == nil && len(b) < 12 {
			t.Errorf("taken: %x", b)
		}
		if _, _, err := parsePMP(b, 51820); err == nil && (len(b) < 16 || binary.BigEndian.Uint16(b[8:]) != 51820) {
			t.Errorf("taken: %x", b)
		}
	})
}
