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
	for _, every := range []uint64{1 << 40, 997, 211, 61} {
		for range 2 {
			network := tunneltest.NewNetwork()
			var n atomic.Uint64
			network.Drop = func(_, _ netip.AddrPort, payload []byte) bool { return len(payload) > 148 && n.Add(1)%every == 0 }
			devices, _ := pair(t, network, 1280)
			client, server := connect(t, devices)
			go func() {
				_, _ = client.Write(make([]byte, 4<<20))
			}()
			t0 := time.Now()
			k, _ := io.CopyN(io.Discard, server, 4<<20)
			t.Logf("every %d: %d bytes in %v, %.0f KB/s, losses %d", every, k, time.Since(t0).Round(time.Millisecond), float64(k)/1000/time.Since(t0).Seconds(), n.Load()/every)
		}
	}
}
