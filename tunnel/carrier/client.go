package carrier

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// Times of a Client. A zero field takes the default.
type Times struct {
	// Blocked is how long the hub may leave a call by UDP without answer; 8 s by default, in which WireGuard calls twice.
	Blocked time.Duration
	// Probe is how often UDP is tried again; a minute by default.
	Probe time.Duration
	// Prove is how long UDP has, when a probe was answered, until the hub was heard by it; 35 s by default, in which WireGuard's keepalive comes.
	Prove time.Duration
	// Look is how often the state is looked at; 500 ms by default.
	Look time.Duration
}

func (t Times) orDefaults() Times {
	return Times{
		Blocked: cmp.Or(t.Blocked, 8*time.Second), Probe: cmp.Or(t.Probe, time.Minute), Prove: cmp.Or(t.Prove, 35*time.Second),
		Look: cmp.Or(t.Look, 500*time.Millisecond),
	}
}

// Target is whom a Client reaches.
type Target struct {
	// Hub is where it is called by UDP.
	Hub netip.AddrPort
	// Routes are tried in order. None means that nothing is carried.
	Routes []Route
}

// Status is the state of a Client.
type Status struct {
	// Carried says that packets go over TCP; Since when, and How.
	Carried bool
	Since   time.Time
	How     string
	// Problem is why nothing is carried although UDP is not answered; empty if all is well.
	Problem string
	// Dropped are packets that waited too long for the connection.
	Dropped uint64
}

// Pauses between attempts to be carried.
const (
	retryMin = 5 * time.Second
	retryMax = time.Minute
	// probeMax is the longest pause between tries of UDP, after it was answered and did not work.
	probeMax = 10 * time.Minute
	// probeCount are the probes of one try, of which probeNeed must be answered.
	probeCount, probeNeed = 3, 2
	probeWait             = 3 * time.Second
	// probeGap is more than probePause, so that the server answers each.
	probeGap = 300 * time.Millisecond
)

// Client carries the packets of one device when the hub does not answer by UDP. It is safe for concurrent use.
type Client struct {
	times Times
	log   *slog.Logger
	inbox *inbox
	// out is what packets go by; nil means UDP.
	out atomic.Pointer[carried]
	// asked is when the first call of the hub was made that is not answered, heard when the hub was heard by UDP last; nanoseconds since began.
	began        time.Time
	asked, heard atomic.Int64

	mu      sync.Mutex // guards what follows
	bind    conn.Bind
	target  Target
	hub     conn.Endpoint
	indexes *indexes
	answers [][]byte // that are waited for
	probed  int
	since   time.Time
	problem string
	dropped uint64 // of sessions that are over

	// What follows is Run's.
	session   *carried // is out, or is kept until UDP has proven itself
	next      time.Time
	pause     time.Duration
	nextProbe time.Time
	probes    int
	probeTime time.Time
	probeStep time.Duration
	returned  time.Time // to UDP, on trial; zero if it is not
}

// NewClient makes a Client that does nothing before Aim and Run. The log may be nil.
func NewClient(t Times, log *slog.Logger) *Client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{times: t.orDefaults(), log: log, inbox: newInbox(), began: time.Now(), indexes: newIndexes()}
}

// Aim says whom to reach from now on.
func (c *Client) Aim(t Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Hub != c.target.Hub {
		c.hub = nil
		c.asked.Store(0)
	}
	c.target = t
}

// Status returns the state.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Problem: c.problem, Dropped: c.dropped}
	if x := c.out.Load(); x != nil {
		s.Carried, s.Since, s.How, s.Dropped = true, c.since, x.how, s.Dropped+x.lost()
	}
	return s
}

func (c *Client) clock() int64 { return int64(time.Since(c.began)) + 1 }

// Run works until ctx is done, and then ends what it has opened. It is called once.
func (c *Client) Run(ctx context.Context) {
	tick := time.NewTicker(c.times.Look)
	defer tick.Stop()
	defer c.drop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch now := time.Now(); {
		case c.out.Load() != nil:
			c.whileCarried(ctx, now)
		case !c.returned.IsZero():
			c.onTrial(now)
		default:
			c.whileDirect(ctx, now)
		}
	}
}

// blocked reports whether the hub does not answer by UDP.
func (c *Client) blocked() bool {
	a := c.asked.Load()
	return a > 0 && time.Duration(c.clock()-a) > c.times.Blocked
}

