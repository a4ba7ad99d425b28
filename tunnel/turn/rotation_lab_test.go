package turn_test

import (
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const clinics = 4

func all() (list []int) {
	for i := 1; i <= clinics; i++ {
		list = append(list, i)
	}
	return list
}

func TestLabCenterRotates(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		in.talk()
		wait(3 * time.Second)
		start := time.Now()
		key := in.announce(0)
		wait(2 * time.Second)
		in.rotate(0, key)
		wait(2 * time.Second)
		before := in.sessions(3)
		in.settle(0)
		wait(5 * time.Second)
		in.wantGaps("the center changes", start, longest, all()...)
		for peer, at := range in.sessions(3) {
			if !before[peer].Equal(at) || at.IsZero() {
				t.Errorf("the session with %s is of %v, before the old key went it was of %v", peer, at, before[peer])
			}
		}
	})
}

func TestLabClinicRotates(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		in.talk()
		wait(3 * time.Second)
		start, before := time.Now(), in.sessions(0)
		key := in.announce(1)
		wait(2 * time.Second)
		in.rotate(1, key)
		wait(2 * time.Second)
		in.settle(1)
		wait(5 * time.Second)
		in.wantGaps("a clinic changes", start, longest, 1)
		in.wantGaps("the others meanwhile", start, 2*interval, all()[1:]...)
		kept := 0
		for peer, at := range in.sessions(0) {
			if was, ok := before[peer]; ok {
				kept++
				if !at.Equal(was) {
					t.Errorf("the session with %s was lost", peer)
				}
			}
		}
		if kept != clinics-1 {
			t.Errorf("%d of %d other peers kept", kept, clinics-1)
		}
	})
}

// Within the five seconds in which WireGuard sends no second initiation.
func TestLabBothRotateInTurn(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		in.talk()
		wait(time.Second)
		start := time.Now()
		center, clinic := in.announce(0), in.announce(1)
		wait(time.Second)
		in.rotate(0, center)
		wait(time.Second)
		in.rotate(1, clinic)
		wait(time.Second)
		in.settle(0)
		in.settle(1)
		center = in.announce(0)
		in.rotate(0, center)
		wait(12 * time.Second)
		in.wantGaps("both change in turn", start, longest, all()...)
	})
}

// All clinics at the same moment.
func TestLabManyRotateAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		in.talk()
		wait(time.Second)
		start := time.Now()
		for _, i := range all() {
			in.nodes[i].conf.PrivateKey = in.announce(i)
		}
		for _, i := range all() {
			in.apply(i)
		}
		wait(10 * time.Second)
		in.wantGaps("all clinics change", start, longest, all()...)
	})
}

// The call under the old key reaches nobody, on either way. Patience and order of the keys limit the gap, instead of chance.
func TestLabBothRotateAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, 1)
		defer in.close()
		in.talk()
		for round := range 4 {
			wait(time.Second)
			start := time.Now()
			center, clinic := in.announce(0), in.announce(1)
			wait(time.Second)
			in.rotate(0, center)
			in.rotate(1, clinic)
			wait(4 * time.Second)
			in.settle(0)
			in.settle(1)
			wait(time.Second)
			in.wantGaps("both change at the same time", start, 2500*time.Millisecond, 1)
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
	})
}

func TestLabTurnsBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		in.talk()
		wait(time.Second)
		start, old := time.Now(), in.nodes[1].conf.PrivateKey
		key := in.announce(1)
		for range 5 {
			wait(2 * time.Second)
			in.rotate(1, key)
			wait(2 * time.Second)
			in.rotate(1, old)
		}
		wait(10 * time.Second)
		in.each(1, func(p *tunnel.Peer) { p.Next = wgkey.PublicKey{} })
		wait(time.Second)
		in.wantGaps("a clinic changes and turns back", start, longest, 1)
	})
}

// Nobody says anything: the handshakes come all the same, so that the first packet hours later finds its way.
func TestLabIdle(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, clinics)
		defer in.close()
		wait(20 * time.Second)
		for _, j := range []int{0, 1} {
			key := in.announce(j)
			wait(time.Second)
			in.rotate(j, key)
			wait(150 * time.Millisecond)
			for i := range in.nodes {
				if i == j || i > 1 && j > 0 {
					continue
				}
				if got := in.inUse(i, j); got != public(t, key) {
					t.Errorf("node %d changed its key; node %d still uses %v for it", j, i, got)
				}
			}
			wait(20 * time.Second)
			in.settle(j)
		}
		start := time.Now()
		in.talk()
		wait(time.Second)
		in.wantGaps("the first packets", start, 3*interval+oneWay, all()...)
	})
}

// A clinic is away while the center changes. It comes back at another address, where the center cannot find it, and calls a key that
// nobody has anymore.
func TestLabOffline(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		in := newInternet(t, 2)
		defer in.close()
		wait(time.Second)
		key := in.announce(0)
		in.nodes[1].offline.Store(true)
		wait(time.Second)
		in.rotate(0, key)
		wait(200 * time.Second) // longer than any session lives
		if err := in.nodes[1].bind.Move(elsewhere(1)); err != nil {
			t.Fatal(err)
		}
		in.nodes[1].offline.Store(false)
		in.talk()
		back := time.Now()
		wait(10 * time.Second)
		in.wantGaps("the one that is back", back, 6*time.Second, 1) // WireGuard calls every five seconds
	})
}
