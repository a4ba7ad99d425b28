package gateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/health"
)

func TestExpiryWarnings(t *testing.T) {
	b := newBox(t)
	end := time.Date(2027, 2, 20, 12, 0, 0, 0, time.UTC)
	b.m.Expires = end
	for _, c := range []struct {
		before time.Duration
		sev    health.Severity
		says   string
	}{
		{90 * day, "", ""},
		{30*day + 1, "", ""},
		{30 * day, health.Info, "within 30 days"},
		{14*day + 1, health.Info, "within 30 days"},
		{14 * day, health.Warning, "within 14 days"},
		{7 * day, health.Warning, "within 7 days"},
		{day, health.Error, "within a day"},
		{1, health.Error, "within a day"},
		{0, health.Error, "expired"},
		{-400 * day, health.Error, "expired (2027-02-20)"},
		{90 * day, "", ""}, // renewed
	} {
		b.observeExpiry(b.m, end.Add(-c.before))
		list := b.health.List()
		if c.sev == "" {
			if len(list) > 0 {
				t.Errorf("%s before: %v", c.before, list)
			}
			continue
		}
		if len(list) != 1 || list[0].Code != codeExpiry || list[0].Severity != c.sev || !strings.Contains(list[0].Message, c.says) ||
			!strings.Contains(list[0].Message, "goes on working") {
			t.Errorf("%s before: %v, want %s with %q", c.before, list, c.sev, c.says)
		}
	}
}

// A box is switched on again after a long time, and nobody is there but its own disk.
func TestColdBootFromAnOldMap(t *testing.T) {
	for _, c := range []struct {
		off  time.Duration
		want health.Severity // of the Condition; none if empty
	}{{40 * day, ""}, {200 * day, health.Error}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			m := b.m
			m.Generation, m.Uses, m.Peers = 6, clinicUses(), clinicPeers()
			s := b.signed(t, m, b.key)
			if err := b.opt.Dir.SaveNetMap(s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.off)
			g, err := New(b.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer g.runner.Stop()
			if !g.apply(t.Context()) {
				t.Fatalf("after %s: %s", c.off, g.problem)
			}
			g.checkClock()
			g.observe(t.Context())
			if len(b.dev.config.Peers) != 2 || len(g.services()) != 1 {
				t.Errorf("after %s: %d peers, %v", c.off, len(b.dev.config.Peers), g.services())
			}
			var got health.Severity
			for _, x := range g.health.List() {
				if x.Code == codeExpiry {
					got = x.Severity
				} else if !strings.HasPrefix(x.Code, codePeer) {
					t.Errorf("after %s: %v", c.off, x)
				}
			}
			if got != c.want {
				t.Errorf("after %s the expiry is %q, want %q", c.off, got, c.want)
			}
		})
	}
}
