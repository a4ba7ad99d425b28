package gateway

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/mtu"
	"github.com/towpath/towpath/provisioning/wire"
)

// What was found is used and told; in an overlay with IPv6 it is only told.
func TestTheSizeFoundIsUsed(t *testing.T) {
	for overlay, want := range map[string]struct {
		mtu  int
		says string
	}{"10.201.0.0/16": {1200, "makes smaller ones, of 1200 bytes"}, "fd00:1::/48": {1280, "allow no smaller ones"}} {
		g := &Gateway{
			opt: Options{Log: slog.New(slog.DiscardHandler)}, changed: make(chan struct{}, 1), coord: control.NewHTTP((&net.Dialer{}).DialContext, "127.0.0.1:1"),
			plan: wire.NetMap{Overlay: []netip.Prefix{netip.MustParsePrefix(overlay)}},
		}
		f := mtu.New(g.firstMTU())
		use := func(size int, says string, change bool) {
			t.Helper()
			g.useMTU(f)
			list := g.health.List()
			if g.mtu() != size || (says == "") != (len(list) == 0) || len(list) > 0 && !strings.Contains(list[0].Message, says) {
				t.Errorf("%s: MTU %d, want %d; %+v", overlay, g.mtu(), size, list)
			}
			select {
			case <-g.changed:
				if !change {
					t.Error("the tunnel is configured anew for nothing")
				}
			default:
				if change {
					t.Error("the tunnel is not configured anew")
				}
			}
		}
		use(1280, "", false)
		for range mtu.Misses {
			f.Take(mtu.Lost, time.Now())
		}
		use(want.mtu, want.says, want.mtu != 1280)
		use(want.mtu, want.says, false)
		f.Moved()
		use(1280, "", want.mtu != 1280)
	}
}
