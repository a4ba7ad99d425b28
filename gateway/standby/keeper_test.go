package standby_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/proxytest"
)

// lab is the gateways of a center on an overlay in memory, each with a LAN.
type lab struct {
	t       *testing.T
	overlay *proxytest.Network
	lan     map[string]*proxytest.Network
	keeper  *standby.Keeper

	mu      sync.Mutex
	applied []map[string]string
	saved   map[string]string
	fail    error
}

var at = map[string]netip.Addr{"a": netip.MustParseAddr("100.64.0.1"), "b": netip.MustParseAddr("100.64.0.2")}

const pacs = "192.168.9.5:104"

func (l *lab) group(nodes ...string) []standby.Group {
	g := standby.Group{Site: "lab", Services: []string{"pacs"}}
	for _, n := range nodes {
		g.Gateways = append(g.Gateways, standby.Member{Node: n, Address: at[n]})
	}
	return []standby.Group{g}
}

// run starts the two gateways and a clinic's Keeper. All end with the returned function.
func run(t *testing.T, active map[string]string) (*lab, func()) {
	l := &lab{t: t, overlay: proxytest.NewNetwork(), lan: map[string]*proxytest.Network{}}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n, a := range at {
		lan := proxytest.NewNetwork()
		l.lan[n] = lan
		l.serve(ctx, &all, lan, pacs, proxy.HandlerFunc(func(context.Context, net.Conn) proxy.Result { return proxy.Result{} }))
		looks := &standby.LAN{}
		looks.Set([]standby.Target{{Service: "pacs", From: prefixes("100.64.1.1/32"), Key: "k", Look: func(ctx context.Context) error {
			c, err := lan.DialContext(ctx, "tcp", pacs)
			if err == nil {
				_ = c.Close()
			}
			return err
		}}})
		l.serve(ctx, &all, l.overlay, netip.AddrPortFrom(a, wire.StandbyPort).String(), standby.Answerer{LAN: looks})
		all.Go(func() { <-ctx.Done(); looks.Close() })
	}
	l.keeper = standby.NewKeeper(standby.KeeperConfig{
		Network: l.overlay.From(netip.MustParseAddr("100.64.1.1")), Log: slog.New(slog.DiscardHandler), Apply: l.apply,
		Save: func(active map[string]string) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.saved = active
			return nil
		},
	}, active)
	l.keeper.Follow(l.group("a", "b"))
	all.Go(func() { l.keeper.Run(ctx) })
	return l, func() { cancel(); all.Wait() }
}

func (l *lab) serve(ctx context.Context, all *sync.WaitGroup, n *proxytest.Network, address string, h proxy.Handler) {
	l.t.Helper()
	ln, err := n.Listen(ctx, "tcp", address)
	if err != nil {
		l.t.Fatal(err)
	}
	srv := proxy.NewServer(proxy.ServerConfig{Listener: ln, Handler: h})
	all.Go(func() { _ = srv.Serve(ctx) })
}

func (l *lab) apply(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.applied = append(l.applied, l.keeper.Active())
	return nil
}

func (l *lab) moves() []map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.applied)
}

func (l *lab) state() standby.State {
	s := l.keeper.Status()
	if len(s) != 1 {
		l.t.Fatalf("status %+v", s)
	}
	return s[0]
}

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := run(t, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		s := l.state()
		if s.Active != "a" || s.Preferred != "a" || len(l.moves()) != 0 || slices.ContainsFunc(s.Gateways, func(x standby.GatewayState) bool { return !x.Healthy || x.Problem != "" }) {
			t.Fatalf("at the start %+v, moves %v", s, l.moves())
		}
		l.lan["a"].SetDown(pacs, errors.New("no route to host"))
		time.Sleep(2300 * time.Millisecond)
		if s = l.state(); s.Active != "b" || s.Why != standby.Failed || s.Gateways[0].Healthy || s.Gateways[0].Problem != "it does not reach pacs, and another gateway does" {
			t.Fatalf("2.3 s after the LAN of a died %+v", s)
		}
		if want := map[string]string{"lab": "b"}; !maps.Equal(l.saved, want) || !maps.Equal(l.moves()[0], want) {
			t.Errorf("saved %v, applied %v", l.saved, l.moves())
		}
		// What nobody reaches is no reason to go anywhere.
		l.lan["b"].SetDown(pacs, errors.New("no route to host"))
		time.Sleep(time.Minute)
		if s = l.state(); s.Active != "b" || len(l.moves()) != 1 || s.Gateways[1].Failures != 0 {
			t.Fatalf("with the archive gone everywhere %+v, moves %v", s, l.moves())
		}
		l.lan["b"].SetDown(pacs, nil)
		l.lan["a"].SetDown(pacs, nil)
		time.Sleep(59 * time.Second)
		if len(l.moves()) != 1 {
			t.Fatalf("it returned early: %v", l.moves())
		}
		time.Sleep(4 * time.Second)
		if s = l.state(); s.Active != "a" || s.Why != standby.Returned || len(l.saved) != 0 {
			t.Fatalf("after the hold-down %+v, saved %v", s, l.saved)
		}
	})
}

func TestKeeperBeginsWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := run(t, map[string]string{"lab": "b", "gone": "x"})
		defer stop()
		time.Sleep(50 * time.Second)
		if s := l.state(); s.Active != "b" || len(l.moves()) != 0 {
			t.Fatalf("%+v, moves %v", s, l.moves())
		}
		time.Sleep(15 * time.Second)
		if s := l.state(); s.Active != "a" {
			t.Fatalf("after the hold-down %+v", s)
		}
	})
}

// A move that cannot be made true is none, and is tried again. Another map asks anew, and one without the center forgets it.
func TestKeeperFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := run(t, nil)
		defer stop()
		time.Sleep(3 * time.Second)
		l.mu.Lock()
		l.fail = errors.New("the device is busy")
		l.mu.Unlock()
		l.overlay.SetDown(netip.AddrPortFrom(at["a"], wire.StandbyPort).String(), errors.New("no route to host"))
		l.lan["a"].SetDown(pacs, errors.New("no route to host"))
		time.Sleep(5 * time.Second)
		if s := l.state(); s.Active != "a" || len(l.keeper.Active()) != 0 || l.saved != nil {
			t.Fatalf("without a device that takes it %+v, active %v", s, l.keeper.Active())
		}
		l.mu.Lock()
		l.fail = nil
		l.mu.Unlock()
		time.Sleep(time.Second)
		if s := l.state(); s.Active != "b" {
			t.Fatalf("when the device takes it %+v", s)
		}
		l.keeper.Follow(l.group("b", "a"))
		time.Sleep(3 * time.Second)
		if s := l.state(); s.Active != "b" || s.Preferred != "b" || len(l.keeper.Active()) != 0 {
			t.Fatalf("with another order %+v, active %v", s, l.keeper.Active())
		}
		l.keeper.Follow(nil)
		time.Sleep(time.Second)
		if s := l.keeper.Status(); len(s) != 0 {
			t.Fatalf("without the center %+v", s)
		}
	})
}
