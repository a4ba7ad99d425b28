package reconcile

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

// protocolTransfer is that of listeners where other gateways hand over items.
const protocolTransfer wire.Protocol = "transfer"

// CodeTransfer is the Condition of a box that cannot take items from other gateways.
const CodeTransfer = "transfer"

// TransferConfig is what moves items between gateways. Its zero value does not: then queued objects go straight to their service.
type TransferConfig struct {
	Spool *spool.Spool
	// Node is this gateway, Signer its key for receipts, Secret what seals items that are not whole yet.
	Node   string
	Signer crypto.Signer
	Secret []byte
	// Workers encode at a time.
	Workers int
}

// Inbound is what other gateways may hand over to this one.
type Inbound struct {
	// Services are those of the own Site that items may be for, by name, with the nodes that may send them.
	Services map[string][]string
	// Nodes tells by its address who speaks.
	Nodes map[netip.Addr]string
}

// inboundQueue holds items for a Service of the own Site.
func inboundQueue(service string) string { return "in." + service }

// gatewayAt returns where the gateway takes items behind which a place on the overlay is, and its node; the zero value if that is no gateway of ours.
func (c *compiler) gatewayAt(place netip.Addr) (at netip.AddrPort, node string) {
	for _, p := range c.peers {
		if len(p.AllowedIPs) > 0 && slices.ContainsFunc(p.AllowedIPs, func(x netip.Prefix) bool { return x.Contains(place) }) {
			if p.Kind != "" && p.Kind != wire.Gateway {
				return netip.AddrPort{}, ""
			}
			return netip.AddrPortFrom(p.AllowedIPs[0].Addr(), wire.TransferPort), p.Node
		}
	}
	return netip.AddrPort{}, ""
}

// inbound adds the listener for items from other gateways, and the deliveries of what they hand over.
func (c *compiler) inbound(offers []wire.Offer) {
	if c.self.Kind != "" && c.self.Kind != wire.Gateway {
		return
	}
	var allow []netip.Prefix
	in := Inbound{Services: map[string][]string{}, Nodes: map[netip.Addr]string{}}
	for _, o := range offers {
		if o.Protocol != wire.DICOM || o.Port == 0 || len(o.From) == 0 {
			continue
		}
		in.Services[o.Service] = []string{}
		for _, from := range o.From {
			for _, p := range c.peers {
				if len(p.AllowedIPs) == 0 || !from.Prefix.Contains(p.AllowedIPs[0].Addr()) || p.Kind == wire.Unmanaged || p.Kind == wire.Relay {
					continue
				}
				in.Services[o.Service] = append(in.Services[o.Service], p.Node)
				for _, a := range p.AllowedIPs {
					in.Nodes[a.Addr()] = p.Node
				}
			}
			if !slices.Contains(allow, from.Prefix) {
				allow = append(allow, from.Prefix)
			}
		}
		c.deliveries = append(c.deliveries, Delivery{
			Queue: inboundQueue(o.Service), Service: o.Service, Protocol: wire.DICOM, AETitle: o.AETitle, LAN: o.Target, TLS: c.lanTLS.Target(o.Service), DICOM: o.DICOM, Inbound: true,
		})
	}
	if len(in.Services) == 0 {
		return
	}
	c.in = in
	for _, a := range []netip.Addr{c.self.Address, c.self.Former} {
		if a.IsValid() {
			c.listen(Overlay, netip.AddrPortFrom(a, wire.TransferPort).String(), protocolTransfer, allow, Route{Service: "transfer"})
		}
	}
}

// receiving is the end of the box where other gateways hand over items. It is opened when the first Service wants it, and closed at the end.
type receiving struct {
	cfg RunnerConfig

	mu       sync.Mutex
	in       Inbound
	receiver *transfer.Receiver
}

// open makes the Receiver, or tells it of a new plan.
func (v *receiving) open(in Inbound) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.in = in
	if v.receiver != nil || len(in.Services) == 0 {
		return nil
	}
	t := v.cfg.Transfer
	r, err := transfer.NewReceiver(transfer.ReceiverConfig{
		Dir: filepath.Join(t.Spool.Dir(), "transfer"), Secret: t.Secret, Node: t.Node, Signer: t.Signer, Peer: v.peer, Codec: codec.New(t.Workers), Log: v.cfg.Log,
		Inbox: inbox{v, transfer.NewSpoolInbox(t.Spool, func(it transfer.Item) (string, error) { return inboundQueue(it.Service), nil }, v.queues)},
	})
	if err != nil {
		return err //nolint:wrapcheck // it says what for
	}
	v.receiver = r
	return nil
}

func (v *receiving) peer(source netip.Addr) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	node, ok := v.in.Nodes[source]
	return node, ok
}

// queues are all that have ever taken items of other gateways and may hold some.
func (v *receiving) queues() []string {
	var out []string
	for _, q := range v.cfg.Transfer.Spool.Stats() {
		if strings.HasPrefix(q.Queue, inboundQueue("")) {
			out = append(out, q.Queue)
		}
	}
	return out
}

