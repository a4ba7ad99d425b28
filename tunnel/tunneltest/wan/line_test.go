package wan

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// arrived is a packet as the far end saw it.
type arrived struct {
	after time.Duration
	n     uint32
	size  int
}

// send runs n packets of size bytes, gap apart, over a link inside a bubble and returns what arrived.
func send(t *testing.T, l Link, n, size int, gap time.Duration) (got []arrived, s Stats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		line := NewLine(l, func(b []byte) {
			got = append(got, arrived{time.Since(begin), binary.BigEndian.Uint32(b), len(b)})
		})
		b := make([]byte, size)
		for i := range n {
			binary.BigEndian.PutUint32(b, uint32(i))
			line.Send(b)
			time.Sleep(gap)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		s = line.Stats()
		line.Close()
	})
	return got, s
}

func TestRateIsExact(t *testing.T) {
	// 7 Mbit/s and 1499 bytes do not divide evenly: the remainder must not be lost.
	const n, size, rate = 10_000, 1499, 7_000_000
	got, s := send(t, Link{Rate: rate, Queue: n * size}, n, size, 0)
	if len(got) != n || s.QueueDrops != 0 {
		t.Fatalf("%d of %d packets arrived, %d dropped", len(got), n, s.QueueDrops)
	}
	want := time.Duration(int64(n) * size * 8 * int64(time.Second) / rate)
	if last := got[n-1].after; last != want {
		t.Errorf("the last packet left after %v, want %v: off by %v", last, want, last-want)
	}
	if s.MaxQueue != n*size || s.DeliveredBytes != n*size {
		t.Errorf("stats %+v", s)
	}
}

func TestDelayIsExact(t *testing.T) {
	got, _ := send(t, Link{Delay: 37 * time.Millisecond}, 100, 200, 10*time.Millisecond)
	if len(got) != 100 {
		t.Fatalf("%d of 100 packets arrived", len(got))
	}
	for i, a := range got {
		if want := time.Duration(i)*10*time.Millisecond + 37*time.Millisecond; a.after != want {
			t.Fatalf("packet %d after %v, want %v", i, a.after, want)
		}
	}
}

func TestIdleLineHasNoCredit(t *testing.T) {
	// 1250 bytes at 1 Mbit/s take 10 ms; a line that was idle for a second must not send faster afterwards.
	got, _ := send(t, Link{Rate: 1_000_000, Delay: time.Millisecond}, 5, 1250, time.Second)
	for i, a := range got {
		if want := time.Duration(i)*time.Second + 11*time.Millisecond; a.after != want {
			t.Errorf("packet %d after %v, want %v", i, a.after, want)
		}
	}
}

func TestLossIsBinomial(t *testing.T) {
	const n = 50_000
	for _, p := range []float64{0, 0.005, 0.1, 1} {
		got, s := send(t, Link{Loss: p, Seed: 42}, n, 100, time.Microsecond)
		mean, bound := n*p, 5*math.Sqrt(n*p*(1-p)) // five sigma
		if d := math.Abs(float64(s.Lost) - mean); d > bound {
			t.Errorf("loss %g: lost %d of %d, want %.0f ± %.0f", p, s.Lost, n, mean, bound)
		}
		if int64(len(got))+s.Lost != n {
			t.Errorf("loss %g: %d arrived and %d lost of %d", p, len(got), s.Lost, n)
		}
	}
}

func TestLossComesInNoPattern(t *testing.T) {
	// At 10 % a pair of neighbors is lost in 1 % of cases if losses are independent.
	const n, p = 50_000, 0.1
	got, _ := send(t, Link{Loss: p, Seed: 7}, n, 100, 0)
	there := make([]bool, n)
	for _, a := range got {
		there[a.n] = true
	}
	pairs := 0
	for i := range n - 1 {
		if !there[i] && !there[i+1] {
			pairs++
		}
	}
	if mean := (n - 1) * p * p; math.Abs(float64(pairs)-mean) > 6*math.Sqrt(mean) {
		t.Errorf("%d pairs of losses, want about %.0f", pairs, mean)
	}
}

