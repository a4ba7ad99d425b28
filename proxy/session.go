package proxy

import (
	"crypto/rand"
	"net"
	"net/netip"
	"time"
)

// Session is one proxied connection with its counters and outcome. It holds no patient data.
type Session struct {
	// ID is unique, also across restarts.
	ID string `json:"id"`
	// Listener is the Name of the Server.
	Listener string         `json:"listener"`
	Remote   netip.AddrPort `json:"remote,omitzero"`
	Started  time.Time      `json:"started"`
	// Ended is zero while the session is open, and so is Result.
	Ended time.Time `json:"ended,omitzero"`
	// BytesIn came from the peer, BytesOut went to it.
	BytesIn  int64  `json:"bytes_in"`
	BytesOut int64  `json:"bytes_out"`
	Result   Result `json:"result,omitzero"`
}

// Totals are counters over all ended sessions of a Server.
type Totals struct {
	// Accepted connections became sessions; Denied came from a source that is not allowed; Crowded met a limit.
	Accepted uint64 `json:"accepted"`
	Denied   uint64 `json:"denied"`
	Crowded  uint64 `json:"crowded"`
	// Outcomes counts ended sessions.
	Outcomes map[Outcome]uint64 `json:"outcomes"`
	// Items counts objects or messages taken over.
	Items    uint64 `json:"items"`
	BytesIn  int64  `json:"bytes_in"`
	BytesOut int64  `json:"bytes_out"`
}

func (t *Totals) add(s Session) {
	t.Outcomes[s.Result.Outcome]++
	t.Items += uint64(max(s.Result.Items, 0))
	t.BytesIn += s.BytesIn
	t.BytesOut += s.BytesOut
}

// session is a Session while it is open.
type session struct {
	id      string
	remote  netip.AddrPort
	started time.Time
	bytes   *countedConn
	conn    net.Conn
}

func (s *session) snapshot(listener string) Session {
	return Session{
		ID: s.id, Listener: listener, Remote: s.remote, Started: s.started,
		BytesIn: s.bytes.in.Load(), BytesOut: s.bytes.out.Load(),
	}
}

// newSessionID returns 60 random bits as text.
func newSessionID() string { return rand.Text()[:12] }

// throttle lets one line a second through, so that a port scanner does not fill the log.
type throttle struct {
	next       time.Time
	suppressed int
}

// allow reports whether a line may be written now, and how many were suppressed since the last one.
func (t *throttle) allow(now time.Time) (suppressed int, ok bool) {
	if now.Before(t.next) {
		t.suppressed++
		return 0, false
	}
	suppressed, t.suppressed = t.suppressed, 0
	t.next = now.Add(time.Second)
	return suppressed, true
}
