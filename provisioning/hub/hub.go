package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/nodeapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Config is what a Hub is made of. The caller owns Device and Stack, which usually are the same object, and closes them after Run. The
// Device makes tunnel.Peer.Next true, see package turn.
type Config struct {
	Device      tunnel.Device
	Stack       tunnel.Stack
	Coordinator *coordinator.Coordinator
	// Port is the UDP port of the device; 0 lets the system choose one.
	Port uint16
	// Relay is told what the hub's relay forwards when that changes, after the device knows the nodes; it may be nil.
	Relay func(wire.RelayTable) error
	// Carried is how many sessions are carried over TCP, and may be nil: Nodes that are can call nobody but the hub.
	Carried func() int
	// Log may be nil.
	Log *slog.Logger
}

// Hub is the coordinator's own WireGuard endpoint.
type Hub struct {
	c     Config
	log   *slog.Logger
	ready chan struct{}

	// changing are the Nodes that are changing their keys; changed is told when there is a first one.
	mu       sync.Mutex
	changing map[wgkey.PublicKey]provisioning.NodeID
	changed  chan struct{}

	sightings sightings

	// admitted is what the relay was told last; nil if that has failed.
	admitting sync.Mutex
	admitted  *wire.RelayTable
}

// New makes a Hub. Nothing happens before Run.
func New(c Config) *Hub {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Hub{c: c, log: log.With("subsystem", "hub"), ready: make(chan struct{}), changed: make(chan struct{}, 1)}
}

// Ready is closed when all nodes can call and the control API listens.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

const (
	// retryEvery is the pause after the device has refused a configuration or the store an answer.
	retryEvery = 2 * time.Second
	// stopTimeout is how long running requests may take when Run ends. Watch streams are ended at once.
	stopTimeout = 2 * time.Second
)

// Run works until ctx ends, which is no error, or until the first configuration or the listener fails. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	view, err := h.configure(ctx)
	if err != nil {
		return err
	}
	addr := netip.AddrPortFrom(view.Address, view.ControlPort).String()
	ln, err := h.c.Stack.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for nodes at %s: %w", addr, err)
	}
	h.log.Info("the hub serves nodes", "address", addr, "nodes", len(view.Nodes))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.serve(ctx, ln) })
	g.Go(func() error { return h.follow(ctx, view.Generation) })
	g.Go(func() error { return h.tendKeys(ctx) })
	g.Go(func() error { return h.tendCarried(ctx) })
	h.c.Coordinator.SetEndpoints(h.endpoint)
	h.c.Coordinator.SetSeen(h.seen)
	close(h.ready)
	return g.Wait()
}

func (h *Hub) serve(ctx context.Context, ln net.Listener) error {
	srv := nodeapi.NewServer(nodeapi.Control(h.c.Coordinator))
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(late) != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(ln)
	if ctx.Err() == nil {
		return fmt.Errorf("serve nodes: %w", err)
	}
	<-stopped
	return nil
}

// follow configures the device for each new generation, and again after a failure.
func (h *Hub) follow(ctx context.Context, have uint64) error {
	for {
		if _, err := h.c.Coordinator.Await(ctx, have); err == nil {
			gen, err := h.advance(ctx, have)
			if err == nil {
				have = gen
				continue
			}
			h.log.Error("cannot configure the hub", "error", err)
		} else if ctx.Err() == nil {
			h.log.Error("cannot follow the network", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
	}
}

// advance makes true what is newer than the generation have, and returns the one that is true then.
func (h *Hub) advance(ctx context.Context, have uint64) (uint64, error) {
	gen, relay, same, err := h.c.Coordinator.HubUnchanged(ctx, have)
	if err != nil {
		return have, fmt.Errorf("read what the hub needs: %w", err)
	}
	if same {
		h.c.Coordinator.HubApplied(gen)
		h.admit(relay)
		return gen, nil
	}
	view, err := h.configure(ctx)
	return view.Generation, err
}

// configure makes the device know exactly the nodes of the newest generation.
func (h *Hub) configure(ctx context.Context) (coordinator.HubView, error) {
	view, err := h.c.Coordinator.HubView(ctx)
	if err != nil {
		return view, fmt.Errorf("read what the hub needs: %w", err)
	}
	if !view.Address.IsValid() || view.ControlPort == 0 {
		return view, errors.New("the network has no address for the hub")
	}
	cfg := tunnel.Config{
		PrivateKey: h.c.Coordinator.HubKey(),
		ListenPort: h.c.Port,
		Addresses:  []netip.Prefix{hostPrefix(view.Address)},
		Blackhole:  view.Overlay,
		Peers:      make([]tunnel.Peer, 0, len(view.Nodes)),
	}
	for _, n := range view.Nodes {
		p := tunnel.Peer{PublicKey: n.PublicKey, Next: n.NextKey, AllowedIPs: []netip.Prefix{hostPrefix(n.Address)}}
		if n.Former.IsValid() {
			p.AllowedIPs = append(p.AllowedIPs, hostPrefix(n.Former))
		}
		cfg.Peers = append(cfg.Peers, p)
	}
	if err := h.c.Device.Configure(ctx, cfg); err != nil {
		return view, fmt.Errorf("configure the hub's device: %w", err)
	}
	h.admit(view.Relay)
	h.c.Coordinator.HubApplied(view.Generation)
	h.expect(view.Nodes)
	return view, nil
}

// admit tells the relay what it forwards, if it is something else than before. One that goes on with what it had is no reason to keep nodes
// from the coordinator.
func (h *Hub) admit(t wire.RelayTable) {
	h.admitting.Lock()
	defer h.admitting.Unlock()
	if h.c.Relay == nil || h.admitted != nil && slices.Equal(h.admitted.Members, t.Members) && slices.Equal(h.admitted.Pairs, t.Pairs) {
		return
	}
	h.admitted = nil
	if err := h.c.Relay(t); err != nil {
		h.log.Error("cannot configure the hub's relay", "error", err)
		return
	}
	h.admitted = &t
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
