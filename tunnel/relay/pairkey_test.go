package relay_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/pairkey" //nolint:depguard // only here is a relay with real WireGuard in fake time to try it on
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// keyed is a box that agrees on preshared keys with another one, as a gateway does.
type keyed struct {
	*box
	name  string
	other *keyed
	pair  *pairkey.Pair
	saved pairkey.Saved
	inbox [][]byte
	turns int // how often the key changed
}

func (k *keyed) link() pairkey.Link {
	return pairkey.Link{Own: []wgkey.PrivateKey{k.key}, Peer: []wgkey.PublicKey{k.other.public()}}
}

// step is what a gateway does every second.
func (k *keyed) step(lose func() bool) {
	t, now := k.lab.t, time.Now()
	st, err := k.dev.Status()
	if err != nil {
		t.Error(err)
		return
	}
	for _, p := range st.Peers {
		if p.PublicKey == k.other.public() {
			k.pair.Tick(now, pairkey.Seen{Handshake: p.LastHandshake, Rx: p.RxBytes, Tx: p.TxBytes})
		}
	}
	for _, b := range k.inbox {
		k.pair.Handle(now, k.link(), b)
	}
	k.inbox = nil
	if s, unsaved := k.pair.Unsaved(); unsaved {
		k.saved = s
		k.pair.Keep()
	}
	if b, due := k.pair.Due(now, k.link()); due {
		k.pair.Posted(now)
		if !lose() {
			k.other.inbox = append(k.other.inbox, b)
		}
	}
	if k.pair.Choose(now, true) {
		k.turns++
		k.apply()
		k.pair.Configured(time.Now())
	}
}

func (k *keyed) apply() {
	for i := range k.conf.Peers {
		if p := &k.conf.Peers[i]; p.PublicKey == k.other.public() {
			p.PresharedKey = k.pair.Key()
		}
	}
	if err := k.dev.Apply(k.conf); err != nil {
		k.lab.t.Error(err)
	}
}

// restart begins again with what was saved, a day later.
func (k *keyed) restart() {
	k.saved.Current.Made = k.saved.Current.Made.Add(-pairkey.RenewAfter)
	k.pair = pairkey.New(k.name, k.other.name, k.saved, time.Now())
	k.apply()
}

// uapiKey asks the device itself, as wg(8) does.
func (k *keyed) uapiKey() wgkey.PresharedKey {
	t := k.lab.t
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); k.dev.Serve(theirs) }()
	if _, err := io.WriteString(ours, "get=1\n\n"); err != nil {
		t.Fatal(err)
	}
	var text []byte
	for !bytes.HasSuffix(text, []byte("\n\n")) {
		b := make([]byte, 4096)
		n, err := ours.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b[:n]...)
	}
	_ = ours.Close()
	<-done
	d, err := uapi.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Peers {
		if p.PublicKey == k.other.public() {
			return p.PresharedKey
		}
	}
	return wgkey.PresharedKey{}
}

// Relayed packets, a new preshared key every three minutes, a coordinator that loses a third of all messages, and ends that start again in
// the middle of it. The relay does not notice, no packet is lost, and the devices end with the same key.
func TestRenewalsOfPresharedKeysLoseNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		l := newRelayLab(t, 2, 9, [][2]int{{0, 1}})
		defer l.close()
		ends := [2]*keyed{{box: l.boxes[1], name: "node_a"}, {box: l.boxes[2], name: "node_b"}}
		ends[0].other, ends[1].other = ends[1], ends[0]
		for _, k := range ends {
			k.pair = pairkey.New(k.name, k.other.name, pairkey.Saved{}, time.Now())
		}
		rng := rand.New(rand.NewPCG(1, 2))
		seconds := func(n int) {
			for range n {
				time.Sleep(time.Second)
				for _, k := range ends {
					k.step(func() bool { return rng.IntN(3) == 0 })
				}
			}
		}
		seconds(60)
		if a, b := ends[0].uapiKey(), ends[1].uapiKey(); a.IsZero() || !a.Equal(b) {
			t.Errorf("after a minute the devices have no key in common: %v", a.IsZero())
		}
		const packets, every = 9000, 200 * time.Millisecond // half an hour
		for i, k := range ends {
			l.work.Go(func() { k.send(ends[1-i].box, packets, every) })
		}
		for range 10 {
			ends[0].restart()
			ends[1].restart()
			seconds(180)
		}
		seconds(30)
		for i, k := range ends {
			if n := len(k.got(ends[1-i].box)); n != packets {
				t.Errorf("%d of %d packets arrived at %s", n, packets, k.name)
			}
		}
		a, b := ends[0].pair.Standing(), ends[1].pair.Standing()
		t.Logf("epoch %d and %d, %d and %d changes of the key, %d packets each way", a.Epoch, b.Epoch, ends[0].turns, ends[1].turns, packets)
		if a.Epoch < 10 || a.Epoch != b.Epoch || !a.Proven || !b.Proven || a.Fallen || b.Fallen {
			t.Errorf("%+v and %+v", a, b)
		}
		if a, b := ends[0].uapiKey(), ends[1].uapiKey(); a.IsZero() || !a.Equal(b) || !a.Equal(ends[0].pair.Key()) {
			t.Error("the devices have no key in common")
		}
		if l.direct > 0 {
			t.Errorf("%d packets went past the relay", l.direct)
		}
	})
}
