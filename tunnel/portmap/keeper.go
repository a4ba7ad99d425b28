package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Times of a Keeper.
const (
	// renewEvery is how often a mapping is asked for again, or at half of its lifetime if that is sooner. It bounds how long a router that has
	// restarted goes unnoticed: asking again makes the mapping anew.
	renewEvery = 10 * time.Minute
	renewSoon  = time.Minute
	// After a failure it is asked again after retryFirst, then after twice as long each time, up to retryLast.
	retryFirst = 2 * time.Minute
	retryLast  = 6 * time.Hour
	// idleEvery is how often it is looked whether there is a port and a router.
	idleEvery = 30 * time.Second
	// goodbye bounds the removal at the end.
	goodbye = time.Second
)

// Mapping is what a Keeper has.
type Mapping struct {
	// External is where the router takes packets for this machine; zero without a mapping.
	External netip.AddrPort
	// Protocol is "PCP" or "NAT-PMP"; empty without a mapping.
	Protocol string
	// Expires is when the router forgets it, unless asked again.
	Expires time.Time
	// Err says why there is none; nil while nothing was asked yet.
	Err error
}

// Public reports whether External can be reached from the internet. It cannot if there is another translation behind the router.
func (m Mapping) Public() bool { return m.External.IsValid() && public(m.External.Addr()) }

// notPublic are IPv4 addresses beside private ones that nobody on the internet has: shared ones (RFC 6598), those of DS-Lite (RFC 6333), of test beds
// (RFC 2544), and reserved ones (RFC 1112).
var notPublic = [...]netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
}

func public(a netip.Addr) bool {
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// stands reports whether a mapping may well be there yet after its renewal has failed: a lost answer is no reason to give it up before it ends, a
// refusal is.
func stands(had Mapping, err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return had.External.IsValid() && !refused
}

// Options are what a Keeper is made of. All but Log are required.
type Options struct {
	// Router is the default gateway with the Port; zero if there is none that may be asked.
	Router func() netip.AddrPort
	// Port is the UDP port to be mapped; 0 while it is not known.
	Port func(context.Context) uint16
	Log  *slog.Logger
}

// Keeper holds one mapping.
type Keeper struct {
	opt   Options
	nonce nonce
	moved chan struct{}

	// router and port are those of the mapping; the goroutine of Run alone uses them.
	router netip.AddrPort
	port   uint16

	mu  sync.Mutex
	has Mapping
}

// New returns a Keeper that has asked for nothing yet.
func New(o Options) *Keeper {
	k := &Keeper{opt: o, moved: make(chan struct{}, 1)}
	_, _ = rand.Read(k.nonce[:])
	return k
}

// Mapping returns what there is now.
func (k *Keeper) Mapping() Mapping {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.has.External.IsValid() && !time.Now().Before(k.has.Expires) {
		return Mapping{Err: ErrSilent}
	}
	return k.has
}

// Moved has the router asked anew, because an address of this machine has changed.
func (k *Keeper) Moved() {
	select {
	case k.moved <- struct{}{}:
	default:
	}
}

// Run keeps the mapping until ctx is done, and has it removed then.
func (k *Keeper) Run(ctx context.Context) {
	retry := retryFirst
	for {
		wait := idleEvery
		if router, port := k.opt.Router(), k.opt.Port(ctx); router.IsValid() && port != 0 {
			had := k.Mapping()
			m := k.request(ctx, router, port, had)
			if ctx.Err() != nil {
				break
			}
			switch {
			case m.Err == nil:
				k.router, k.port = router, port
				retry = retryFirst
				wait = max(min(time.Until(m.Expires)/2, renewEvery), renewSoon)
			case stands(had, m.Err):
				m, wait = had, renewSoon
			default:
				wait, retry = retry, min(2*retry, retryLast)
			}
			if m.External != had.External {
				k.opt.Log.Info("port mapping", "external", m.External.String(), "protocol", m.Protocol)
			}
			k.set(m)
		} else {
			k.set(Mapping{})
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-k.moved:
			k.set(Mapping{})
			retry = retryFirst
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			break
		}
	}
	k.remove(context.WithoutCancel(ctx))
}

func (k *Keeper) set(m Mapping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.has = m
}

// request asks for the mapping: by the protocol that it was had by, otherwise by PCP first.
func (k *Keeper) request(ctx context.Context, router netip.AddrPort, port uint16, had Mapping) Mapping {
	s, err := open(ctx, router)
	if err != nil {
		return Mapping{Err: err}
	}
	defer func() { _ = s.c.Close() }()
	a, protocol := answer{}, "PCP"
	if had.Protocol != "NAT-PMP" {
		a, err = s.pcp(ctx, port, had.External, k.nonce, lease)
	}
	if had.Protocol == "NAT-PMP" || errors.Is(err, ErrVersion) || errors.Is(err, ErrSilent) {
		wanted := port
		if had.External.IsValid() {
			wanted = had.External.Port()
		}
		protocol = "NAT-PMP"
		// From another port: a late refusal of a PCP question that was sent twice would pass for one of NAT-PMP.
		p, openErr := open(ctx, router)
		if openErr != nil {
			return Mapping{Err: openErr}
		}
		defer func() { _ = p.c.Close() }()
		a, err = p.pmp(ctx, port, wanted, lease)
	}
	if err != nil {
		return Mapping{Err: err}
	}
	if !a.external.Addr().Is4() || a.external.Addr().IsUnspecified() || a.external.Port() == 0 || a.lifetime < renewSoon {
		return Mapping{Err: errors.New("the router grants a mapping that is of no use")}
	}
	return Mapping{External: a.external, Protocol: protocol, Expires: time.Now().Add(min(a.lifetime, lease))}
}

// remove has the router forget the mapping. Nothing depends on it: it ends by itself.
func (k *Keeper) remove(ctx context.Context) {
	had := k.Mapping()
	k.set(Mapping{})
	if !had.External.IsValid() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	s, err := open(ctx, k.router)
	if err != nil {
		return
	}
	defer func() { _ = s.c.Close() }()
	if had.Protocol == "PCP" {
		_, err = s.pcp(ctx, k.port, had.External, k.nonce, 0)
	} else {
		_, err = s.pmp(ctx, k.port, 0, 0)
	}
	if err != nil {
		k.opt.Log.Debug("port mapping not removed", "error", err)
	}
}
