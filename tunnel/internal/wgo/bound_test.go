package wgo

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
	"pgregory.net/rapid"
)

// How many packets make a window full in these tests.
const few = 4

// soon is how long a wait took, to the millisecond.
func soon(w *window) time.Duration {
	began := time.Now()
	w.wait()
	return time.Since(began).Truncate(time.Millisecond)
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(few)
		w.take(few - 1)
		if d := soon(w); d != 0 {
			t.Errorf("with room for one more it waited %v", d)
		}
		w.take(1)
		go func() {
			time.Sleep(7 * time.Millisecond)
			w.giveBack(1)
		}()
		if d := soon(w); d != 7*time.Millisecond {
			t.Errorf("it waited %v for the one that came back after 7 ms", d)
		}
		w.take(1)
		if d := soon(w); d < staleAfter || d > 2*staleAfter {
			t.Errorf("packets of which nothing is heard were forgotten after %v", d)
		}
		w.giveBack(few) // those, late
		w.take(few)
		if d := soon(w); d == 0 {
			t.Error("packets that came back although forgotten made room for others")
		}
		w.take(few)
		time.Sleep(time.Second)
		if d := soon(w); d != 0 {
			t.Errorf("after a second's rest it waited %v", d)
		}
	})
}

// TestWindowWakesAll: both sockets of a device wait for the same window.
func TestWindowWakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(few)
		w.take(few)
		waited := make(chan time.Duration)
		for range 2 {
			go func() { waited <- soon(w) }()
		}
		time.Sleep(3 * time.Millisecond)
		w.giveBack(1)
		for range 2 {
			if d := <-waited; d != 3*time.Millisecond {
				t.Errorf("one waited %v", d)
			}
		}
	})
}

// TestWindowIsBounded: whatever is taken after a wait and given back, and lost, the count is at most the limit and a batch, never negative, and
// no wait is longer than two periods.
func TestWindowIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(-few, 2*few), 1, 50).Draw(rt, "steps")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 80), len(steps), len(steps)).Draw(rt, "pauses")
		synctest.Test(t, func(*testing.T) {
			w := newWindow(few)
			for i, n := range steps {
				time.Sleep(time.Duration(pauses[i]) * time.Millisecond)
				if n < 0 {
					w.giveBack(-n)
				} else {
					if d := soon(w); d > 2*staleAfter {
						rt.Errorf("it waited %v", d)
					}
					w.take(n)
				}
				if held := w.young + w.old; w.young < 0 || w.old < 0 || held >= few+2*few {
					rt.Errorf("%d and %d are held", w.young, w.old)
				}
			}
		})
	})
}

// reader is a TUN device from which batches of packets come for ever.
type reader struct {
	tun.Device
	packet []byte
}

func (r reader) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for i := range bufs {
		sizes[i] = copy(bufs[i][offset:], r.packet)
	}
	return len(bufs), nil
}

func (r reader) Write([][]byte, int) (int, error) { return 0, os.ErrClosed }

// receiver is a Bind from which they come.
type receiver struct {
	conn.Bind
	reader reader
}

func (r receiver) Send([][]byte, conn.Endpoint) error { return os.ErrClosed }

func (r receiver) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, _ []conn.Endpoint) (int, error) {
		return r.reader.Read(bufs, sizes, 0)
	}}, port, nil
}

const batch = 64

func newBatch() [][]byte {
	bufs := make([][]byte, batch)
	for i := range bufs {
		bufs[i] = make([]byte, 64)
	}
	return bufs
}

// until reads batches, each with kept buffers replaced, and counts how many it gets before it has to wait.
func until(read func(bufs [][]byte) error, kept int) (n int) {
	bufs := newBatch()
	for began := time.Now(); n < 100; n++ {
		if err := read(bufs); err != nil || time.Since(began) > 0 {
			return n
		}
		copy(bufs, newBatch()[:kept])
	}
	return n
}