func (c *Client) whileDirect(ctx context.Context, now time.Time) {
	if !c.blocked() {
		c.setProblem("")
		c.pause = 0
		return
	}
	if now.Before(c.next) {
		return
	}
	c.probeStep = c.times.Probe
	c.open(ctx)
}

// open tries all routes once.
func (c *Client) open(ctx context.Context) {
	c.mu.Lock()
	routes := c.target.Routes
	c.mu.Unlock()
	var errs []error
	for _, r := range routes {
		x, err := openCarried(ctx, r, c.take)
		if err != nil {
			errs = append(errs, errors.New(r.How+": "+err.Error()))
			continue
		}
		now := time.Now()
		c.session, c.pause, c.probes, c.nextProbe = x, 0, 0, now.Add(c.probeStep)
		c.mu.Lock()
		if c.out.Load() == nil && c.since.IsZero() {
			c.since = now
		}
		c.problem = ""
		c.out.Store(x)
		c.mu.Unlock()
		c.log.Warn("UDP is not answered here: carried over TCP", "how", r.How)
		return
	}
	c.pause = min(max(2*c.pause, retryMin), retryMax)
	c.next = time.Now().Add(c.pause)
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		c.setProblem(err.Error())
	}
}

func (c *Client) setProblem(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problem = s
}

func (c *Client) whileCarried(ctx context.Context, now time.Time) {
	if c.session.over() {
		if now.Before(c.next) {
			return
		}
		c.retire(c.session)
		c.open(ctx)
		if c.session == nil { // UDP has its chance meanwhile
			c.toUDP()
			c.asked.CompareAndSwap(0, c.clock())
		}
		return
	}
	c.session.mend(ctx)
	switch {
	case now.Before(c.nextProbe):
	case c.probes < probeCount:
		if c.probes == 0 {
			c.probeTime = now
			c.setAnswers(nil)
		}
		c.probes++
		c.nextProbe = now.Add(probeGap)
		c.sendProbe()
	case c.answered() >= probeNeed:
		c.probes = 0
		c.log.Info("UDP is answered again")
		c.returned = now
		c.asked.Store(0)
		c.out.Store(nil)
	case now.Sub(c.probeTime) > probeWait:
		c.probes, c.nextProbe = 0, now.Add(c.probeStep)
	}
}

// onTrial keeps the carried session until the hub was heard by UDP.
func (c *Client) onTrial(now time.Time) {
	switch {
	case c.heard.Load() > int64(c.returned.Sub(c.began)):
		c.returned = time.Time{}
		c.retire(c.session)
		c.toUDP()
		c.log.Info("UDP works again: nothing is carried any more")
	case c.blocked(), now.Sub(c.returned) > c.times.Prove:
		c.returned = time.Time{}
		c.probeStep = min(2*c.probeStep, max(probeMax, c.times.Probe))
		c.nextProbe = now.Add(c.probeStep)
		c.out.Store(c.session)
	}
}

// toUDP ends being carried.
func (c *Client) toUDP() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Store(nil)
	c.since = time.Time{}
}

// retire ends a session.
func (c *Client) retire(x *carried) {
	if x == nil {
		return
	}
	x.end()
	c.mu.Lock()
	c.dropped += x.lost()
	c.mu.Unlock()
	c.session = nil
}

func (c *Client) drop() {
	c.toUDP()
	c.retire(c.session)
}

func (c *Client) setAnswers(a [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers, c.probed = a, 0
}

func (c *Client) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.probed
}

// sendProbe asks the hub over UDP.
func (c *Client) sendProbe() {
	p, a := c.session.id.newProbe()
	c.mu.Lock()
	c.answers = append(c.answers, a)
	b, hub := c.bind, c.hubEndpoint()
	c.mu.Unlock()
	if b != nil && hub != nil {
		_ = b.Send([][]byte{p}, hub) // what is not sent is not answered
	}
}

// noteAnswer counts an answer once.
func (c *Client) noteAnswer(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range c.answers {
		if bytes.Equal(a, p) {
			c.answers = append(c.answers[:i:i], c.answers[i+1:]...)
			c.probed++
			return
		}
	}
}

// hubEndpoint is where the hub is by UDP; nil if that is not known. The caller holds mu.
func (c *Client) hubEndpoint() conn.Endpoint {
	if c.hub == nil && c.bind != nil && c.target.Hub.IsValid() {
		if e, err := c.bind.ParseEndpoint(c.target.Hub.String()); err == nil {
			c.hub = e
		}
	}
	return c.hub
}
