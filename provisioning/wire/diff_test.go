package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/wire"
)

func prefixes(t *rapid.T, label string) []netip.Prefix {
	switch n := rapid.IntRange(-1, 2).Draw(t, label); n {
	case -1:
		return nil
	default:
		out := make([]netip.Prefix, n)
		for i := range out {
			out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, label)), byte(i)}), 32)
		}
		return out
	}
}

func peers(t *rapid.T, i int) wire.Peer {
	p := wire.Peer{Node: fmt.Sprintf("n%02d", i), Site: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "site"), AllowedIPs: prefixes(t, "ips")}
	if rapid.Bool().Draw(t, "calls") {
		p.Endpoints, p.Keepalive = []string{"192.0.2.1:1"}, 25
	} else if rapid.Bool().Draw(t, "relayed") {
		p.Relays = []string{"192.0.2.9:1"}
	}
	p.PublicKey[0] = byte(rapid.IntRange(0, 2).Draw(t, "key"))
	return p
}

func offers(t *rapid.T, i int) wire.Offer {
	o := wire.Offer{Service: fmt.Sprintf("v%02d", i), Port: uint16(rapid.IntRange(1, 2).Draw(t, "port")), Target: "192.168.0.1:104"}
	if n := rapid.IntRange(-1, 4).Draw(t, "users"); n >= 0 {
		o.From = make([]wire.Source, n)
		for k := range o.From {
			at := rapid.IntRange(0, 5).Draw(t, "user")
			o.From[k] = wire.Source{Site: fmt.Sprint("s", at), Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(at)}), 32)}
		}
	}
	return o
}

func uses(t *rapid.T, i int) wire.Use {
	return wire.Use{
		Service: fmt.Sprintf("u%02d", i), Site: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "owner"), Mode: wire.Queued,
		LANPort: uint16(rapid.IntRange(1, 2).Draw(t, "lan port")), Address: netip.MustParseAddrPort("10.1.1.1:104"),
	}
}

// list draws entries: mostly in order and each once, as a sound map has them, and sometimes not.
func list[T any](t *rapid.T, label string, entry func(*rapid.T, int) T) []T {
	ids := rapid.SliceOfN(rapid.IntRange(0, 9), 0, 10).Draw(t, label)
	if rapid.IntRange(0, 3).Draw(t, label+" odd") > 0 {
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	if len(ids) == 0 && rapid.Bool().Draw(t, label+" nil") {
		return nil
	}
	out := make([]T, len(ids))
	for i, id := range ids {
		out[i] = entry(t, id)
	}
	return out
}

func netMap(t *rapid.T, label string) wire.NetMap {
	at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, label+" issued"), rapid.Int64Range(0, 999999999).Draw(t, label+" ns")).UTC()
	return wire.NetMap{
		Format: wire.Format, Network: "net", Generation: rapid.Uint64().Draw(t, label+" generation"), Issued: at, Expires: at.Add(time.Hour),
		Self:    wire.Self{Node: "n", Site: rapid.SampledFrom([]string{"a", `x"generation":"self":<`}).Draw(t, label+" self"), Address: netip.MustParseAddr("10.0.0.9")},
		Hub:     wire.Hub{Endpoints: rapid.SampledFrom([][]string{nil, {}, {"a:1"}}).Draw(t, label+" hub"), Seal: rapid.SampledFrom([][]byte{nil, {1}, {2}}).Draw(t, label+" seal")},
		Overlay: prefixes(t, label+" overlay"), Peers: list(t, label+" peers", peers), Offers: list(t, label+" offers", offers),
		Uses:   list(t, label+" uses", uses),
		LANTLS: rapid.SampledFrom([]*wire.LANTLS{nil, {}, {DICOMPort: 2762, Cleartext: []wire.CleartextRule{{Service: "pacs", Until: at}}}}).Draw(t, label+" lan"),
		Relays: rapid.SampledFrom([][]wire.RelayServer{nil, {{Node: "r", Endpoints: []string{"r:1"}}}, {{Node: "r", Endpoints: []string{"r:2"}}}}).Draw(t, label+" relays"),
		Shared: rapid.SampledFrom([][]wire.Shared{nil, {{Site: "c", Gateways: []string{"a", "b"}}}, {{Site: "c", Gateways: []string{"b", "a"}}}}).Draw(t, label+" shared"),
		Relay:  rapid.SampledFrom([]*wire.RelayTable{nil, {}, {Members: []wire.RelayMember{{}, {Unmanaged: true}}, Pairs: [][2]int{{0, 1}}}}).Draw(t, label+" relay"),
	}
}

// edited is m after what an operator may do in one step.
func edited(t *rapid.T, m wire.NetMap) wire.NetMap {
	m = travel(t, m)
	m.Generation++
	if n := len(m.Peers); n > 0 && rapid.Bool().Draw(t, "a peer goes") {
		i := rapid.IntRange(0, n-1).Draw(t, "which peer")
		m.Peers = slices.Delete(m.Peers, i, i+1)
	}
	for i := range m.Offers {
		switch rapid.IntRange(0, 3).Draw(t, "edit an offer") {
		case 0:
			m.Offers[i].Port++
		case 1:
			m.Offers[i].From = append(m.Offers[i].From, wire.Source{Site: "new", Prefix: netip.MustParsePrefix("10.9.9.9/32")})
		case 2:
			m.Offers[i].From = m.Offers[i].From[min(1, len(m.Offers[i].From)):]
		}
	}
	return m
}

