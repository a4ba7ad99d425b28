package lantls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy"
)

// Limits of handshakes.
const (
	// DefaultHandshake is how long one may take.
	DefaultHandshake = 10 * time.Second
	// MaxHandshakes is how many may be under way at a listener, and MaxHandshakesFrom how many of them from one source: enough for every
	// device of a clinic after a power cut, and few enough that one that does not go on keeps nobody out.
	MaxHandshakes     = 32
	MaxHandshakesFrom = 4
)

// ServerConfig is what a Server works with. Handler, Profile and Book are required.
type ServerConfig struct {
	// Handler serves what is said inside of TLS. It finds a *tls.Conn.
	Handler proxy.Handler
	// Profile is asked for each connection; nil means that there is no certificate.
	Profile func() *Profile
	Book    *Book
	// Reject, if not empty, is what a device is answered that speaks cleartext: its protocol's own refusal.
	Reject []byte
	// Handshake is how long one may take; 0 means DefaultHandshake.
	Handshake time.Duration
}

// Server is a proxy.Handler that serves TLS and has another Handler serve what is inside.
type Server struct {
	cfg ServerConfig

	mu      sync.Mutex
	shaking map[netip.Addr]int
	all     int
}

// NewServer returns a Server.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Handshake == 0 {
		cfg.Handshake = DefaultHandshake
	}
	return &Server{cfg: cfg, shaking: map[netip.Addr]int{}}
}

// DICOMReject is an A-ASSOCIATE-RJ: permanent, by the service user, without a reason of the standard's (PS3.8 §9.3.4).
func DICOMReject() []byte { return []byte{3, 0, 0, 0, 0, 4, 0, 1, 1, 1} }

// Serve serves one connection.
func (s *Server) Serve(ctx context.Context, c net.Conn) proxy.Result {
	remote, local := addrOf(c.RemoteAddr()), addrOf(c.LocalAddr())
	if !s.begin(remote) {
		return s.failed(remote, FailCrowded, proxy.OutcomeRefused)
	}
	t, f := s.handshake(ctx, c, remote, local)
	s.end(remote)
	if f != "" {
		return s.failed(remote, f, outcomeOf(f))
	}
	res := s.cfg.Handler.Serve(ctx, t)
	if res.Outcome == proxy.OutcomeDone || res.Outcome == proxy.OutcomeRefused {
		_ = t.CloseWrite() // close_notify, so that the end is known to be the end (RFC 8446 §6.1)
	}
	return res
}

func (s *Server) handshake(ctx context.Context, c net.Conn, remote, local netip.Addr) (*tls.Conn, Failure) {
	p := s.cfg.Profile()
	if p == nil {
		return nil, FailOurs
	}
	if _, err := p.Certificate(local); err != nil {
		return nil, FailOurs
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Handshake)
	defer cancel()
	t := tls.Server(c, p.config(remote, local, s.cfg.Book.now()))
	err := t.HandshakeContext(ctx)
	if err == nil {
		return t, ""
	}
	if ctx.Err() != nil { // the connection was closed by that, and its error says no more
		err = ctx.Err()
	}
	f := judge(err)
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && len(s.cfg.Reject) > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(s.cfg.Reject)
	}
	return nil, f
}

func outcomeOf(f Failure) proxy.Outcome {
	switch f {
	case FailSlow:
		return proxy.OutcomeTimeout
	case FailBroken:
		return proxy.OutcomeAborted
	default:
		return proxy.OutcomeRefused
	}
}

func (s *Server) failed(remote netip.Addr, f Failure, o proxy.Outcome) proxy.Result {
	s.cfg.Book.fail(remote, f)
	return proxy.Result{Outcome: o, Detail: f.Advice()}
}

func (s *Server) begin(remote netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= MaxHandshakes || s.shaking[remote] >= MaxHandshakesFrom {
		return false
	}
	s.all++
	s.shaking[remote]++
	return true
}

func (s *Server) end(remote netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.shaking[remote]--; s.shaking[remote] <= 0 {
		delete(s.shaking, remote)
	}
}

// addrOf is the address of one end, or the zero Addr where it has none.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// SourceOf is where a connection comes from, or the zero Addr.
func SourceOf(c net.Conn) netip.Addr { return addrOf(c.RemoteAddr()) }
