package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a zero ServerConfig means.
const (
	DefaultMaxConns     = 64
	DefaultMaxPerSource = 16
	DefaultGrace        = 10 * time.Second
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = time.Second
	// cutWait is how long Serve waits for handlers after it has closed their connections.
	cutWait = 5 * time.Second
)

// ServerConfig describes one listener and who serves it.
type ServerConfig struct {
	// Name stands for the listener in sessions and logs, for instance the name of a Service.
	Name string
	// Listener is closed by the Server.
	Listener net.Listener
	Handler  Handler
	// Allow lists the sources that may connect. Empty means everybody; a source without an address is then allowed too.
	Allow []netip.Prefix
	// MaxConns and MaxPerSource bound open connections, in all and per address. Zero means the default, negative means no bound.
	MaxConns, MaxPerSource int
	// Grace is how long sessions may take to end at shutdown before they are cut. Zero means the default.
	Grace time.Duration
	// Log may be nil.
	Log *slog.Logger
	// OnSession is called once for each session when it has ended, from that session's goroutine. It must not block. It may be nil.
	OnSession func(Session)
}

// Server accepts connections and has a Handler serve each: it owns limits, panics, shutdown and accounting. It is safe for
// concurrent use.
type Server struct {
	cfg ServerConfig
	log *slog.Logger
	wg  sync.WaitGroup

	mu        sync.Mutex
	handler   Handler
	allow     []netip.Prefix
	live      map[*session]struct{}
	perSource map[netip.Addr]int
	totals    Totals
	turnedOff throttle
}

// NewServer makes a Server. Nothing is accepted until Serve.
func NewServer(cfg ServerConfig) *Server {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.MaxPerSource == 0 {
		cfg.MaxPerSource = DefaultMaxPerSource
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, log: log.With("listener", cfg.Name), handler: cfg.Handler, allow: cfg.Allow,
		live: map[*session]struct{}{}, perSource: map[netip.Addr]int{},
		totals: Totals{Outcomes: map[Outcome]uint64{}},
	}
}

// Update changes who serves new connections and who may make them. Sessions that run are served on by the Handler they began with, but
// those of sources that are not allowed any more are cut.
func (s *Server) Update(h Handler, allow []netip.Prefix) {
	s.mu.Lock()
	s.handler, s.allow = h, allow
	var cut []*session
	for ses := range s.live {
		if !s.allowedLocked(ses.remote.Addr()) {
			cut = append(cut, ses)
		}
	}
	s.mu.Unlock()
	for _, ses := range cut {
		_ = ses.conn.Close()
	}
}

// Serve accepts until ctx is done, then lets the sessions end within Grace, cuts those that have not, and returns nil. It returns an
// error when the listener breaks, or when a handler does not return although its connection is closed. Call it once.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.cfg.Listener.Close() })
	defer stop()
	sessions, cancel := context.WithCancel(ctx)
	defer cancel()

	err := s.accept(ctx, sessions)
	_ = s.cfg.Listener.Close()
	cancel()
	return errors.Join(err, s.drain())
}

