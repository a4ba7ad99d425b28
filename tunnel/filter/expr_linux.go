package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// elementsAtOnce bounds one message: the list of elements has a length of 16 bits, and the longest takes 60 bytes.
const elementsAtOnce = 1000

// Registers of the kernel's machine: the first of 16 bytes, and what follows an address of 4 or 16 bytes there.
const (
	register       = unix.NFT_REG_1
	registerAfter4 = unix.NFT_REG32_01
	registerAfter6 = unix.NFT_REG_2
)

// load puts the replacement of our table by p into the transaction of c.
func load(c *nftables.Conn, p program) error {
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	c.AddTable(t) // so that it is there to be deleted
	c.DelTable(t)
	c.AddTable(t)
	sets := map[string]*nftables.Set{}
	for i, s := range p.sets {
		// The numbers hold inside of the transaction only.
		n := &nftables.Set{
			Table: t, Name: s.name, ID: uint32(i + 1), KeyType: s.keyType(), Interval: s.kind == addrs4 || s.kind == addrs6,
			Concatenation: s.kind == places4 || s.kind == places6,
		}
		if s.kind == names {
			n.KeyByteOrder = binaryutil.NativeEndian
		}
		sets[s.name] = n
		if err := c.AddSet(n, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
		for keys := s.keys(); len(keys) > 0; {
			now := keys[:min(len(keys), elementsAtOnce)]
			keys = keys[len(now):]
			if err := c.SetAddElements(n, now); err != nil {
				return fmt.Errorf("set %s: %w", s.name, err)
			}
		}
	}
	chains := map[string]*nftables.Chain{}
	for _, x := range p.chains {
		n := &nftables.Chain{Name: x.name, Table: t}
		if x.hook != noHook {
			policy := nftables.ChainPolicyAccept
			n.Type, n.Hooknum, n.Priority, n.Policy = nftables.ChainTypeFilter, x.hook.number(), nftables.ChainPriorityRaw, &policy
		}
		chains[x.name] = c.AddChain(n)
	}
	for _, x := range p.chains {
		for _, r := range x.rules {
			n := &nftables.Rule{Table: t, Chain: chains[x.name], Exprs: r.exprs(sets)}
			if r.comment != "" {
				n.UserData = userdata.AppendString(nil, userdata.TypeComment, r.comment)
			}
			c.AddRule(n)
		}
	}
	return nil
}

func (h hook) number() *nftables.ChainHook {
	return [...]*nftables.ChainHook{
		nil, nftables.ChainHookPrerouting, nftables.ChainHookInput, nftables.ChainHookForward, nftables.ChainHookPostrouting,
	}[h]
}

func (s set) keyType() nftables.SetDatatype {
	switch s.kind {
	case names:
		return nftables.TypeIFName
	case ports:
		return nftables.TypeInetService
	case addrs4:
		return nftables.TypeIPAddr
	case addrs6:
		return nftables.TypeIP6Addr
	case places4:
		return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	case places6:
		return nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	case icmp4:
		return nftables.TypeICMPType
	case icmp6:
		return nftables.TypeICMP6Type
	}
	return nftables.TypeInvalid
}

// keys are the elements as the kernel takes them: for a range its begin and, unless it goes on to the end of all addresses, what follows it.
func (s set) keys() (out []nftables.SetElement) {
	for _, n := range s.names {
		out = append(out, nftables.SetElement{Key: ifname(n)})
	}
	for _, p := range s.ports {
		out = append(out, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p)})
	}
	for i, x := range s.spans {
		if zero := make([]byte, len(x.first.AsSlice())); i == 0 && x.first.AsSlice()[0] != 0 {
			out = append(out, nftables.SetElement{Key: zero, IntervalEnd: true}) // nothing below
		}
		out = append(out, nftables.SetElement{Key: x.first.AsSlice()})
		if end := x.last.Next(); end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for _, a := range s.places {
		out = append(out, nftables.SetElement{Key: placeKey(a)})
	}
	for _, t := range s.types {
		out = append(out, nftables.SetElement{Key: []byte{t}})
	}
	return out
}

