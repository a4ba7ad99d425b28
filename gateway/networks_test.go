package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// condition returns the message of a Condition, or nothing.
func (b *box) condition(code string, sev health.Severity) string {
	for _, c := range b.health.List() {
		if c.Code == code && c.Severity == sev {
			return c.Message
		}
	}
	return ""
}

func TestNetworkInThePlanIsACondition(t *testing.T) {
	for name, c := range map[string]struct {
		facts wire.Facts
		says  []string // none: no Condition
	}{
		"no networks":         {},
		"elsewhere":           {facts: wire.Facts{LANs: prefixes("192.168.1.0/24", "fd00:9::/64"), WANs: prefixes("100.64.0.0/24")}},
		"right beside":        {facts: wire.Facts{LANs: prefixes("10.200.0.0/16", "10.202.0.0/24")}},
		"a LAN in a pool":     {wire.Facts{LANs: prefixes("192.168.1.0/24", "10.201.5.0/24")}, []string{"the LAN 10.201.5.0/24", "10.201.0.0/16"}},
		"a LAN around it":     {wire.Facts{LANs: prefixes("10.0.0.0/8")}, []string{"the LAN 10.0.0.0/8", "10.201.0.0/16"}},
		"a WAN":               {wire.Facts{WANs: prefixes("10.201.9.0/30")}, []string{"10.201.9.0/30 between this box and the internet", "the coordinator"}},
		"containers":          {wire.Facts{Containers: prefixes("10.201.128.0/17")}, []string{"10.201.128.0/17 of containers"}},
		"the narrower of two": {wire.Facts{LANs: prefixes("fd01:1::/64")}, []string{"fd01:1::/64", "fd01::/16"}},
		"several": {
			wire.Facts{LANs: prefixes("10.201.1.0/24", "10.201.2.0/24", "10.201.3.0/24", "10.201.4.0/24", "10.201.5.0/24"), WANs: prefixes("10.201.6.0/24")},
			[]string{"10.201.1.0/24", "10.201.4.0/24", "and 2 more"},
		},
	} {
		b := newBox(t)
		b.plan.Overlay = prefixes("10.201.0.0/16", "10.201.0.0/20", "fd01::/16", "fd01:1::/48")
		b.opt.Look = func() wire.Facts { return c.facts }
		b.look()
		got := b.condition(codeLANInPool, health.Error)
		if (got == "") != (c.says == nil) {
			t.Errorf("%s: %q", name, got)
		}
		for _, s := range c.says {
			if !strings.Contains(got, s) {
				t.Errorf("%s: %q does not say %q", name, got, s)
			}
		}
		if got != "" && !strings.Contains(got, "towpath plan check") {
			t.Errorf("%s: %q does not say what to do", name, got)
		}
		c.facts.PairKeys = true // which every box tells
		if r, _ := b.report(); fmt.Sprint(r.Facts) != fmt.Sprint(c.facts) {
			t.Errorf("%s: the report tells %v", name, r.Facts)
		}
	}
}

// A plan that grows over the LAN is found when the map comes, not at the next look.
func TestPlanThatGrowsOverTheLAN(t *testing.T) {
	b := newBox(t)
	b.facts = wire.Facts{LANs: prefixes("192.168.1.0/24")}
	if !b.apply(t.Context()) || b.condition(codeLANInPool, health.Error) != "" {
		t.Fatalf("conditions: %v", b.health.List())
	}
	b.plan.Overlay = append(b.plan.Overlay, prefixes("192.168.0.0/16")...)
	if !b.apply(t.Context()) || b.condition(codeLANInPool, health.Error) == "" {
		t.Errorf("conditions: %v", b.health.List())
	}
	if _, err := b.lan.DialContext(t.Context(), "tcp", "192.168.1.20:104"); err == nil || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("dialing what may be the plan's: %v", err)
	}
}

// The LAN of a running box is renumbered into the plan and out again. Each is a Condition, or its end, within a minute, and worth a report.
func TestLANIsLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		var facts atomic.Pointer[wire.Facts]
		set := func(lan string) { facts.Store(&wire.Facts{LANs: prefixes(lan)}) }
		set("192.168.1.0/24")
		b.opt.Look = func() wire.Facts { return *facts.Load() }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.loop(ctx) }()
		synctest.Wait()
		news := func() string {
			r, _ := b.report()
			return news(r)
		}
		told := news()
		if got := b.condition(codeLANInPool, health.Error); got != "" {
			t.Errorf("at start: %s", got)
		}
		for _, c := range []struct {
			lan string
			bad bool
		}{{"10.201.7.0/24", true}, {"10.201.8.0/24", true}, {"192.168.1.0/24", false}, {"192.168.2.0/24", false}} {
			set(c.lan)
			time.Sleep(lookEvery + time.Second)
			synctest.Wait()
			if got := b.condition(codeLANInPool, health.Error); (got != "") != c.bad || c.bad && !strings.Contains(got, c.lan) {
				t.Errorf("LAN %s: %q", c.lan, got)
			}
			if now := news(); now == told {
				t.Errorf("LAN %s: no news", c.lan)
			} else {
				told = now
			}
		}
		time.Sleep(5 * lookEvery)
		synctest.Wait()
		if news() != told {
			t.Error("news although nothing changed")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