func encode(t rapid.TB, m wire.NetMap) wire.Encoded {
	t.Helper()
	e, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// travel is v after a way through JSON.
func travel[T any](t rapid.TB, v T) (out T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestApplyOfDiffIsTheNewMapToTheByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, to := netMap(t, "old"), netMap(t, "new")
		if rapid.Bool().Draw(t, "related") {
			to = edited(t, old)
		}
		// What a Node has came through JSON; what the coordinator has did not.
		before := encode(t, travel(t, old)).Payload
		have := travel(t, old)
		got, err := wire.Apply(have, travel(t, wire.MakeDiff(old, to)))
		if err != nil {
			t.Fatal(err)
		}
		if g, w := encode(t, got), encode(t, to); !bytes.Equal(g.Payload, w.Payload) || g.Hash != w.Hash {
			t.Fatalf("got  %s\nwant %s", g.Payload, w.Payload)
		}
		if !bytes.Equal(encode(t, have).Payload, before) {
			t.Fatal("the old map was changed")
		}
	})
}

func TestContentHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := netMap(t, "a"), netMap(t, "b")
		same := a
		same.Generation, same.Issued, same.Expires = b.Generation, b.Issued, b.Expires
		if encode(t, a).Hash != encode(t, same).Hash {
			t.Fatal("time and generation change the content")
		}
		a.Generation, a.Issued, a.Expires = b.Generation, b.Issued, b.Expires
		ea, eb := encode(t, a), encode(t, b)
		if bytes.Equal(ea.Payload, eb.Payload) != (ea.Hash == eb.Hash) {
			t.Fatal("the content differs and the hash does not, or the other way around")
		}
	})
}

// A field that this test does not know of would have to be carried by Diff. There are a handful of relays, which travel with Head.
func TestDiffCarriesAllFieldsOfANetMap(t *testing.T) {
	lists := 0
	for f := range reflect.TypeFor[wire.NetMap]().Fields() {
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && f.Name != "Overlay" && f.Name != "Devices" && f.Name != "Relays" && f.Name != "Shared" { // all are short
			lists++
		}
	}
	if lists != 3 {
		t.Errorf("a NetMap has %d lists of objects, and Diff knows 3: the others travel whole with Head", lists)
	}
}

// center is the map of a center that many clinics use.
func center(clinics, services int) wire.NetMap {
	m := wire.NetMap{
		Format: wire.Format, Network: "abcdefghijklmnop", Generation: 123456, Issued: time.Unix(1<<31, 123456789).UTC(), Expires: time.Unix(1<<31, 123456789).UTC(),
		Self: wire.Self{Node: "node_abcdefghijklmnop", Site: "evaluation-center", SiteKind: wire.Center, Address: netip.MustParseAddr("fd00:1234:5678::1")},
	}
	for i := range services {
		m.Offers = append(m.Offers, wire.Offer{Service: fmt.Sprintf("service-with-a-name-%02d", i), Protocol: wire.DICOM, AETitle: "EVALUATION", Port: 11112, Target: "192.168.100.100:11112"})
	}
	for i := range clinics {
		site := fmt.Sprintf("cardiology-practice-in-some-town-%05d", i)
		addr := netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x12, 3: 0x34, 4: 0x56, 5: 0x78, 10: byte(i >> 8), 11: byte(i), 12: 0xab, 13: 0xcd, 14: 0xef, 15: 1})
		m.Peers = append(m.Peers, wire.Peer{
			Node: fmt.Sprintf("node_abcdefghijkl%05d", i), Site: site, Endpoints: []string{"practice.example.net:51820"},
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(addr, 128)}, PublicKey: [32]byte{byte(i), byte(i >> 8), 0xff},
		})
		for k := range m.Offers {
			m.Offers[k].From = append(m.Offers[k].From, wire.Source{Site: site, Prefix: netip.PrefixFrom(addr, 128)})
		}
	}
	return m
}

func TestMapOfALargeCenterFits(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := encode(t, center(20_000, 4)).Sign(key)
	f, err := json.Marshal(wire.Frame{NetMap: &s})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("20,000 clinics and 4 services: %.1f MiB", float64(len(f))/(1<<20))
	if len(f) > wire.MaxFrame*3/4 {
		t.Errorf("the frame has %d bytes: a quarter of MaxFrame, %d, should stay free for longer names", len(f), wire.MaxFrame)
	}
}

