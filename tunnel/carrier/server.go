package carrier

import (
	"bufio"
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What a client asks for.
const (
	// Path is where a Server is found.
	Path = "/v1/carrier"

	protocol      = "towpath-carrier/1"
	sessionHeader = "Towpath-Session"
	laneHeader    = "Towpath-Lane"
)

// Limits bound what a Server spends. A zero field takes the default.
type Limits struct {
	// Sessions are all, each with two connections; 4,096 by default.
	Sessions int
	// PerSource are those from one IPv4 address or one IPv6 network of 64 bits; 64 by default. A proxy in front of the server on the
	// same machine (loopback) is one source for all, and has the limit in total only.
	PerSource int
	// Unproven are those over which WireGuard has answered nobody yet; 256 by default.
	Unproven int
	// Proof is how long a session may be unproven; 20 s by default.
	Proof time.Duration
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Sessions: cmp.Or(l.Sessions, 4096), PerSource: cmp.Or(l.PerSource, 64), Unproven: cmp.Or(l.Unproven, 256), Proof: cmp.Or(l.Proof, 20*time.Second),
	}
}

// Server takes over HTTP connections for the device that has its Bind. It is safe for concurrent use.
type Server struct {
	limits Limits
	log    *slog.Logger
	inbox  *inbox
	count  atomic.Int64

	mu       sync.Mutex
	closed   bool
	sessions map[sessionID]*session
	at       map[netip.Addr]*session
	probes   map[probeKey]*session
	sources  map[netip.Prefix]int
	unproven int
	work     sync.WaitGroup
}

// session is one client.
type session struct {
	id       sessionID
	server   *Server
	source   netip.Prefix
	endpoint *endpoint
	queues   [lanes]*queue
	proven   atomic.Bool
	timer    *time.Timer
	// streams and probed are guarded by Server.mu.
	streams [lanes]*stream
	probed  time.Time
}

// NewServer makes a Server. The log may be nil.
func NewServer(l Limits, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		limits: l.orDefaults(), log: log, inbox: newInbox(), sessions: map[sessionID]*session{}, at: map[netip.Addr]*session{},
		probes: map[probeKey]*session{}, sources: map[netip.Prefix]int{},
	}
}

// Sessions is how many there are.
func (s *Server) Sessions() int { return int(s.count.Load()) }

// ServeHTTP implements http.Handler for Path. Connections that it takes over outlive the HTTP server; Close ends them.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !upgrades(r) {
		w.Header().Set("Upgrade", protocol)
		http.Error(w, "sealed packets of boxes are carried here, after an upgrade of the connection; a proxy on the way may have removed that", http.StatusUpgradeRequired)
		return
	}
	id, err := parseID(r.Header.Get(sessionHeader))
	l, known := laneNamed(r.Header.Get(laneHeader))
	source, ok := sourceOf(r.RemoteAddr)
	if err != nil || !known || !ok {
		http.Error(w, "the request makes no sense", http.StatusBadRequest)
		return
	}
	x, err := s.admit(id, source)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.leave(x, l, nil)
		http.Error(w, "this connection cannot be upgraded: use HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	if err := accept(c); err != nil {
		_ = c.Close()
		s.leave(x, l, nil)
		return
	}
	s.run(x, l, c, rw.Reader)
}

func upgrades(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Upgrade"), protocol) &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

func laneNamed(s string) (lane, bool) {
	for l := range lanes {
		if l.String() == s {
			return l, true
		}
	}
	return 0, false
}

// sourceOf is whom a limit is for.
func sourceOf(remote string) (netip.Prefix, bool) {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}, false
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}

func accept(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("upgrade a connection: %w", err)
	}
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol); err != nil {
		return fmt.Errorf("upgrade a connection: %w", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("upgrade a connection: %w", err)
	}
	return nil
}