func TestSeedRepeats(t *testing.T) {
	l := Link{Loss: 0.2, Jitter: 5 * time.Millisecond, Delay: 20 * time.Millisecond, Seed: 3}
	a, _ := send(t, l, 500, 100, time.Millisecond)
	b, _ := send(t, l, 500, 100, time.Millisecond)
	if !slices.Equal(a, b) {
		t.Error("the same seed and traffic gave two patterns")
	}
	l.Seed = 4
	if c, _ := send(t, l, 500, 100, time.Millisecond); slices.Equal(a, c) {
		t.Error("two seeds gave one pattern")
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	l := Link{Delay: 20 * time.Millisecond, Jitter: 15 * time.Millisecond, Seed: 1}
	inOrder := func(a []arrived) bool {
		return slices.IsSortedFunc(a, func(x, y arrived) int { return int(x.n) - int(y.n) })
	}
	got, _ := send(t, l, 2000, 100, time.Millisecond)
	if !inOrder(got) {
		t.Error("order changed without Reorder")
	}
	least, most := time.Hour, time.Duration(0)
	for _, a := range got {
		d := a.after - time.Duration(a.n)*time.Millisecond
		least, most = min(least, d), max(most, d)
	}
	if least < 5*time.Millisecond || least > 10*time.Millisecond || most > 35*time.Millisecond || most < 30*time.Millisecond {
		t.Errorf("delays between %v and %v, want nearly 5 ms to 35 ms", least, most)
	}
	l.Reorder = true
	if got, _ = send(t, l, 2000, 100, time.Millisecond); inOrder(got) || len(got) != 2000 {
		t.Errorf("with Reorder %d packets arrived, in order: %v", len(got), inOrder(got))
	}
}

func TestQueueDropsItsTail(t *testing.T) {
	// Ten packets fit; of twenty at once the last ten are dropped. After 35 ms, 3.5 packets of 10 ms each have left: three more fit.
	synctest.Test(t, func(t *testing.T) {
		var got []uint32
		line := NewLine(Link{Rate: 1_000_000, Queue: 12_500}, func(b []byte) { got = append(got, binary.BigEndian.Uint32(b)) })
		b := make([]byte, 1250)
		burst := func(from, n int) {
			for i := range n {
				binary.BigEndian.PutUint32(b, uint32(from+i))
				line.Send(b)
			}
		}
		burst(0, 20)
		time.Sleep(35 * time.Millisecond)
		burst(100, 5)
		time.Sleep(time.Second)
		synctest.Wait()
		want := []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 101, 102}
		if !slices.Equal(got, want) {
			t.Errorf("arrived %v, want %v", got, want)
		}
		if s := line.Stats(); s.QueueDrops != 12 || s.MaxQueue != 12_500 || s.Packets != 25 || s.DeliveredPackets != 13 {
			t.Errorf("stats %+v", s)
		}
		line.Close()
		line.Close()
		line.Send(b) // after Close: dropped, no panic
	})
}

func TestDefaultQueue(t *testing.T) {
	for _, c := range []struct {
		l    Link
		want int
	}{
		{Link{Rate: 1_000_000}, 64 << 10},
		{Link{Rate: 100_000_000}, 1_250_000},
		{Link{Rate: 100_000_000, Queue: 1500}, 1500},
	} {
		if got := c.l.queue(); got != c.want {
			t.Errorf("queue of %+v is %d, want %d", c.l, got, c.want)
		}
	}
}

func TestCloseDropsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		line := NewLine(Link{Delay: time.Second}, func([]byte) { n++ })
		line.Send([]byte{1})
		line.Close()
		time.Sleep(time.Minute)
		if n != 0 {
			t.Error("a packet arrived after Close")
		}
	})
}

func BenchmarkLine(b *testing.B) {
	line := NewLine(Link{}, func([]byte) {})
	defer line.Close()
	p := make([]byte, 1400)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		line.Send(p)
	}
}
