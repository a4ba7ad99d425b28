package netstack_test

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest"
)

func TestTmpLoss(t *testing.T) {
	for _, rtt := range []time.Duration{40 * time.Millisecond} {
		for _, every := range []uint64{1 << 40, 997, 211, 61} {
			t.Run("", func(t *testing.T) {
				network := tunneltest.NewNetwork()
				network.Delay = rtt / 2
				var n atomic.Uint64
				network.Drop = func(_, _ netip.AddrPort, payload []byte) bool { return len(payload) > 148 && n.Add(1)%every == 0 }
				devices, _ := pair(t, network, 1280)
				client, server := connect(t, devices)
				client.SetDeadline(time.Now().Add(12 * time.Second))
				server.SetDeadline(time.Now().Add(12 * time.Second))
				go func() {
					_, _ = client.Write(make([]byte, 8<<20))
				}()
				t0 := time.Now()
				k, _ := io.CopyN(io.Discard, server, 8<<20)
				t.Logf("rtt %v every %d: %d bytes in %v, %.0f KB/s, losses %d", rtt, every, k, time.Since(t0).Round(time.Millisecond), float64(k)/1000/time.Since(t0).Seconds(), n.Load()/every)
				client.Close()
				server.Close()
				devices[0].Close()
				devices[1].Close()
			})
		}
	}
}
