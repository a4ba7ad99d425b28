package steer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// aliases is a part of the prefix whose packets are discarded everywhere (RFC 6666), should an alias ever be mistaken for an address.
var aliases = netip.MustParsePrefix("100::/64")

// Alias is the endpoint that the device is to have for a steered peer, as tunnel.Peer.Endpoint.
func Alias(peer wgkey.PublicKey) netip.AddrPort {
	b := aliases.Addr().As16()
	sum := sha256.Sum256(peer[:])
	copy(b[8:], sum[:])
	return netip.AddrPortFrom(netip.AddrFrom16(b), 1)
}

// Peer is a peer that is steered. Both ends have to steer each other; otherwise the way is the relay for ever.
type Peer struct {
	PublicKey wgkey.PublicKey
	// Relay is where the peer is reached in any case.
	Relay netip.AddrPort
	// Candidates are where it may be reached directly. Nil stands for those of Bind.Candidates.
	Candidates []path.Candidate
}

// Config is all that a Bind steers.
type Config struct {
	PrivateKey wgkey.PrivateKey
	Filter     path.Filter
	Peers      []Peer
}

// way is where packets of a peer go.
type way struct {
	address  netip.AddrPort
	endpoint conn.Endpoint
}

type peer struct {
	name netip.AddrPort
	way  atomic.Pointer[way]

	// All that follows is guarded by Bind.mu.
	channel *path.Channel
	machine *path.Machine
	relay   way
	timer   *time.Timer
}

// Bind is a conn.Bind that steers. Its methods are safe for concurrent use.
type Bind struct {
	conn.Bind

	mu      sync.Mutex
	own     wgkey.PrivateKey
	filter  []netip.Prefix
	peers   map[wgkey.PublicKey]*peer
	byID    map[path.ID]*peer
	byAlias map[netip.AddrPort]*peer
	given   map[wgkey.PublicKey][]path.Candidate
	ended   bool
}

// New wraps the Bind of a device; nil means UDP sockets of the host.
func New(inner conn.Bind) *Bind {
	if inner == nil {
		inner = conn.NewDefaultBind()
	}
	return &Bind{
		Bind: inner, peers: map[wgkey.PublicKey]*peer{}, byID: map[path.ID]*peer{}, byAlias: map[netip.AddrPort]*peer{},
	}
}

// NoRoaming is what a wireguard-go device needs before it gets peers with an Alias.
type NoRoaming interface {
	DisableSomeRoamingForBrokenMobileSemantics()
}

// Prepare makes the device keep the endpoints with which peers are created. Peers that get theirs later go on roaming.
func Prepare(d NoRoaming) { d.DisableSomeRoamingForBrokenMobileSemantics() }

