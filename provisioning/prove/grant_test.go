package prove_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// TestAGrantIsFollowedThroughTheMaps holds that the way of a grant ends where either side's map breaks it, whatever else says so, too.
func TestAGrantIsFollowedThroughTheMaps(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(center, clinic *wire.NetMap)
		want   string
	}{
		"sound":                  {func(_, _ *wire.NetMap) {}, ""},
		"former not admitted":    {func(c, _ *wire.NetMap) { c.Offers[0].From = c.Offers[0].From[:1] }, "node node0-0 does not admit it"},
		"address not admitted":   {func(c, _ *wire.NetMap) { c.Offers[0].From = c.Offers[0].From[1:] }, "node node0-0 does not admit it"},
		"no way back":            {func(c, _ *wire.NetMap) { c.Peers[0].AllowedIPs = c.Peers[0].AllowedIPs[1:] }, "node node0-0 does not hold its key with its addresses"},
		"no way back to former":  {func(c, _ *wire.NetMap) { c.Peers[0].AllowedIPs = c.Peers[0].AllowedIPs[:1] }, "node node0-0 does not hold its key with its addresses"},
		"two offers there":       {func(c, _ *wire.NetMap) { c.Offers = append(c.Offers, c.Offers[0]) }, "node node0-0 does not offer it at 10.71.0.1:11000"},
		"place not offered":      {func(c, _ *wire.NetMap) { c.Offers[0].Also = c.Offers[0].Also[1:] }, "node node0-0 does not offer it at 10.71.0.1:11000"},
		"place of nobody":        {func(_, m *wire.NetMap) { m.Peers[0].AllowedIPs = m.Peers[0].AllowedIPs[:1] }, "10.71.0.1 is not an allowed IP of exactly one peer"},
		"place of its own":       {func(_, m *wire.NetMap) { m.Self.Former = m.Uses[0].Address.Addr() }, "10.71.0.1 is not an allowed IP of exactly one peer"},
		"place in a wide prefix": {func(_, m *wire.NetMap) { m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, prefix("10.71.0.0/24")) }, "10.71.0.1 is not an allowed IP of exactly one peer"},
	} {
		s := large(t, 1)
		s.Services, s.Grants = s.Services[:1], s.Grants[:1]
		renumber(&s, 1)
		mapLAN(&s, 0, 0)
		fixAddresses(&s, 0, func(int) bool { return true })
		in := cloned(t, compiled(t, s))
		if places := in.Maps[0].Offers[0].Also; len(places) != 2 || in.Maps[1].Uses[0].Address != places[0] || len(netmap.NewIndex(s).Omissions()) > 0 {
			t.Fatalf("the offer is also at %v, the use at %v", places, in.Maps[1].Uses[0].Address)
		}
		tt.change(&in.Maps[0], &in.Maps[1])
		_, err := prove.Prove(in, stamp)
		bad, _ := errors.AsType[*prove.RefutedError](err)
		switch {
		case tt.want == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case bad == nil || !slices.ContainsFunc(bad.CounterExamples, func(c prove.CounterExample) bool {
			return c.Text == "node node1-0 of name1 cannot use offer0 of name0: "+tt.want
		}):
			t.Errorf("%s: %q is missing in\n%s", name, tt.want, strings.Join(texts(bad), "\n"))
		}
	}
}

func texts(e *prove.RefutedError) []string {
	if e == nil {
		return nil
	}
	var out []string
	for _, c := range e.CounterExamples {
		out = append(out, c.String())
	}
	return out
}
