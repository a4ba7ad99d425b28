package gateway

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
)

// pairMap is the box's map with a center that has two gateways.
func (b *box) pairMap() wire.NetMap {
	m := b.m
	one := func(a string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(a)} }
	moves := one("10.201.9.1/32")
	m.Peers = []wire.Peer{
		{Node: "node_x", Site: "lab", PublicKey: [32]byte{7}, AllowedIPs: append(one("10.201.2.1/32"), moves...)},
		{Node: "node_y", Site: "lab", PublicKey: [32]byte{8}, AllowedIPs: one("10.201.2.2/32")},
	}
	m.Shared = []wire.Shared{{Site: "lab", Gateways: []string{"node_x", "node_y"}, Prefixes: moves}}
	return m
}

// led is the peer that the center's address leads to.
func (b *box) led() byte {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	for _, p := range b.dev.config.Peers {
		if slices.Contains(p.AllowedIPs, netip.MustParsePrefix("10.201.9.1/32")) {
			return p.PublicKey[0]
		}
	}
	return 0
}

// A choice from before a restart is made true with the first map, and one that the tunnel does not take is none.
func TestChoiceOfGatewayIsMadeTrue(t *testing.T) {
	b := newBox(t)
	if err := b.move(t.Context()); err == nil {
		t.Error("something was moved before there was a map")
	}
	b.plan = b.pairMap()
	if !b.apply(t.Context()) || b.led() != 7 {
		t.Fatalf("at first the center is reached through %d", b.led())
	}
	if err := b.opt.Dir.SaveStandby(map[string]string{"lab": "node_y"}); err != nil {
		t.Fatal(err)
	}
	b.openStandby(standby.Options{})
	if err := b.move(t.Context()); err != nil || b.led() != 8 {
		t.Fatalf("then through %d, %v", b.led(), err)
	}
	if !b.apply(t.Context()) || b.led() != 8 {
		t.Errorf("the next map leads it to %d", b.led())
	}
	b.dev.fail = errors.New("busy")
	if err := b.move(t.Context()); !errors.Is(err, b.dev.fail) {
		t.Errorf("a device that takes nothing: %v", err)
	}
	b.dev.fail = nil
	b.stopRunner()
	if err := b.move(t.Context()); err == nil {
		t.Error("something was moved after the end")
	}
}

func TestChoiceIsSaved(t *testing.T) {
	b := newBox(t)
	want := map[string]string{"lab": "node_y"}
	if err := b.chosen(want); err != nil {
		t.Fatal(err)
	}
	if got, err := b.opt.Dir.Standby(); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// Conditions name the center, what is used and why, and end with their reasons.
func TestConditionsOfFailover(t *testing.T) {
	now := time.Now()
	x := standby.GatewayState{Node: "node_x", Healthy: true, Since: now.Add(-time.Hour), Probed: now}
	y := x
	y.Node = "node_y"
	dead := func(g standby.GatewayState) standby.GatewayState {
		g.Healthy, g.Failures, g.Problem = false, 5, "the gateway does not answer"
		return g
	}
	fresh := dead(y)
	fresh.Since = now
	for name, c := range map[string]struct {
		active   string
		gateways []standby.GatewayState
		code     string
		severity health.Severity
		says     string
	}{
		"all is well":            {"node_x", []standby.GatewayState{x, y}, "", "", ""},
		"the second is used":     {"node_y", []standby.GatewayState{dead(x), y}, "failover/lab", health.Warning, "node_y instead of node_x: the gateway does not answer"},
		"the first is back":      {"node_y", []standby.GatewayState{x, y}, "failover/lab", health.Warning, "used again when it has been for 60 s"},
		"none":                   {"node_x", []standby.GatewayState{dead(x), dead(y)}, "failover/lab", health.Error, "no gateway of lab is in order"},
		"the second is lost":     {"node_x", []standby.GatewayState{x, dead(y)}, "standby/lab", health.Info, "node_y of lab could not stand in"},
		"the second just failed": {"node_x", []standby.GatewayState{x, fresh}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.tellFailover([]standby.State{{Site: "lab", Active: c.active, Preferred: "node_x", Gateways: c.gateways}}, now)
			found := b.health.List()
			if c.code == "" && len(found) == 0 {
				return
			}
			i := slices.IndexFunc(found, func(h health.Condition) bool { return h.Code == c.code })
			if i < 0 || found[i].Severity != c.severity || !strings.Contains(found[i].Message, c.says) {
				t.Fatalf("conditions %+v", found)
			}
			if b.tellFailover(nil, now); len(b.health.List()) != 0 {
				t.Errorf("without the center %+v", b.health.List())
			}
		})
	}
}