// admit finds the session of a client, or makes it within the limits.
func (s *Server) admit(id sessionID, source netip.Prefix) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sessions[id]; x != nil {
		return x, nil
	}
	switch {
	case s.closed:
		return nil, fmt.Errorf("the server ends")
	case len(s.sessions) >= s.limits.Sessions, s.unproven >= s.limits.Unproven:
		return nil, fmt.Errorf("too many are carried here at the same time, try again later")
	case s.sources[source] >= s.limits.PerSource && !source.Addr().IsLoopback():
		return nil, fmt.Errorf("too many are carried from this address, try again later")
	}
	x := &session{id: id, server: s, source: source}
	at := newAddress()
	x.endpoint = &endpoint{at: at, text: at.String(), session: x}
	for l := range lanes {
		x.queues[l] = newQueue(l)
	}
	s.sessions[id], s.at[at.Addr()], s.probes[id.probeKey()] = x, x, x
	s.sources[source]++
	s.unproven++
	s.count.Store(int64(len(s.sessions)))
	x.timer = time.AfterFunc(s.limits.Proof, x.judge)
	return x, nil
}

// judge ends a session over which nobody is known to WireGuard.
func (x *session) judge() {
	if x.proven.Load() {
		return
	}
	x.server.mu.Lock()
	streams := x.streams
	x.server.forget(x)
	x.server.mu.Unlock()
	for _, st := range streams {
		if st != nil {
			st.end()
		}
	}
}

// prove notes that the device has answered. The caller does not hold Server.mu.
func (x *session) prove() {
	if x.proven.Swap(true) {
		return
	}
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	if x.server.sessions[x.id] == x {
		x.server.unproven--
	}
}

// forget drops a session. The caller holds mu.
func (s *Server) forget(x *session) {
	if s.sessions[x.id] != x {
		return
	}
	x.timer.Stop()
	delete(s.sessions, x.id)
	delete(s.at, x.endpoint.at.Addr())
	delete(s.probes, x.id.probeKey())
	if s.sources[x.source]--; s.sources[x.source] == 0 {
		delete(s.sources, x.source)
	}
	// After its session is forgotten prove changes nothing.
	if !x.proven.Load() {
		s.unproven--
	}
	s.count.Store(int64(len(s.sessions)))
}

// leave takes a connection off its session, which ends with its last one.
func (s *Server) leave(x *session, l lane, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st != nil && x.streams[l] == st {
		x.streams[l] = nil
	}
	if x.streams == [lanes]*stream{} {
		s.forget(x)
	}
}

// run carries until the connection ends. A newer one of the same lane takes the place of an older.
func (s *Server) run(x *session, l lane, c net.Conn, r *bufio.Reader) {
	tune(c)
	st := newStream(c, r, x.queues[l], false)
	s.mu.Lock()
	if s.closed || s.sessions[x.id] != x {
		s.mu.Unlock()
		st.end()
		return
	}
	old := x.streams[l]
	x.streams[l] = st
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	if old != nil {
		old.end()
	}
	var writing sync.WaitGroup
	writing.Go(st.write)
	st.read(func(p []byte) { s.inbox.put(p, x.endpoint, st.done) })
	s.leave(x, l, st)
	writing.Wait()
}

// send queues a packet for a client. What comes back from WireGuard proves that it knows somebody there: a response, or the data of a session.
func (x *session) send(p []byte) {
	if k := kindOf(p); k == response || k == transport {
		x.prove()
	}
	l := laneOf(p)
	x.server.mu.Lock()
	if x.streams[l] == nil {
		l = lanes - 1 - l
	}
	x.server.mu.Unlock()
	x.queues[l].push(p, time.Now())
}

// Close ends all sessions; there are no new ones.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	var all []*stream
	for _, x := range s.sessions {
		all = append(all, x.streams[:]...)
	}
	s.mu.Unlock()
	for _, st := range all {
		if st != nil {
			st.end()
		}
	}
	s.work.Wait()
}