func TestChangeOfOneClinicIsSmall(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := center(2_000, 2)
	to := travel(t, old)
	to.Network, old.Network = wire.NetworkID(pub), wire.NetworkID(pub)
	to.Generation++
	to.Peers = slices.Delete(to.Peers, 1000, 1001)
	for i := range to.Offers {
		to.Offers[i].From = slices.Delete(to.Offers[i].From, 1000, 1001)
	}
	to.Offers[0].Target = "192.168.100.101:11112"
	base, next := encode(t, old), encode(t, to)
	s := next.Sign(key)
	c, err := s.Since(base.Hash, old, to)
	if err != nil {
		t.Fatal(err)
	}
	if c = travel(t, c); len(c.Diff) > 2000 {
		t.Errorf("a clinic less and another target take %d bytes", len(c.Diff))
	}
	m, stored, err := c.Open(pub, old, base.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored.Payload, s.Payload) || len(m.Peers) != 1999 {
		t.Error("the map is not what was signed")
	}
}

func TestChangeIsRefused(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := center(3, 1)
	old.Network = wire.NetworkID(pub)
	to := travel(t, old)
	to.Generation++
	to.Peers = to.Peers[1:]
	other := travel(t, to)
	other.Peers = other.Peers[1:]
	foreign := travel(t, to)
	foreign.Network = "another"
	newer := travel(t, to)
	newer.Format = wire.Format + 1
	base := encode(t, old)
	good, err := encode(t, to).Sign(key).Since(base.Hash, old, to)
	if err != nil {
		t.Fatal(err)
	}
	change := func(m wire.NetMap, key ed25519.PrivateKey) wire.Change {
		c, err := encode(t, m).Sign(key).Since(base.Hash, old, m)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		edit func(c *wire.Change)
		says string
	}{
		"of another map":        {func(c *wire.Change) { c.Base[0]++ }, "the change is from map"},
		"by a stranger":         {func(c *wire.Change) { *c = change(to, stranger) }, "signature"},
		"with another result":   {func(c *wire.Change) { c.Diff = change(other, key).Diff }, "signature"},
		"of another network":    {func(c *wire.Change) { *c = change(foreign, key) }, "network another"},
		"of newer software":     {func(c *wire.Change) { *c = change(newer, key) }, "update the software"},
		"with a cut signature":  {func(c *wire.Change) { c.Signature = c.Signature[1:] }, "signature"},
		"that is none":          {func(c *wire.Change) { c.Diff = []byte(`[]`) }, "decode"},
		"with a place too far":  {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"peers":{"drop":[3]}}`) }, "peers"},
		"with places backwards": {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"peers":{"drop":[1,0]}}`) }, "peers"},
		"with a place twice":    {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"uses":{"put":[{"at":0},{"at":0}]}}`) }, "uses"},
		"with a gap":            {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"uses":{"put":[{"at":1}]}}`) }, "uses"},
		"below the first":       {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"uses":{"put":[{"at":-1}]}}`) }, "uses"},
		"of too many":           {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"offers":{"drop":[0,0,0]}}`) }, "offers"},
		"of no offer":           {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"sources":[{"at":0,"was":7}]}`) }, "offers"},
		"into no offer":         {func(c *wire.Change) { c.Diff = []byte(`{"head":{},"sources":[{"at":9,"was":0}]}`) }, "offers"},
		"of one offer twice": {func(c *wire.Change) {
			c.Diff = []byte(`{"head":{},"offers":{"put":[{"at":1,"item":{}}]},"sources":[{"at":0,"was":0},{"at":1,"was":0}]}`)
		}, "offers"},
	} {
		c := travel(t, good)
		tc.edit(&c)
		if _, _, err := c.Open(pub, old, base.Hash); !errors.Is(err, wire.ErrMisfit) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("a change %s: %v, want a misfit that says %q", name, err, tc.says)
		}
	}
	if _, _, err := good.Open(pub, old, base.Hash); err != nil {
		t.Errorf("the sound change: %v", err)
	}
}

// FuzzChange looks for a Diff that crashes Apply, grows beyond what was sent, changes the old map, or gets by the signature.
func FuzzChange(f *testing.F) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	old := center(5, 2)
	to := center(6, 3)
	to.Peers = to.Peers[2:]
	good, err := json.Marshal(wire.MakeDiff(old, to))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"head":{"peers":[{}],"overlay":null},"peers":{"drop":[0,1],"put":[{"at":0,"item":{"node":"x"}}]},"sources":[{"at":0,"was":1,"from":{"drop":[0]}}]}`))
	before := encode(f, old)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := wire.Change{Base: before.Hash, Diff: b, Signature: make([]byte, ed25519.SignatureSize)}
		if _, _, err := c.Open(pub, old, before.Hash); !errors.Is(err, wire.ErrMisfit) {
			t.Fatalf("nobody signed this: %v", err)
		}
		var d wire.Diff
		if json.Unmarshal(b, &d) != nil {
			return
		}
		m, err := wire.Apply(old, d)
		if !bytes.Equal(encode(t, old).Payload, before.Payload) {
			t.Fatal("the old map was changed")
		}
		if err != nil {
			return
		}
		if n, limit := entries(m), 2*entries(old)+len(b); n > limit {
			t.Fatalf("%d bytes made a map of %d entries", len(b), n)
		}
	})
}

func entries(m wire.NetMap) int {
	n := len(m.Peers) + len(m.Uses) + len(m.Offers)
	for _, o := range m.Offers {
		n += len(o.From)
	}
	return n
}