var errNotOffered = errors.New("this gateway's plan has no such service for that gateway")

// may says whether a node may hand over items for a Service. That it may not can be a plan that has not arrived here yet, so the sender tries
// again.
func (v *receiving) may(node, service string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.in.Services[service], node) {
		return errNotOffered
	}
	return nil
}

func (v *receiving) handler() (proxy.Handler, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.receiver == nil {
		return nil, errors.New("items from other gateways cannot be taken yet")
	}
	return v.receiver, nil
}

// ready reports whether there is a receiving end. Without transfer there never is.
func (v *receiving) ready() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.receiver != nil
}

// reporting makes a Sink tell other gateways how their items ended. It needs a receiving end that is ready.
func (v *receiving) reporting(inner spool.Sink) spool.Sink {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.receiver.Sink(inner)
}

func (v *receiving) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.receiver == nil {
		return
	}
	if err := v.receiver.Close(); err != nil {
		v.cfg.Log.Error("the end for items of other gateways did not close in order", "error", err)
	}
	v.receiver = nil
}

// inbox takes items for what the plan offers.
type inbox struct {
	v *receiving
	*transfer.SpoolInbox
}

// Accept implements transfer.Inbox.
func (b inbox) Accept(it transfer.Item) error { return b.v.may(it.Node, it.Service) }

// applyInbound opens or updates the receiving end.
func (r *Runner) applyInbound(in Inbound) error {
	if r.cfg.Transfer.Spool == nil {
		return nil
	}
	if err := r.receiving.open(in); err != nil {
		r.cfg.Health.Raise(CodeTransfer, health.Error, "items from other gateways cannot be taken: "+err.Error(), time.Now())
		return fmt.Errorf("open the transfer: %w", err)
	}
	r.cfg.Health.Clear(CodeTransfer)
	return nil
}

// sending empties queues towards one gateway.
type sending struct {
	spec   []Delivery
	sender *transfer.Sender
	cancel context.CancelFunc
	done   chan struct{}
}

func (r *Runner) applySendings(ctx context.Context, want []Delivery) {
	specs := map[netip.AddrPort][]Delivery{}
	for _, d := range want {
		specs[d.Gateway] = append(specs[d.Gateway], d)
	}
	for at, run := range r.sendings {
		if slices.EqualFunc(specs[at], run.spec, sameSending) && !isClosed(run.done) {
			continue
		}
		run.cancel()
		<-run.done
		r.setSending(at, nil)
	}
	for at, ds := range specs {
		if r.sendings[at] != nil {
			continue
		}
		run, err := r.startSending(ctx, at, ds)
		if err != nil {
			r.cfg.Log.Error("items cannot be sent to another gateway", "gateway", at, "error", err)
			continue
		}
		r.setSending(at, run)
	}
}

func sameSending(a, b Delivery) bool {
	return a.Queue == b.Queue && a.Service == b.Service && a.Peer == b.Peer
}

func (r *Runner) setSending(at netip.AddrPort, run *sending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run == nil {
		delete(r.sendings, at)
		return
	}
	r.sendings[at] = run
}

func (r *Runner) startSending(ctx context.Context, at netip.AddrPort, ds []Delivery) (*sending, error) {
	t := r.cfg.Transfer
	routes := make([]transfer.SpoolRoute, 0, len(ds))
	for _, d := range ds {
		routes = append(routes, transfer.SpoolRoute{Queue: d.Queue, Service: d.Service})
	}
	sender, err := transfer.NewSender(transfer.SenderConfig{
		Network: r.cfg.OverlayNet, Address: at.String(), Node: t.Node, Peer: ds[0].Peer, Outbox: transfer.NewSpoolOutbox(t.Spool, routes...), Codec: codec.New(t.Workers), Workers: t.Workers,
		Log: r.cfg.Log,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what for
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &sending{spec: ds, sender: sender, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		if err := sender.Run(ctx); err != nil {
			r.cfg.Log.Error("sending to another gateway ended", "gateway", at, "error", err)
		}
	}()
	return run, nil
}

// Reorder has what waits to be sent put in the order of its priorities, after one was changed. It may be called at any time.
func (r *Runner) Reorder() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.sendings {
		run.sender.Reorder()
	}
}

// TransferProgress is how the way to another gateway is doing.
type TransferProgress struct {
	Gateway netip.AddrPort `json:"gateway"`
	Site    string         `json:"site"`
	Queues  []string       `json:"queues"`
	transfer.Progress
}

// Transfers returns the progress towards all gateways. It may be called at any time.
func (r *Runner) Transfers() []TransferProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []TransferProgress
	for at, run := range r.sendings {
		p := TransferProgress{Gateway: at, Site: run.spec[0].Site, Progress: run.sender.Progress()}
		for _, d := range run.spec {
			p.Queues = append(p.Queues, d.Queue)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b TransferProgress) int {
		return cmp.Or(strings.Compare(a.Site, b.Site), a.Gateway.Compare(b.Gateway))
	})
	return out
}