// Configure makes the Bind steer all of c and nothing else. Peers that stay keep their way; another private key or Filter begins anew.
// It comes before the configuration of the device, whose peers have their Alias as endpoint. After an error that names a peer, the others
// are steered.
func (b *Bind) Configure(c Config) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.New("steer: the bind is shut down")
	}
	anew := !b.own.Equal(c.PrivateKey) || !slices.Equal(b.filter, c.Filter.Inside)
	b.own, b.filter = c.PrivateKey, slices.Clone(c.Filter.Inside)
	keep := make(map[wgkey.PublicKey]bool, len(c.Peers))
	for _, p := range c.Peers {
		keep[p.PublicKey] = !anew
	}
	for k, p := range b.peers {
		if !keep[k] {
			b.remove(k, p)
		}
	}
	var errs []error
	for _, p := range c.Peers {
		if err := b.set(c, p); err != nil {
			errs = append(errs, fmt.Errorf("steer peer %v: %w", p.PublicKey, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Bind) set(c Config, want Peer) error {
	now := time.Now()
	endpoint, err := b.Bind.ParseEndpoint(want.Relay.String())
	if err != nil {
		return err
	}
	p := b.peers[want.PublicKey]
	if p == nil {
		if p, err = b.add(c, want.PublicKey, now); err != nil {
			return err
		}
	}
	p.relay = way{want.Relay, endpoint}
	if !p.machine.Status().Way.IsValid() {
		p.way.Store(&way{want.Relay, endpoint})
	}
	candidates := want.Candidates
	if candidates == nil {
		candidates = b.given[want.PublicKey]
	}
	b.do(p, p.machine.Candidates(now, candidates), now)
	return nil
}

// Candidates says where peers may be reached directly, now and when they are steered later. It replaces what was said before for all peers.
func (b *Bind) Candidates(all map[wgkey.PublicKey][]path.Candidate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given = maps.Clone(all)
	now := time.Now()
	for k, p := range b.peers {
		b.do(p, p.machine.Candidates(now, all[k]), now)
	}
}

func (b *Bind) add(c Config, key wgkey.PublicKey, now time.Time) (*peer, error) {
	own, err := c.PrivateKey.Public()
	if err != nil {
		return nil, err
	}
	channel, err := path.NewChannel(c.PrivateKey, key)
	if err != nil {
		return nil, err
	}
	p := b.byAlias[Alias(key)] // of before, which the device goes on using
	if p == nil {
		p = &peer{name: Alias(key)}
	}
	p.channel, p.machine = channel, path.New(own, key, path.Filter{Inside: b.filter}, now)
	p.timer = time.AfterFunc(time.Hour, func() { b.tick(p) })
	p.timer.Stop()
	b.peers[key], b.byID[channel.ReceiveID()], b.byAlias[p.name] = p, p, p
	return p, nil
}

func (b *Bind) remove(key wgkey.PublicKey, p *peer) {
	p.timer.Stop()
	last := p.relay
	p.way.Store(&last)
	delete(b.byID, p.channel.ReceiveID())
	delete(b.peers, key)
}

// IsAlias reports whether a is some peer's Alias.
func IsAlias(a netip.AddrPort) bool { return aliases.Contains(a.Addr()) }

// Moved says that an own address has changed.
func (b *Bind) Moved() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, p := range b.peers {
		b.do(p, p.machine.Moved(now), now)
	}
}

// Status reports the way to a peer; ok is false if it is not steered.
func (b *Bind) Status(key wgkey.PublicKey) (s path.Status, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[key]
	if p == nil {
		return path.Status{}, false
	}
	return p.machine.Status(), true
}

// Shutdown ends all probing; packets go on by the relays. It is idempotent and does not close the Bind, which is the device's to do.
func (b *Bind) Shutdown() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for k, p := range b.peers {
		b.remove(k, p)
	}
}

func (b *Bind) tick(p *peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID[p.channel.ReceiveID()] == p {
		now := time.Now()
		b.do(p, p.machine.Tick(now), now)
	}
}

// probe takes what may be a probe.
func (b *Bind) probe(packet []byte, from conn.Endpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.byID[path.IDOf(packet)]
	if p == nil {
		return
	}
	now := time.Now()
	probe, ok := p.channel.Open(packet, now)
	if !ok {
		return
	}
	if at, err := netip.ParseAddrPort(from.DstToString()); err == nil {
		b.do(p, p.machine.Received(now, at, probe), now)
	}
}

// do carries out what a machine has decided. A probe that cannot be sent is one that is lost.
func (b *Bind) do(p *peer, actions []path.Action, now time.Time) {
	for _, a := range actions {
		to := p.relay
		if a.To.IsValid() {
			endpoint, err := b.Bind.ParseEndpoint(a.To.String())
			if err != nil {
				continue
			}
			to = way{a.To, endpoint}
		}
		if a.Steer {
			p.way.Store(&to)
		} else {
			_ = b.Bind.Send([][]byte{p.channel.Seal(a.Probe)}, to.endpoint)
		}
	}
	if due := p.machine.Deadline(); !due.IsZero() {
		p.timer.Reset(max(due.Sub(now), 0))
	} else {
		p.timer.Stop()
	}
}
