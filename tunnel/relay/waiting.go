package relay

import (
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

const (
	// maxWaiting is how many initiations wait for a look at where somebody is, waitFor how long. Who has started a second ago calls the
	// device and its peers at once, and would have to wait 5 s for another attempt (REKEY_TIMEOUT).
	maxWaiting = 64
	waitFor    = 2 * time.Second
)

// waiting are initiations that could not go on. Relay.mu guards them.
type waiting []held

type held struct {
	out    conn.Bind
	from   netip.AddrPort
	since  time.Time
	packet [initiationSize]byte
}

// add takes a copy of an initiation, in the place of an earlier one from the same address.
func (w *waiting) add(r *Relay, now time.Time, out conn.Bind, from netip.AddrPort, p []byte, why Reason) {
	h := held{out: out, from: from, since: now}
	copy(h.packet[:], p)
	if i := slices.IndexFunc(*w, func(o held) bool { return o.from == from }); i >= 0 {
		r.table.GiveUp(why)
		(*w)[i] = h
		return
	}
	if len(*w) >= maxWaiting {
		r.table.GiveUp(why)
		return
	}
	*w = append(*w, h)
}

// again tries all that wait, and gives up those that have waited for long.
func (w *waiting) again(r *Relay) {
	type ready struct {
		held
		to conn.Endpoint
	}
	var list []ready
	now := time.Now()
	r.mu.Lock()
	*w = slices.DeleteFunc(*w, func(h held) bool {
		v := r.table.Packet(now, h.from, h.packet[:])
		switch {
		case v.Action == Forward:
			if to := r.endpoint(h.out, v.To); to != nil {
				list = append(list, ready{h, to})
			}
		case v.Action == Hold && now.Sub(h.since) <= waitFor:
			return false
		case v.Action == Hold:
			r.table.GiveUp(v.Why)
		}
		return true
	})
	r.mu.Unlock()
	for _, h := range list {
		if err := h.out.Send([][]byte{h.packet[:]}, h.to); err != nil {
			r.unsent.Add(1)
		}
	}
}
