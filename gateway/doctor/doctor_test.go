package doctor_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/doctor"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var now = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func key(t *testing.T) wgkey.PublicKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// well is a box with nothing wrong: a hub by name, a center that is called, one that is met at a relay, one that calls.
func well(t *testing.T) (*doctor.Patient, *doctor.Tunnel) {
	t.Helper()
	hub, center, met, caller := key(t), key(t), key(t), key(t)
	tun := &doctor.Tunnel{Backend: "userspace tow0", MTU: 1280, Peers: []doctor.Peer{
		{PublicKey: hub.String(), Endpoint: netip.MustParseAddrPort("203.0.113.1:51820"), LastHandshake: now.Add(-time.Minute)},
		{PublicKey: center.String(), Endpoint: netip.MustParseAddrPort("203.0.113.1:51821"), LastHandshake: now.Add(-2 * time.Minute)},
		{PublicKey: met.String(), Endpoint: netip.MustParseAddrPort("203.0.113.1:51820"), LastHandshake: now.Add(-time.Minute)},
	}}
	return &doctor.Patient{
		Map: wire.NetMap{
			Hub: wire.Hub{PublicKey: hub, Endpoints: []string{"center.example.org:51820"}, URLs: []string{"http://center.example.org:8080"}, Seal: []byte{1}},
			Peers: []wire.Peer{
				{Site: "center", PublicKey: center, Endpoints: []string{"203.0.113.1:51821"}},
				{Site: "met", PublicKey: met, Relays: []string{"203.0.113.1:51820"}, Keepalive: 25},
				{Site: "caller", PublicKey: caller},
				{Site: "desk", Kind: wire.Workstation, PublicKey: key(t), Endpoints: []string{"203.0.113.9:1"}},
			},
		},
		Route: func(netip.AddrPort) (doctor.Route, error) {
			return doctor.Route{Source: netip.MustParseAddr("192.168.1.5"), Interface: "eth0", MTU: 1500}, nil
		},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.113.1")}, nil
		},
		Ask: func(context.Context) (wire.StandingResponse, error) {
			return wire.StandingResponse{Standing: wire.StandingActive, Now: now.Add(-time.Second)}, nil
		},
		Tunnel: func(context.Context) (doctor.Tunnel, error) { return *tun, nil },
		Now:    func() time.Time { return now },
	}, tun
}

func TestExamine(t *testing.T) {
	nobody := errors.New("no answer in time")
	standing := func(s wire.Standing) func(*doctor.Patient, *doctor.Tunnel) {
		return func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Ask = func(context.Context) (wire.StandingResponse, error) {
				return wire.StandingResponse{Standing: s, Now: now}, nil
			}
		}
	}
	from := func(r doctor.Route) func(*doctor.Patient, *doctor.Tunnel) {
		return func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Route = func(netip.AddrPort) (doctor.Route, error) { return r, nil }
		}
	}
	for name, tc := range map[string]struct {
		ill func(*doctor.Patient, *doctor.Tunnel)
		// check: verdict, and a piece of the sentence. Everything else is as with a box that is well.
		check   string
		verdict doctor.Verdict
		says    string
	}{
		"UDP is dropped": {
			func(_ *doctor.Patient, d *doctor.Tunnel) { d.Peers[0].LastHandshake = time.Time{} },
			"coordinator", doctor.Failed, "drops UDP",
		},
		"UDP is dropped since": {
			func(_ *doctor.Patient, d *doctor.Tunnel) { d.Peers[0].LastHandshake = now.Add(-3 * time.Minute) },
			"coordinator", doctor.Failed, "drops UDP",
		},
		"UDP is dropped and carried": {
			func(_ *doctor.Patient, d *doctor.Tunnel) { d.Carried = "TLS on 443" },
			"coordinator", doctor.Warning, "up over TLS on 443",
		},
		"no web": {func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Proxy = "http://proxy:3128"
			p.Ask = func(context.Context) (wire.StandingResponse, error) { return wire.StandingResponse{}, nobody }
		}, "web", doctor.Warning, "directly or by http://proxy:3128: no answer"},
		"removed":     {standing(wire.StandingUnknown), "standing", doctor.Failed, "removed"},
		"quarantined": {standing(wire.StandingQuarantined), "standing", doctor.Failed, "quarantine"},
		"replaced":    {standing(wire.StandingReplaced), "standing", doctor.Failed, "taken the place"},
		"waiting":     {standing(wire.StandingWaiting), "standing", doctor.Warning, "waits"},
		"clock": {func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Ask = func(context.Context) (wire.StandingResponse, error) {
				return wire.StandingResponse{Standing: wire.StandingActive, Now: now.Add(time.Hour)}, nil
			}
		}, "clock", doctor.Failed, "-1h0m0s off"},
		"no cable": {func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Route = func(netip.AddrPort) (doctor.Route, error) {
				return doctor.Route{}, errors.New("network is unreachable")
			}
		}, "uplink", doctor.Failed, "no way out"},
		"CGNAT": {
			from(doctor.Route{Source: netip.MustParseAddr("100.70.0.1"), Interface: "lte0", MTU: 1500}),
			"translation", doctor.Note, "CGNAT",
		},
		"public": {
			from(doctor.Route{Source: netip.MustParseAddr("198.51.100.1"), Interface: "eth0", MTU: 1500}),
			"translation", doctor.Note, "public",
		},
		"small packets": {
			from(doctor.Route{Source: netip.MustParseAddr("192.168.1.5"), Interface: "vpn0", MTU: 1339}),
			"size", doctor.Failed, "1339 bytes, and the tunnel's need 1340",
		},
		"no DNS": {func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Map.Hub.Endpoints = append(p.Map.Hub.Endpoints, "203.0.113.1:51820")
			p.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, nobody }
		}, "names", doctor.Warning, "center.example.org cannot be looked up; the box goes on"},
		"a site that does not answer": {
			func(_ *doctor.Patient, d *doctor.Tunnel) { d.Peers[1].LastHandshake = now.Add(-time.Hour) },
			"site center", doctor.Failed, "for 1h0m0s",
		},
		"a tunnel that does not answer": {func(p *doctor.Patient, _ *doctor.Tunnel) {
			p.Tunnel = func(context.Context) (doctor.Tunnel, error) { return doctor.Tunnel{}, nobody }
		}, "tunnel", doctor.Failed, "cannot be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			p, tun := well(t)
			tc.ill(p, tun)
			r := doctor.Examine(t.Context(), *p)
			found := false
			for _, f := range r {
				if f.Check == tc.check {
					found = f.Verdict == tc.verdict && strings.Contains(f.Says, tc.says)
					if (f.Verdict == doctor.Warning || f.Verdict == doctor.Failed) && f.Do == "" && f.Check != "tunnel" {
						t.Errorf("%q does not say what to do", f.Says)
					}
				} else if f.Verdict == doctor.Warning || f.Verdict == doctor.Failed {
					t.Errorf("%+v is not what is wrong", f)
				}
			}
			if bad := tc.verdict == doctor.Warning || tc.verdict == doctor.Failed; !found || r.Healthy() == bad {
				t.Errorf("want %s %s %q:\n%+v", tc.check, tc.verdict, tc.says, r)
			}
		})
	}
}

