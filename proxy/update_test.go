package proxy_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/towpath/towpath/proxy"
)

func TestUpdateLeavesSessionsAloneAndCutsWhoMayNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.0.0.8/32")
		f := start(t, proxy.ServerConfig{Handler: echo, Allow: []netip.Prefix{a}})
		stays := f.dial(t, "10.0.0.7")
		if c := f.dial(t, "10.0.0.8"); !closedByPeer(c) {
			t.Fatal("a source that is not allowed got a session")
		}

		shout := proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
			_, _ = c.Write([]byte("!"))
			return proxy.Result{Outcome: proxy.OutcomeDone}
		})
		f.Update(shout, []netip.Prefix{a, b})
		synctest.Wait()
		if _, err := stays.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1)
		if _, err := stays.Read(got); err != nil || got[0] != 'x' {
			t.Errorf("the running session answered %q, %v; it must go on with the handler it began with", got, err)
		}
		newcomer := f.dial(t, "10.0.0.8")
		if _, err := newcomer.Read(got); err != nil || got[0] != '!' {
			t.Errorf("a new session answered %q, %v; it must have the new handler", got, err)
		}

		f.Update(shout, []netip.Prefix{b})
		if !closedByPeer(stays) {
			t.Error("a source that is not allowed any more keeps its session")
		}
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
