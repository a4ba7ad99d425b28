package netstack_test

import (
	"math/rand/v2"
	"net/netip"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

func TestTmpHunt(t *testing.T) {
	for _, c := range []struct {
		loss  float64
		delay time.Duration
		size  int
	}{{0.002, 20 * time.Millisecond, 4 << 20}, {0.01, 20 * time.Millisecond, 1 << 20}, {0.01, 0, 4 << 20}, {0.05, 5 * time.Millisecond, 1 << 20}} {
		var mu sync.Mutex
		var times, gaps []time.Duration
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				for range 3 {
					network := tunneltest.NewNetwork()
					network.Delay = c.delay
					network.Drop = func(_, _ netip.AddrPort, p []byte) bool { return len(p) > 148 && rand.Float64() < c.loss }
					devices, _ := pair(t, network, 1280)
					client, server := connect(t, devices)
					client.SetDeadline(time.Time{})
					server.SetDeadline(time.Time{})
					go client.Write(make([]byte, c.size))
					t0, last, gap := time.Now(), time.Now(), time.Duration(0)
					b := make([]byte, 64<<10)
					for n := 0; n < c.size; {
						server.SetReadDeadline(time.Now().Add(20 * time.Second))
						k, err := server.Read(b)
						if err != nil {
							t.Errorf("STALL %+v at %d: %v\n%s\n%s", c, n, err, netstack.Dump(client), netstack.Dump(server))
							break
						}
						n += k
						gap = max(gap, time.Since(last))
						last = time.Now()
					}
					mu.Lock()
					times, gaps = append(times, time.Since(t0)), append(gaps, gap)
					mu.Unlock()
					client.Close()
					server.Close()
					devices[0].Close()
					devices[1].Close()
				}
			})
		}
		wg.Wait()
		sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
		sort.Slice(gaps, func(i, j int) bool { return gaps[i] < gaps[j] })
		t.Logf("%+v: median %v max %v; gap median %v max %v", c, times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond), gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond))
	}
}