// placeKey is an address and a port, each filled up to 4 bytes.
func placeKey(a netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port()), 0, 0)
}

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func (r rule) exprs(sets map[string]*nftables.Set) (out []expr.Any) {
	seen := map[expr.MetaKey]bool{}
	for _, m := range r.matches {
		out = append(out, m.exprs(sets, seen)...)
	}
	switch r.verdict {
	case accept:
		return append(out, &expr.Verdict{Kind: expr.VerdictAccept})
	case back:
		return append(out, &expr.Verdict{Kind: expr.VerdictReturn})
	case drop:
		return append(out, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
	case enter:
		return append(out, &expr.Verdict{Kind: expr.VerdictGoto, Chain: r.chain})
	case call:
		return append(out, &expr.Verdict{Kind: expr.VerdictJump, Chain: r.chain})
	}
	return out
}

// exprs loads the field, after making sure that the packet has it, and compares. What a rule has made sure of already is in seen.
func (m match) exprs(sets map[string]*nftables.Set, seen map[expr.MetaKey]bool) (out []expr.Any) {
	is := func(key expr.MetaKey, value byte) {
		if !seen[key] {
			seen[key] = true
			out = append(out, &expr.Meta{Key: key, Register: register}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{value}})
		}
	}
	payload := func(base expr.PayloadBase, offset, length, to uint32) {
		out = append(out, &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: to, Base: base, Offset: offset, Len: length})
	}
	switch m.field {
	case iif:
		out = append(out, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register})
	case oif:
		out = append(out, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register})
	case mark:
		out = append(out, &expr.Meta{Key: expr.MetaKeyMARK, Register: register})
	case saddr4, daddr4:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
		payload(expr.PayloadBaseNetworkHeader, 12+4*uint32(m.field-saddr4), 4, register)
	case saddr6, daddr6:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
		payload(expr.PayloadBaseNetworkHeader, 8+16*uint32(m.field-saddr6), 16, register)
	case sport, dport:
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP)
		offset := uint32(0)
		if m.field == dport {
			offset = 2
		}
		payload(expr.PayloadBaseTransportHeader, offset, 2, register)
	case place4:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP)
		payload(expr.PayloadBaseNetworkHeader, 16, 4, register)
		payload(expr.PayloadBaseTransportHeader, 2, 2, registerAfter4)
	case place6:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP)
		payload(expr.PayloadBaseNetworkHeader, 24, 16, register)
		payload(expr.PayloadBaseTransportHeader, 2, 2, registerAfter6)
	case opening:
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP)
		payload(expr.PayloadBaseTransportHeader, 13, 1, register)
		out = append(out, &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{tcpSYN | tcpACK}, Xor: []byte{0}})
	case icmpType4:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMP)
		payload(expr.PayloadBaseTransportHeader, 0, 1, register)
	case icmpType6:
		is(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
		is(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMPV6)
		payload(expr.PayloadBaseTransportHeader, 0, 1, register)
	}
	return append(out, m.compare(sets)...)
}

// Flags of a TCP segment (RFC 9293 §3.1).
const (
	tcpSYN = 0x02
	tcpACK = 0x10
)

// compare is about what is in the register.
func (m match) compare(sets map[string]*nftables.Set) []expr.Any {
	op := expr.CmpOpEq
	if m.not {
		op = expr.CmpOpNeq
	}
	switch {
	case m.set != "":
		s := sets[m.set]
		return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID, Invert: m.not}}
	case m.name != "":
		return []expr.Any{&expr.Cmp{Op: op, Register: register, Data: ifname(m.name)}}
	case m.low != 0:
		return []expr.Any{&expr.Range{
			Op: op, Register: register, FromData: binary.BigEndian.AppendUint16(nil, m.low), ToData: []byte{0xff, 0xff},
		}}
	case m.field == opening:
		return []expr.Any{&expr.Cmp{Op: op, Register: register, Data: []byte{tcpSYN}}}
	}
	return []expr.Any{&expr.Cmp{Op: op, Register: register, Data: binary.NativeEndian.AppendUint32(nil, m.number)}}
}