func TestBound(t *testing.T) {
	transport := append([]byte{4}, make([]byte, 40)...)
	for name, c := range map[string]struct {
		packet     []byte
		kept       int
		tun, bind  int // batches until it waits; 100 is never
		returnEach bool
	}{
		"all are kept":                  {packet: transport, kept: batch, tun: maxHeld / batch, bind: maxHeld / batch},
		"half are kept":                 {packet: transport, kept: batch / 2, tun: 2 * maxHeld / batch, bind: 2 * maxHeld / batch},
		"none is kept":                  {packet: transport, tun: 100, bind: 100},
		"handshakes do not count":       {packet: append([]byte{1}, make([]byte, 147)...), kept: batch, tun: maxHeld / batch, bind: 100},
		"keepalives do not count":       {packet: transport[:32], kept: batch, tun: maxHeld / batch, bind: 100},
		"what is sent and written goes": {packet: transport, kept: batch, tun: 100, bind: 100, returnEach: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := reader{packet: c.packet}
				dev, bind := bound(r, receiver{reader: r})
				receive, _, err := bind.Open(1)
				if err != nil {
					t.Fatal(err)
				}
				sizes, eps := make([]int, batch), make([]conn.Endpoint, batch)
				if n := until(func(bufs [][]byte) error {
					_, err := dev.Read(bufs, sizes, 16)
					if c.returnEach {
						_ = bind.Send(bufs, nil) // failed or not
					}
					return err
				}, c.kept); n != c.tun {
					t.Errorf("%d batches were read from the interface before it waited, want %d", n, c.tun)
				}
				if n := until(func(bufs [][]byte) error {
					_, err := receive[0](bufs, sizes, eps)
					if c.returnEach {
						_, _ = dev.Write(bufs, 16)
					}
					return err
				}, c.kept); n != c.bind {
					t.Errorf("%d batches were received before it waited, want %d", n, c.bind)
				}
			})
		})
	}
}

// remembering is an endpoint that counts how often its source address is to be forgotten.
type remembering struct {
	conn.Endpoint
	forgotten int
}

func (r *remembering) ClearSrc() { r.forgotten++ }

// from is a Bind that receives one packet from an endpoint.
type from struct {
	conn.Bind
	endpoint conn.Endpoint
}

func (f from) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	return []conn.ReceiveFunc{func(_ [][]byte, _ []int, eps []conn.Endpoint) (int, error) {
		eps[0] = f.endpoint
		return 1, nil
	}}, 51820, nil
}

// TestSourceAddress: who calls others does not remember which of its addresses was answered, because nobody would tell it that this one has
// gone. Sockets that are opened again get the port of before as if it were a fixed one.
func TestSourceAddress(t *testing.T) {
	for name, c := range map[string]struct {
		plain   bool
		ports   []uint16
		forgets int
	}{
		"calls":                   {plain: true, ports: []uint16{0}, forgets: 1},
		"calls, and opened again": {plain: true, ports: []uint16{0, 51820}, forgets: 1},
		"is called":               {plain: true, ports: []uint16{51820}},
		"another Bind's business": {ports: []uint16{0}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &remembering{}
			b := &boundBind{Bind: from{endpoint: e}, out: newWindow(few), in: newWindow(few), plain: c.plain}
			var receive []conn.ReceiveFunc
			for _, port := range c.ports {
				var err error
				if receive, _, err = b.Open(port); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := receive[0](newBatch(), make([]int, batch), make([]conn.Endpoint, batch)); err != nil {
				t.Fatal(err)
			}
			if e.forgotten != c.forgets {
				t.Errorf("forgotten %d times, want %d", e.forgotten, c.forgets)
			}
		})
	}
	for what, b := range map[bool]conn.Bind{true: conn.NewStdNetBind(), false: from{}} {
		if _, bind := bound(nil, b); bind.(*boundBind).plain != what {
			t.Errorf("%T is taken for plain sockets: %v", b, !what)
		}
	}
}
