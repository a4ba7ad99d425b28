package wanbench

import (
	"cmp"
	"crypto/sha256"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// lineCase is a line between a clinic and the center.
type lineCase struct {
	name     string
	up, down wan.Link
}

func lines() []lineCase {
	line := func(name string, up, down int64, rtt time.Duration, loss float64) lineCase {
		return lineCase{
			name, wan.Link{Rate: up, Delay: rtt / 2, Loss: loss, Seed: 1}, wan.Link{Rate: down, Delay: rtt / 2, Loss: loss, Seed: 2},
		}
	}
	return []lineCase{
		line("50-10Mbit-40ms", 10e6, 50e6, 40*time.Millisecond, 0),
		line("10Mbit-60ms", 10e6, 10e6, 60*time.Millisecond, 0),
		line("10Mbit-100ms-0.5%", 10e6, 10e6, 100*time.Millisecond, 0.005),
		line("10Mbit-150ms-0.5%", 10e6, 10e6, 150*time.Millisecond, 0.005),
		line("40Mbit-40ms", 40e6, 40e6, 40*time.Millisecond, 0),
		line("40Mbit-150ms", 40e6, 40e6, 150*time.Millisecond, 0),
	}
}

// tunnelShare is the part of a line that is left for payload at the tunnel's MTU of 1280: TCP with time stamps in IPv4, in WireGuard's 32 bytes,
// in UDP and IPv4.
const tunnelShare = float64(1280-20-32) / (1280 + 32 + 28)

// measure runs until all items are with the center and reports what part of the line their payload was.
func measure(b *testing.B, c lineCase, withCodec bool, payloads [][]byte) {
	b.Helper()
	for b.Loop() {
		p := newPair(b, newEnds(b, c.up, c.down), withCodec)
		total := 0
		for _, payload := range payloads {
			p.put(payload, 0)
			total += len(payload)
		}
		before := time.Now()
		p.start()
		p.connected()
		ready := time.Now()
		steady := p.await(uint64(len(payloads)))
		took := time.Since(before).Seconds()
		effective := float64(total) * 8 / took
		b.ReportMetric(effective/1e6, "Mbit/s")
		b.ReportMetric(effective/float64(c.up.Rate), "of-line")
		b.ReportMetric(effective/float64(c.up.Rate)/tunnelShare, "of-tunnel")
		b.ReportMetric(float64(total)*8/time.Since(ready).Seconds()/float64(c.up.Rate)/tunnelShare, "ready-of-tunnel")
		b.ReportMetric(steady*8/float64(c.up.Rate)/tunnelShare, "steady-of-tunnel")
		up := p.ends.up.Stats()
		b.ReportMetric(float64(up.DeliveredBytes)*8/took/float64(c.up.Rate), "busy")
		b.ReportMetric(float64(up.QueueDrops), "drops")
		b.ReportMetric(0, "ns/op")
		b.Logf("%s: %d items, %.1f MB in %.2f s; %s; longest queue %d ms", c.name, len(payloads), float64(total)/1e6, took,
			describe(p.sender.Progress()), up.MaxQueue*8*1000/int(c.up.Rate))
	}
}

// seconds is how long BenchmarkRaw fills the line for: 10, or TOWPATH_WAN_SECONDS, at most 120.
func seconds(b *testing.B) int64 {
	b.Helper()
	text := cmp.Or(os.Getenv("TOWPATH_WAN_SECONDS"), "10")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > 120 {
		b.Fatalf("TOWPATH_WAN_SECONDS is %q; 1 to 120 are possible", text)
	}
	return n
}

// BenchmarkRaw moves what cannot be compressed, without the codec.
func BenchmarkRaw(b *testing.B) {
	for _, c := range lines() {
		b.Run(c.name, func(b *testing.B) {
			var payloads [][]byte
			for sent := int64(0); sent < c.up.Rate/8*seconds(b); sent += 526_000 {
				payloads = append(payloads, noise(len(payloads), 526_000))
			}
			measure(b, c, false, payloads)
		})
	}
}

// BenchmarkSmall moves 3,000 objects of 10 KB.
func BenchmarkSmall(b *testing.B) {
	for _, c := range lines()[:3] {
		b.Run(c.name, func(b *testing.B) {
			payloads := make([][]byte, 3000)
			for i := range payloads {
				payloads[i] = noise(i, 10_000)
			}
			measure(b, c, false, payloads)
		})
	}
}

// noise has bytes that nothing makes shorter.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	state := sha256.Sum256([]byte{byte(seed), byte(seed >> 8)})
	for i := 0; i < n; i += len(state) {
		copy(b[i:], state[:])
		state = sha256.Sum256(state[:])
	}
	return b
}
