package prove_test

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// conspiracies change several places so that they fit each other.
func conspiracies() map[string]mutant {
	const port = 12345
	both := func(facts bool) mutant {
		return func(_ *rapid.T, in *prove.Input) bool {
			a, b := clinics(in)
			a.Peers, b.Peers = append(a.Peers, toPeer(b)), append(b.Peers, toPeer(a))
			v := prove.Service{Name: "secret", Site: b.Self.Site, Protocol: wire.HL7, Mode: wire.Queued, Target: "192.168.1.1:1", Port: port}
			b.Offers = append(b.Offers, wire.Offer{
				Service: v.Name, Protocol: v.Protocol, Port: port, Target: v.Target,
				From: []wire.Source{{Site: a.Self.Site, Prefix: toPeer(a).AllowedIPs[0]}},
			})
			a.Uses = append(a.Uses, wire.Use{
				Service: v.Name, Site: v.Site, Protocol: v.Protocol, Mode: v.Mode, LANPort: 9999, Address: netip.AddrPortFrom(b.Self.Address, port),
			})
			if facts {
				in.Services = append(in.Services, v)
				in.Grants = append(in.Grants, prove.Grant{Service: v.Name, Site: a.Self.Site, LANPort: 9999})
			}
			return true
		}
	}
	leak := func(change func(a, b *wire.NetMap)) mutant {
		return func(_ *rapid.T, in *prove.Input) bool {
			a, b := clinics(in)
			change(a, b)
			return true
		}
	}
	forward := func(target func(*wire.NetMap) string) mutant {
		return func(t *rapid.T, in *prove.Input) bool {
			m := pick(t, in.Maps, func(m wire.NetMap) bool { return len(m.Offers) > 0 && target(&m) != "" })
			if m == nil {
				return false
			}
			o := pick(t, m.Offers, every)
			to := target(m)
			for i := range in.Services {
				if in.Services[i].Name == o.Service {
					in.Services[i].Target = to
				}
			}
			for i := range in.Maps {
				for j := range in.Maps[i].Offers {
					if in.Maps[i].Offers[j].Service == o.Service {
						in.Maps[i].Offers[j].Target = to
					}
				}
			}
			return true
		}
	}
	is := func(s string) func(*wire.NetMap) string { return func(*wire.NetMap) string { return s } }
	return map[string]mutant{
		"two clinics agree":                both(false),
		"two clinics agree with the facts": both(true),
		"a clinic's key leaks":             leak(func(a, b *wire.NetMap) { a.Peers = append(a.Peers, toPeer(b)) }),
		"a clinic's key for the center's": leak(func(a, b *wire.NetMap) {
			if a.Peers = slices.Clone(a.Peers); len(a.Peers) > 0 {
				a.Peers[0].PublicKey = b.Self.PublicKey
			} else {
				a.Peers = []wire.Peer{toPeer(b)}
			}
		}),
		"a clinic's key for the hub's": leak(func(a, b *wire.NetMap) { a.Hub.PublicKey = b.Self.PublicKey }),
		"a clinic behind the center": leak(func(a, b *wire.NetMap) {
			p := toPeer(b)
			if len(a.Peers) > 0 {
				a.Peers[0].AllowedIPs = append(a.Peers[0].AllowedIPs, p.AllowedIPs...)
			} else {
				a.Peers = append(a.Peers, p)
			}
		}),
		"a clinic is let in": leak(func(a, b *wire.NetMap) {
			b.Offers = append(b.Offers, wire.Offer{
				Service: "x", Protocol: wire.HL7, Port: port, Target: "t:1",
				From: []wire.Source{{Site: a.Self.Site, Prefix: toPeer(a).AllowedIPs[0]}},
			})
		}),
		"target in a pool":          forward(is("10.0.0.33:104")),
		"target in the other pool":  forward(is("10.200.7.1:104")),
		"target as mapped IPv6":     forward(is("[::ffff:10.0.0.33]:104")),
		"target is the hub":         forward(is("10.0.0.1:8080")),
		"target is everything":      forward(is("0.0.0.0:104")),
		"target is a decimal":       forward(is("167772193:104")),
		"target is hexadecimal":     forward(is("0x0a000021:104")),
		"target is short":           forward(is("10.33:104")),
		"target is no host":         forward(is("pacs")),
		"target is a use":           forward(localUse("127.0.0.1")),
		"target is a use, by name":  forward(localUse("localhost")),
		"target is a use, by IPv6":  forward(localUse("[::1]")),
		"target is a use, 127.x":    forward(localUse("127.9.9.9")),
		"target is a use, mapped":   forward(localUse("[::ffff:127.0.0.1]")),
		"target is a use, with dot": forward(localUse("LocalHost.")),
	}
}

func localUse(name string) func(*wire.NetMap) string {
	return func(m *wire.NetMap) string {
		if len(m.Uses) == 0 {
			return ""
		}
		return name + map[wire.Protocol]string{wire.DICOM: ":104", wire.HL7: ":2575"}[m.Uses[0].Protocol]
	}
}