func (s *Server) accept(ctx, sessions context.Context) error {
	backoff := acceptBackoffMin
	for {
		c, err := s.cfg.Listener.Accept()
		switch {
		case err == nil:
			backoff = acceptBackoffMin
			s.admit(sessions, c)
			continue
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the listener was closed because ctx is done
		case !temporary(err):
			return fmt.Errorf("accept on %s: %w", s.cfg.Name, err)
		}
		s.log.Warn("accepting failed, trying again", "error", err, "after", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(backoff*2, acceptBackoffMax)
	}
}

// temporary tells errors like "too many open files" and "connection aborted" from a dead listener.
func temporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// admit starts a session or closes the connection. It decides and enters the session into the books in one step, so that Update finds
// every session that was admitted by the rules before it.
func (s *Server) admit(ctx context.Context, c net.Conn) {
	counted := &countedConn{Conn: c}
	ses := &session{
		id: newSessionID(), remote: addrPort(c.RemoteAddr()), started: time.Now(), bytes: counted, conn: counted.withCapabilities(),
	}
	s.mu.Lock()
	reason, h := s.refuseLocked(ses.remote.Addr()), s.handler
	suppressed, say := 0, false
	if reason == "" {
		s.live[ses] = struct{}{}
	} else {
		suppressed, say = s.turnedOff.allow(time.Now())
	}
	s.mu.Unlock()
	if reason == "" {
		s.wg.Go(func() { s.run(ctx, ses, h) })
		return
	}
	_ = c.Close()
	if say {
		s.log.Info("connection turned away", "remote", ses.remote.Addr(), "reason", reason, "suppressed", suppressed)
	}
}

// refuseLocked counts the connection in and returns "", or says why it is turned away.
func (s *Server) refuseLocked(source netip.Addr) string {
	switch {
	case !s.allowedLocked(source):
		s.totals.Denied++
		return "the source is not on the list of allowed addresses"
	case s.cfg.MaxConns > 0 && len(s.live) >= s.cfg.MaxConns:
		s.totals.Crowded++
		return "too many connections are open"
	case s.cfg.MaxPerSource > 0 && s.perSource[source] >= s.cfg.MaxPerSource:
		s.totals.Crowded++
		return "too many connections are open from this source"
	}
	s.totals.Accepted++
	s.perSource[source]++
	return ""
}

func (s *Server) allowedLocked(source netip.Addr) bool {
	return len(s.allow) == 0 || slices.ContainsFunc(s.allow, func(p netip.Prefix) bool { return p.Contains(source) })
}

func (s *Server) run(ctx context.Context, ses *session, h Handler) {
	// A Handler that leaves by runtime.Goexit must be accounted for as well, hence the defer.
	res := Result{Outcome: OutcomeAborted, Detail: "the handler did not finish; this is a fault of the software, please report it"}
	defer func() { s.finish(ses, res) }()
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("handler panicked", "session", ses.id, "panic", panicText(v), "stack", string(debug.Stack()))
		}
	}()
	res = h.Serve(ctx, ses.conn)
}

// panicText says what is known to be free of payload: the runtime's own texts, and the type of anything else.
func panicText(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

func (s *Server) finish(ses *session, res Result) {
	switch res.Outcome {
	case OutcomeDone, OutcomeRefused:
		closeInOrder(ses.bytes.Conn)
	case "":
		res.Outcome = OutcomeAborted
		fallthrough
	default:
		_ = ses.conn.Close()
	}
	s.mu.Lock()
	delete(s.live, ses)
	if s.perSource[ses.remote.Addr()]--; s.perSource[ses.remote.Addr()] <= 0 {
		delete(s.perSource, ses.remote.Addr())
	}
	end := ses.snapshot(s.cfg.Name)
	end.Ended, end.Result = time.Now(), res
	s.totals.add(end)
	s.mu.Unlock()

	level := slog.LevelInfo
	if res.Outcome == OutcomeDone {
		level = slog.LevelDebug
	}
	s.log.Log(context.Background(), level, "session ended", "session", end.ID, "remote", end.Remote, "outcome", res.Outcome,
		"detail", res.Detail, "calling", res.Calling, "called", res.Called, "items", res.Items,
		"bytes_in", end.BytesIn, "bytes_out", end.BytesOut, "took", end.Ended.Sub(end.Started))
	if s.cfg.OnSession != nil {
		s.cfg.OnSession(end)
	}
}

// drain waits for the sessions, cuts them at Grace and gives the handlers a last moment.
func (s *Server) drain() error {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(s.cfg.Grace):
	}
	s.mu.Lock()
	cut := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	s.log.Info("sessions did not end in time and are cut", "sessions", len(cut))
	for _, ses := range cut {
		_ = ses.conn.Close()
	}
	select {
	case <-done:
		return nil
	case <-time.After(cutWait):
		s.mu.Lock()
		left := len(s.live)
		s.mu.Unlock()
		return fmt.Errorf("%d sessions of %s are still running although their connections are closed", left, s.cfg.Name)
	}
}

// Sessions returns the open sessions, oldest first.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Session, 0, len(s.live))
	for ses := range s.live {
		list = append(list, ses.snapshot(s.cfg.Name))
	}
	slices.SortFunc(list, func(a, b Session) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// Totals returns what has been counted since NewServer. Open sessions are in Accepted only.
func (s *Server) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.totals
	t.Outcomes = maps.Clone(t.Outcomes)
	return t
}
