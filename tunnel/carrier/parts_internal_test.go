package carrier

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func packet(k uint32, size int) []byte {
	p := make([]byte, size)
	binary.LittleEndian.PutUint32(p, k)
	return p
}

// What waits is never more than its bounds, never older, and the newest that was pushed.
func TestQueueDropsTheOldest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(lane(rapid.IntRange(0, 1).Draw(t, "lane")))
		now, pushed := time.Unix(0, 0), uint64(0)
		var times []time.Time
		for range rapid.IntRange(1, 400).Draw(t, "packets") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "pause")) * time.Millisecond)
			p := packet(transport, rapid.IntRange(minPacket, MaxPacket).Draw(t, "size"))
			binary.LittleEndian.PutUint64(p[8:], pushed)
			pushed++
			times = append(times, now)
			q.push(p, now)
			if q.bytes > q.limit {
				t.Fatalf("%d octets wait", q.bytes)
			}
		}
		now = now.Add(time.Duration(rapid.IntRange(0, 150).Draw(t, "later")) * time.Millisecond)
		r := bufio.NewReader(bytes.NewReader(q.take(nil, 1<<30, now)))
		next := q.lost()
		for b := make([]byte, MaxPacket); ; next++ {
			if _, err := readFrame(r, b); err != nil {
				break
			}
			if n := binary.LittleEndian.Uint64(b[8:]); n != next || now.Sub(times[n]) > maxAge {
				t.Fatalf("packet %d of age %v where %d was due", n, now.Sub(times[n]), next)
			}
		}
		if next != pushed || q.bytes != 0 {
			t.Fatalf("%d of %d packets are accounted for, %d octets left", next, pushed, q.bytes)
		}
	})
}

func TestLanes(t *testing.T) {
	for _, x := range []struct {
		kind uint32
		size int
		want lane
	}{{initiation, 148, interactive}, {response, 92, interactive}, {transport, 32, interactive}, {transport, 48, bulk}, {transport, 1312, bulk}} {
		if got := laneOf(packet(x.kind, x.size)); got != x.want {
			t.Errorf("kind %d with %d octets: %v", x.kind, x.size, got)
		}
	}
}

// A reader that stands still costs the bound of the queue, and the connection its write deadline. Then the newest of what was sent arrives.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		q := newQueue(bulk)
		s := newStream(a, bufio.NewReader(a), q, false)
		go s.write()
		for range 5000 {
			q.push(packet(transport, 1300), time.Now())
			time.Sleep(time.Millisecond)
			q.mu.Lock()
			n := q.bytes
			q.mu.Unlock()
			if n > bulkBytes {
				t.Fatalf("%d octets wait", n)
			}
		}
		if q.lost() < 4500 {
			t.Errorf("%d of 5000 were dropped", q.lost())
		}
		r, p, n := bufio.NewReader(b), make([]byte, MaxPacket), 0
		began := time.Now()
		for range 200 {
			if _, err := readFrame(r, p); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if time.Since(began) > time.Millisecond {
			t.Errorf("%d packets took %v", n, time.Since(began))
		}
		// Nobody reads any more: the write deadline ends it.
		q.push(packet(transport, 1300), time.Now())
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		if !s.over() {
			t.Error("a connection that nobody reads lives on")
		}
		_ = b.Close()
	})
}

// A silent connection ends, and one with signs of life does not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client := newStream(a, bufio.NewReader(a), newQueue(bulk), true)
		server := newStream(b, bufio.NewReader(b), newQueue(bulk), false)
		for _, s := range []*stream{client, server} {
			go s.write()
			go s.read(func([]byte) { t.Error("a packet") })
		}
		time.Sleep(time.Hour)
		if client.over() || server.over() {
			t.Fatal("ended although both are there")
		}
		server.end()
		c, d := net.Pipe()
		alone := newStream(c, bufio.NewReader(c), newQueue(bulk), true)
		go func() { _, _ = io.Copy(io.Discard, d) }()
		go alone.write()
		go alone.read(func([]byte) {})
		time.Sleep(silentAfter + time.Second)
		if !alone.over() {
			t.Error("a server that says nothing is believed in")
		}
		_ = d.Close()
		client.end()
		synctest.Wait()
	})
}

func TestProbe(t *testing.T) {
	id, other := newID(), newID()
	p, want := id.newProbe()
	k, ok := keyOf(p)
	if !ok || k != id.probeKey() || k == other.probeKey() || len(want) > len(p) || !isAnswer(want) || kindOf(p) <= transport && kindOf(p) > 0 {
		t.Errorf("probe %x, answer %x", p, want)
	}
	if !bytes.Equal(id.answer(p), want) || bytes.Equal(other.answer(p), want) || bytes.Contains(p, id[:]) {
		t.Error("the answer is not that of the session")
	}
}

// A server answers probes of proven sessions, one at a time, and nobody else's.
func TestServerAnswersProbes(t *testing.T) {
	s := NewServer(Limits{}, nil)
	source, _ := sourceOf("192.0.2.1:5")
	id := newID()
	x, err := s.admit(id, source)
	if err != nil {
		t.Fatal(err)
	}
	defer x.timer.Stop()
	p, want := id.newProbe()
	k, _ := keyOf(p)
	if s.answer(k, p) != nil {
		t.Error("an unproven session is answered")
	}
	x.prove()
	if !bytes.Equal(s.answer(k, p), want) || s.answer(k, p) != nil || s.answer(newID().probeKey(), p) != nil {
		t.Error("answers are wrong")
	}
}

func TestPerSource(t *testing.T) {
	s := NewServer(Limits{PerSource: 2}, nil)
	for i, x := range []struct {
		from string
		ok   bool
	}{
		{"192.0.2.1:1", true},
		{"192.0.2.1:2", true},
		{"192.0.2.1:3", false},
		{"[::ffff:192.0.2.1]:3", false},
		{"192.0.2.2:1", true},
		{"[2001:db8::1]:1", true},
		{"[2001:db8::2]:1", true},
		{"[2001:db8::3]:1", false},
		{"[2001:db8:0:1::3]:1", true},
	} {
		source, _ := sourceOf(x.from)
		y, err := s.admit(newID(), source)
		if (err == nil) != x.ok {
			t.Errorf("%d, from %s: %v", i, x.from, err)
		}
		if y != nil {
			defer y.timer.Stop()
		}
	}
}

// FuzzReadFrame feeds the parser, which both ends use, with anything.
func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, packet(initiation, 148)), packet(transport, 32)))
	f.Add([]byte{0, 0, 0xff, 0xff})
	f.Add([]byte{0, 32})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, p, again := bufio.NewReader(bytes.NewReader(b)), make([]byte, MaxPacket), []byte{}
		for {
			n, err := readFrame(r, p)
			if err != nil {
				break
			}
			if n != 0 && (n < minPacket || n > MaxPacket || kindOf(p[:n]) == 0 || kindOf(p[:n]) > transport) {
				t.Fatalf("%d octets of kind %d", n, kindOf(p[:n]))
			}
			again = appendFrame(again, p[:n])
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x was read from %x", again, b)
		}
	})
}
