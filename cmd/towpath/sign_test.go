package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func offlineKey(t *testing.T) coordinator.OfflineKey {
	t.Helper()
	_, key, err := coordinator.NewOfflineKeys()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func clinicMember(key coordinator.OfflineKey, node string, k byte, prefixes ...string) wire.Member {
	m := wire.Member{
		Network: key.NetworkID(), Node: node, Kind: wire.Gateway, Site: "nord", SiteKind: wire.Clinic, PublicKey: wgkey.PublicKey{k},
	}
	for _, p := range prefixes {
		m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(p))
	}
	return m
}

func signed(t *testing.T, key coordinator.OfflineKey, m wire.Member) *wire.SignedMember {
	t.Helper()
	s, err := key.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

func signWith(key coordinator.OfflineKey, input string, items ...wire.SigningItem) (wire.SigningAnswer, string, error) {
	var out bytes.Buffer
	s := signer{key: key, ask: input != "--yes", in: bufio.NewReader(strings.NewReader(input)), out: &out}
	a, err := s.sign(wire.SigningRequest{Format: 1, Network: items[0].Member.Network, Made: time.Now(), Items: items})
	return a, out.String(), err
}

func TestSignShowsAndAsks(t *testing.T) {
	key := offlineKey(t)
	fresh := clinicMember(key, "node_new", 1, "10.201.0.16/28")
	before := clinicMember(key, "node_old", 2, "10.201.0.32/28", "10.201.9.0/24")
	after := clinicMember(key, "node_old", 2, "10.201.0.32/28", "10.201.1.0/28")
	after.NextKey = wgkey.PublicKey{3}
	items := []wire.SigningItem{{Member: fresh}, {Member: after, Last: signed(t, key, before)}}

	a, out, err := signWith(key, "y\nn\n", items...)
	if err != nil || len(a.Members) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	if m, err := a.Members[0].Open(key.Public()); err != nil || m.Node != "node_new" {
		t.Errorf("signed was %+v (%v)", m, err)
	}
	for _, words := range []string{
		"NEW: gateway node_new of clinic nord", wire.KeyPrint(fresh.PublicKey), "10.201.0.16/28", "CHANGE: gateway node_old of clinic nord",
		"added       10.201.1.0/28", "taken away  10.201.9.0/24", "next key    " + wire.KeyPrint(after.NextKey), "until now none", "Not signed.", "1 of 2 are signed",
	} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	if strings.Contains(out, "WARNING") || strings.Contains(out, "10.201.0.32/28") {
		t.Errorf("it says too much:\n%s", out)
	}
	if a, _, err := signWith(key, "--yes", items...); err != nil || len(a.Members) != 2 {
		t.Errorf("without asking: %d signed (%v)", len(a.Members), err)
	}
	if a, _, err := signWith(key, "n\nmaybe\n", items...); err == nil || len(a.Members) != 0 {
		t.Errorf("after no and maybe: %d signed (%v)", len(a.Members), err)
	}
	if _, _, err := signWith(key, "y\n", items...); err == nil {
		t.Error("the input ends in between and there is an answer")
	}
}

func TestSignWarns(t *testing.T) {
	key := offlineKey(t)
	old := clinicMember(key, "node_a", 1, "10.201.0.16/28")
	other := clinicMember(key, "node_b", 9, "10.201.0.0/24")
	other.Site = "sued"
	center := old
	center.SiteKind = wire.Center
	stolen := old
	stolen.PublicKey = wgkey.PublicKey{66}
	twin := clinicMember(key, "node_c", 1, "10.201.7.0/28")
	for words, items := range map[string][]wire.SigningItem{
		"a clinic becomes a center":                      {{Member: center, Last: signed(t, key, old)}},
		"another box takes this place":                   {{Member: stolen, Last: signed(t, key, old)}},
		"site sued has some of these":                    {{Member: old}, {Member: other}},
		"node node_c has the same key":                   {{Member: old}, {Member: twin}},
		"key         " + wire.KeyPrint(stolen.PublicKey): {{Member: stolen, Last: signed(t, key, old)}},
	} {
		if _, out, err := signWith(key, "--yes", items...); err != nil || !strings.Contains(out, words) {
			t.Errorf("it does not say %q (%v):\n%s", words, err, out)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	key, foreign := offlineKey(t), offlineKey(t)
	m := clinicMember(key, "node_a", 1, "10.201.0.16/28")
	of := clinicMember(foreign, "node_a", 1, "10.201.0.16/28")
	another := clinicMember(key, "node_b", 1, "10.201.0.16/28")
	denied := func(what string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*ui.Error](err); !ok || e.Code != ui.ExitDenied || e.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := signWith(key, "--yes", wire.SigningItem{Member: of})
	denied("another network", err)
	_, _, err = signWith(key, "--yes", wire.SigningItem{Member: m, Last: signed(t, foreign, of)})
	denied("a last signature of another network", err)
	_, _, err = signWith(key, "--yes", wire.SigningItem{Member: m, Last: signed(t, key, another)})
	denied("a last signature of another node", err)
}

// The coordinator that asks may be in wrong hands: nothing of it reaches the terminal that is not plain text, and nothing is signed unread.
func TestSigningRequestsAreParsedWithCare(t *testing.T) {
	key := offlineKey(t)
	good := wire.SigningRequest{Format: 1, Network: key.NetworkID(), Items: []wire.SigningItem{{Member: clinicMember(key, "node_a", 1, "10.201.0.16/28")}}}
	encode := func(r wire.SigningRequest) []byte {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := wire.ParseSigningRequest(encode(good)); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*wire.SigningRequest){
		"no format":        func(r *wire.SigningRequest) { r.Format = 0 },
		"a newer format":   func(r *wire.SigningRequest) { r.Format = 99 },
		"no network":       func(r *wire.SigningRequest) { r.Network = "" },
		"nothing":          func(r *wire.SigningRequest) { r.Items = nil },
		"the same twice":   func(r *wire.SigningRequest) { r.Items = append(r.Items, r.Items[0]) },
		"a mixed network":  func(r *wire.SigningRequest) { r.Items[0].Member.Network = "other" },
		"an escape":        func(r *wire.SigningRequest) { r.Items[0].Member.Site = "nord\x1b[2K" },
		"a line break":     func(r *wire.SigningRequest) { r.Items[0].Member.Node = "node_a\nnode_b" },
		"a long name":      func(r *wire.SigningRequest) { r.Items[0].Member.Site = strings.Repeat("x", 65) },
		"a prefix as host": func(r *wire.SigningRequest) { r.Items[0].Member.Prefixes[0] = netip.MustParsePrefix("10.0.0.1/8") },
	} {
		r := good
		r.Items = []wire.SigningItem{{Member: clinicMember(key, "node_a", 1, "10.201.0.16/28")}}
		spoil(&r)
		if _, err := wire.ParseSigningRequest(encode(r)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if _, err := wire.ParseSigningAnswer([]byte(`{"format":1,"network":"x","members":[]}`)); err == nil {
		t.Error("an answer without signatures is taken")
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, wire.MaxSigning+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readSigning(big); err == nil {
		t.Error("a file without end is read")
	}
}

func FuzzSigningRequest(f *testing.F) {
	f.Add([]byte(`{"format":1,"network":"x","items":[{"member":{"network":"x","node":"n","kind":"gateway","site":"s","site_kind":"clinic",` +
		`"public_key":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","prefixes":["10.0.0.0/28"]}}]}`))
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := wire.ParseSigningRequest(b)
		if err != nil {
			return
		}
		for _, i := range r.Items {
			for _, line := range append(explainMember(i.Member, nil), warnings(i.Member, nil, r.Items)...) {
				if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
					t.Fatalf("the terminal gets %q", line)
				}
			}
		}
	})
}
