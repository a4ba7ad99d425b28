package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Render shows the table in the language of nft(8), for people to read and to compare. "nft -f" of it makes the same table, but for the
// replacement in one transaction. An invalid Ruleset is an error, the one of Validate.
func Render(r Ruleset) (string, error) {
	if err := r.Validate(); err != nil {
		return "", err
	}
	return compile(r).text(), nil
}

func (p program) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, s := range p.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.name, s.typeText())
		if s.kind == addrs4 || s.kind == addrs6 {
			b.WriteString("\t\tflags interval\n")
		}
		if e := s.elements(); len(e) > 0 {
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(e, ", "))
		}
		b.WriteString("\t}\n\n")
	}
	for i, c := range p.chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != noHook {
			fmt.Fprintf(&b, "\t\ttype filter hook %s priority raw; policy accept;\n", c.hook.text())
		}
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r.text())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (h hook) text() string {
	return [...]string{"", "prerouting", "input", "forward", "postrouting"}[h]
}

func (s set) typeText() string {
	return [...]string{
		"ifname", "inet_service", "ipv4_addr", "ipv6_addr", "ipv4_addr . inet_service", "ipv6_addr . inet_service", "icmp_type", "icmpv6_type",
	}[s.kind]
}

// icmpNames are the types that a program knows, as nft(8) says them.
func icmpNames(k setKind) map[uint8]string {
	if k == icmp4 {
		return map[uint8]string{0: "echo-reply", 3: "destination-unreachable", 8: "echo-request", 11: "time-exceeded"}
	}
	return map[uint8]string{
		1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request", 129: "echo-reply",
	}
}

func (s set) elements() (out []string) {
	for _, n := range s.names {
		out = append(out, strconv.Quote(n))
	}
	for _, p := range s.ports {
		out = append(out, strconv.Itoa(int(p)))
	}
	for _, x := range s.spans {
		out = append(out, x.String())
	}
	for _, a := range s.places {
		out = append(out, placeText(a))
	}
	for _, t := range s.types {
		out = append(out, icmpNames(s.kind)[t])
	}
	return slices.Clip(out)
}

func placeText(a netip.AddrPort) string { return fmt.Sprintf("%s . %d", a.Addr(), a.Port()) }

func (r rule) text() string {
	var words []string
	for _, m := range r.matches {
		words = append(words, m.text())
	}
	switch r.verdict {
	case accept:
		words = append(words, "accept")
	case back:
		words = append(words, "return")
	case drop:
		words = append(words, "counter drop")
	case enter:
		words = append(words, "goto "+r.chain)
	case call:
		words = append(words, "jump "+r.chain)
	}
	if r.comment != "" {
		words = append(words, "comment "+strconv.Quote(r.comment))
	}
	return strings.Join(words, " ")
}

func (m match) text() string {
	if m.field == opening {
		if m.not {
			return "tcp flags & (syn | ack) != syn"
		}
		return "tcp flags & (syn | ack) == syn"
	}
	word := [...]string{
		iif: "iifname", oif: "oifname", mark: "meta mark", saddr4: "ip saddr", daddr4: "ip daddr", saddr6: "ip6 saddr", daddr6: "ip6 daddr",
		dport: "tcp dport", sport: "tcp sport", place4: "ip daddr . tcp dport", place6: "ip6 daddr . tcp dport",
		icmpType4: "icmp type", icmpType6: "icmpv6 type",
	}[m.field]
	if m.not {
		word += " !="
	}
	switch {
	case m.set != "":
		return word + " @" + m.set
	case m.name != "":
		return word + " " + strconv.Quote(m.name)
	case m.low != 0:
		return fmt.Sprintf("%s %d-65535", word, m.low)
	}
	return fmt.Sprintf("%s 0x%08x", word, m.number)
}
