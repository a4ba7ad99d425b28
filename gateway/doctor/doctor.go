package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Verdict is how one check ended.
type Verdict string

// Verdicts. A Note is worth knowing and no fault; what comes after it is one.
const (
	OK      Verdict = "ok"
	Note    Verdict = "note"
	Warning Verdict = "warning"
	Failed  Verdict = "failed"
)

// Finding is what one check found.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	// Says is a sentence for a person, Do what that person can do; it is empty where there is nothing to be done.
	Says string `json:"says"`
	Do   string `json:"do,omitempty"`
}

// Report is all that was found, in the order of the way from the box outwards.
type Report []Finding

// Healthy reports whether nothing needs attention.
func (r Report) Healthy() bool {
	for _, f := range r {
		if f.Verdict == Warning || f.Verdict == Failed {
			return false
		}
	}
	return true
}

// Patient is the box that is examined.
type Patient struct {
	Map wire.NetMap
	// Route says how the system would send to an address. Nothing is sent.
	Route func(to netip.AddrPort) (Route, error)
	// Resolve looks a name up.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Ask asks the coordinator without the tunnel. Proxy says in words by which HTTP proxy it may do so; empty is none.
	Ask   func(ctx context.Context) (wire.StandingResponse, error)
	Proxy string
	// Tunnel says how the tunnel is doing, or tries one where none runs.
	Tunnel func(ctx context.Context) (Tunnel, error)
	Now    func() time.Time
}

// Route is the first hop of the way to an address.
type Route struct {
	Source    netip.Addr
	Interface string
	// MTU of the interface in bytes; 0 is not known.
	MTU int
}

// Tunnel is the state of the WireGuard device.
type Tunnel struct {
	// Backend names it, with the reason for the choice.
	Backend string
	// MTU is the inner one in bytes.
	MTU int
	// Trial says that no gateway runs and this tunnel was made for the question: it has the hub alone.
	Trial bool
	// Carried says over what the packets go where UDP is blocked; empty is UDP.
	Carried string
	// Mapping is what the router was asked for; nil if it was not.
	Mapping *Mapping
	// Peers are those that were ever configured, the hub among them.
	Peers []Peer
}

// Mapping is a port of the router that leads to this box.
type Mapping struct {
	External netip.AddrPort // zero without one
	Protocol string
	// Public says that External is an address of the internet.
	Public bool
	// Problem says why there is none; empty with one, and before the first answer.
	Problem string
}

// Peer is one other end.
type Peer struct {
	PublicKey     string
	Endpoint      netip.AddrPort
	LastHandshake time.Time // zero is never
	// Steered says that direct ways past the relay are looked for, and Direct is the one in use, if any.
	Steered bool
	Direct  netip.AddrPort
}

// Limits of an examination.
const (
	// wait bounds each question.
	wait = 25 * time.Second
	// deadAfter is REJECT_AFTER_TIME, after which a session without a new handshake is over (WireGuard paper §6.1).
	deadAfter = 3 * time.Minute
	// skew is how far a clock may be off before handshakes are at risk.
	skew = 2 * time.Minute
	// overhead4 and overhead6 are what WireGuard adds to an inner packet on the line, in bytes: IP, UDP and its own header and tag.
	overhead4 = 20 + 8 + 32
	overhead6 = 40 + 8 + 32
)

// Examine asks everything at the same time; it takes as long as the slowest answer, half a minute at most.
func Examine(ctx context.Context, p Patient) Report {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var wg sync.WaitGroup
	var names Finding
	var places []netip.AddrPort
	var standing wire.StandingResponse
	var asked time.Duration
	var askErr, tunnelErr error
	var tunnel Tunnel
	wg.Go(func() { names, places = p.names(ctx) })
	wg.Go(func() {
		begun := p.Now()
		standing, askErr = p.Ask(ctx)
		asked = p.Now().Sub(begun)
	})
	wg.Go(func() { tunnel, tunnelErr = p.Tunnel(ctx) })
	wg.Wait()

	r := p.uplink(places, tunnel.MTU)
	r = append(r, names)
	r = append(r, p.web(standing, askErr)...)
	if askErr == nil {
		r = append(r, p.clock(standing, asked))
	}
	if tunnelErr != nil {
		return append(r, Finding{"tunnel", Failed, "the tunnel cannot be asked: " + tunnelErr.Error(), ""})
	}
	r = append(r, Finding{"backend", OK, "the tunnel is made by " + tunnel.Backend, ""})
	r = append(r, p.hub(tunnel, askErr == nil))
	if m := tunnel.Mapping; m != nil {
		r = append(r, m.finding())
	}
	return append(r, p.peers(tunnel)...)
}

func says(check string, v Verdict, format string, a ...any) Finding {
	return Finding{Check: check, Verdict: v, Says: fmt.Sprintf(format, a...)}
}

func (f Finding) do(format string, a ...any) Finding {
	f.Do = fmt.Sprintf(format, a...)
	return f
}
