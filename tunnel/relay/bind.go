package relay

import (
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// bind is a conn.Bind that keeps from its device what is for others.
type bind struct {
	conn.Bind
	relay *Relay
}

// Bind wraps the Bind of the device that has the port; nil means UDP sockets of the host. Its packets that are not the device's own are the
// relay's.
func (r *Relay) Bind(inner conn.Bind) conn.Bind {
	if inner == nil {
		inner = conn.NewDefaultBind()
	}
	return &bind{Bind: inner, relay: r}
}

// Open implements conn.Bind.
func (b *bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	receive, actual, err := b.Bind.Open(port)
	for i, fn := range receive {
		s := &switcher{relay: b.relay, out: b.Bind, sent: make([]bool, b.BatchSize()), verdicts: make([]sorted, b.BatchSize())}
		receive[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := fn(packets, sizes, eps)
			if n > 0 && s.relay.active.Load() {
				s.sort(packets[:n], sizes[:n], eps[:n])
			}
			return n, err
		}
	}
	return receive, actual, err
}

// Send implements conn.Bind. The device's own handshakes tell the indexes that are its own.
func (b *bind) Send(packets [][]byte, to conn.Endpoint) error {
	for _, p := range packets {
		if m, ok := classify(p); ok && (m.kind == initiation || m.kind == response) {
			b.relay.noteOwn(m.sender, addressOf(to))
		}
	}
	return b.Bind.Send(packets, to)
}

// switcher forwards what one ReceiveFunc receives. It has its memory once, so that a packet costs none.
type switcher struct {
	relay    *Relay
	out      conn.Bind
	verdicts []sorted
	sent     []bool
	batch    [][]byte
}

type sorted struct {
	action Action
	to     netip.AddrPort
	at     conn.Endpoint
	size   int
}

// sort decides about a batch, forwards what is to be forwarded, and leaves to the device what is its own: a size of 0 tells it to skip.
func (s *switcher) sort(packets [][]byte, sizes []int, eps []conn.Endpoint) {
	if s.decide(packets, sizes, eps) == 0 {
		return
	}
	for i := range packets {
		if s.sent[i] || s.verdicts[i].action != Forward {
			continue
		}
		// One call for all that goes to one place: the order of its packets stays, and the kernel gets them as one.
		first := &s.verdicts[i]
		s.batch = s.batch[:0]
		for j := i; j < len(packets); j++ {
			if v := &s.verdicts[j]; !s.sent[j] && v.action == Forward && v.to == first.to {
				s.sent[j] = true
				s.batch = append(s.batch, packets[j][:v.size])
			}
		}
		if err := s.out.Send(s.batch, first.at); err != nil {
			s.relay.unsent.Add(uint64(len(s.batch)))
		}
	}
}

// decide fills in the verdicts and returns how many packets go on.
func (s *switcher) decide(packets [][]byte, sizes []int, eps []conn.Endpoint) (forwarded int) {
	r := s.relay
	now := time.Now()
	look := false
	r.mu.Lock()
	for i := range packets {
		s.sent[i], s.verdicts[i] = false, sorted{}
		if sizes[i] == 0 {
			continue
		}
		from := addressOf(eps[i])
		v := r.table.Packet(now, from, packets[i][:sizes[i]])
		look = look || v.Look
		if v.Learn {
			r.learn(from, eps[i])
		}
		if v.Action == Own {
			continue
		}
		if v.Action == Hold {
			r.waiting.add(r, now, s.out, from, packets[i][:sizes[i]], v.Why)
		}
		d := sorted{action: v.Action, to: v.To, size: sizes[i]}
		sizes[i] = 0
		if d.action == Forward {
			if d.at = r.endpoint(s.out, d.to); d.at == nil {
				d.action = Drop
			} else {
				forwarded++
			}
		}
		s.verdicts[i] = d
	}
	r.mu.Unlock()
	if look {
		r.lookAgain()
	}
	return forwarded
}

// addressOf is where an Endpoint leads.
func addressOf(e conn.Endpoint) netip.AddrPort {
	var a netip.AddrPort
	if s, ok := e.(*conn.StdNetEndpoint); ok {
		a = s.AddrPort
	} else {
		a, _ = netip.ParseAddrPort(e.DstToString()) // the zero value is nowhere
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// learn keeps how an address is answered, which also says from which of this machine's addresses. The device goes on changing what it was
// given, so it is a copy that is kept. The caller holds r.mu.
func (r *Relay) learn(at netip.AddrPort, e conn.Endpoint) {
	if len(r.endpoints) >= maxEndpoints {
		clear(r.endpoints)
	}
	if s, ok := e.(*conn.StdNetEndpoint); ok {
		c := *s
		e = &c
	}
	r.endpoints[at] = e
}

// endpoint is how an address is reached; nil if it is none. The caller holds r.mu.
func (r *Relay) endpoint(b conn.Bind, at netip.AddrPort) conn.Endpoint {
	if e := r.endpoints[at]; e != nil {
		return e
	}
	e, err := b.ParseEndpoint(at.String())
	if err != nil {
		return nil
	}
	r.learn(at, e)
	return e
}