// A box that is well hears so, with one line a part of the way, in its order.
func TestWell(t *testing.T) {
	p, tun := well(t)
	r := doctor.Examine(t.Context(), *p)
	checks := make([]string, 0, len(r))
	for _, f := range r {
		checks = append(checks, f.Check+"="+string(f.Verdict))
	}
	want := "uplink=ok translation=note names=ok web=ok standing=ok clock=ok backend=ok coordinator=ok site caller=note site center=ok site met=ok"
	if got := strings.Join(checks, " "); got != want || !r.Healthy() {
		t.Errorf("%s\nwant %s", got, want)
	}
	if last := r[len(r)-1]; !strings.Contains(last.Says, "relay") {
		t.Errorf("%q", last.Says)
	}
	met := &tun.Peers[2]
	for _, c := range []struct {
		direct netip.AddrPort
		want   string
	}{{netip.AddrPort{}, "no direct way was found"}, {netip.MustParseAddrPort("198.51.100.7:4711"), "past the relay, directly at 198.51.100.7:4711"}} {
		met.Steered, met.Direct = true, c.direct
		if r := doctor.Examine(t.Context(), *p); !strings.Contains(r[len(r)-1].Says, c.want) {
			t.Errorf("%q, want %q", r[len(r)-1].Says, c.want)
		}
	}
	tun.Trial = true
	for _, f := range doctor.Examine(t.Context(), *p) {
		if strings.HasPrefix(f.Check, "site ") {
			t.Errorf("a tunnel made for the question knows nothing of sites: %+v", f)
		}
	}
	// Nothing at all is known of the way when the name is not.
	p.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	r = doctor.Examine(t.Context(), *p)
	if r[0].Verdict != doctor.Failed || r[1].Verdict != doctor.Failed || !strings.Contains(r[1].Do, "DNS") {
		t.Errorf("%+v", r[:2])
	}
}

func TestPortMapping(t *testing.T) {
	at := netip.MustParseAddrPort("100.64.0.9:4711")
	for want, m := range map[string]doctor.Mapping{
		"ok the router takes packets for this box at 100.64.0.9:4711 (PCP)": {External: at, Protocol: "PCP", Public: true},
		"note the router takes packets for this box at 100.64.0.9:4711 (NAT-PMP), which is no address of the internet: another router translates, too": {
			External: at, Protocol: "NAT-PMP",
		},
		"note there is no port mapping: refused":                    {Problem: "refused"},
		"note the router has not been asked for a port mapping yet": {},
	} {
		p, tun := well(t)
		tun.Mapping = &m
		r := doctor.Examine(t.Context(), *p)
		var got string
		for _, f := range r {
			if f.Check == "port mapping" {
				got = string(f.Verdict) + " " + f.Says
			}
		}
		if got != want || !r.Healthy() {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSystemRoute(t *testing.T) {
	r, err := doctor.SystemRoute(netip.MustParseAddrPort("127.0.0.1:51820"))
	if err != nil || !r.Source.IsLoopback() || r.Interface == "" || r.MTU == 0 {
		t.Errorf("%+v %v, want the loopback interface", r, err)
	}
}
