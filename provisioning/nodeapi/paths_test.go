package nodeapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// A box hears where its relayed peers are seen, of nobody else, and of their own addresses only if they leave by the same one.
func TestPathsAreToldToPeersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		n := provisioningtest.New(t, st, provisioningtest.Options{Relay: true})
		n.Center(t, "lab", "")
		n.DICOM(t, "lab", "pacs", "PACS")
		n.Clinic(t, "nord")
		n.Clinic(t, "sued")
		nord, sued, lab := n.Node(t, "nord"), n.Node(t, "sued"), n.Node(t, "lab")
		n.Grant(t, "pacs", "nord")
		var mapped netip.AddrPort
		ask := func(of *provisioningtest.Node, local ...string) (a wire.PathsAnswer) {
			t.Helper()
			q := wire.PathsQuestion{Mapped: mapped}
			for _, l := range local {
				q.Local = append(q.Local, netip.MustParseAddrPort(l))
			}
			body, err := json.Marshal(q)
			if err != nil {
				t.Fatal(err)
			}
			rec := do(n.Control, "POST", wire.PathPaths, of.Map().Self.Address.String()+":5000", body)
			if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil || rec.Code != 200 {
				t.Fatalf("status %d: %s", rec.Code, rec.Body)
			}
			return a
		}
		if a := ask(nord); len(a.Peers) != 0 {
			t.Errorf("without a hub: %+v", a)
		}
		at := map[wgkey.PublicKey]netip.AddrPort{}
		for i, b := range []*provisioningtest.Node{nord, sued, lab} {
			at[b.Map().Self.PublicKey] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), 4711)
		}
		asked := 0
		n.Coordinator.SetSeen(func(_ context.Context, keys []wgkey.PublicKey) map[wgkey.PublicKey]netip.AddrPort {
			asked++
			all := maps.Clone(at)
			maps.DeleteFunc(all, func(k wgkey.PublicKey, _ netip.AddrPort) bool { return !slices.Contains(keys, k) })
			return all
		})
		key := lab.Map().Self.PublicKey
		ask(lab, "192.168.1.5:51820")
		a := ask(nord, "192.168.1.7:51820")
		if len(a.Peers) != 1 || a.Peers[0].PublicKey != key || a.Peers[0].Seen != at[key] || a.Seen.Addr() != netip.MustParseAddr("203.0.113.1") {
			t.Fatalf("the clinic hears %+v", a)
		}
		if len(a.Peers[0].Local) != 0 {
			t.Errorf("a clinic in another network hears the center's own addresses: %v", a.Peers[0].Local)
		}
		if a := ask(sued); len(a.Peers) != 0 {
			t.Errorf("a clinic without a grant hears %+v", a)
		}
		at[nord.Map().Self.PublicKey] = netip.AddrPortFrom(at[key].Addr(), 4712)
		if a := ask(nord); len(a.Peers) != 1 || !slices.Equal(a.Peers[0].Local, []netip.AddrPort{netip.MustParseAddrPort("192.168.1.5:51820")}) {
			t.Errorf("behind the same router the clinic hears %+v", a)
		}
		for m, want := range map[netip.AddrPort]bool{
			netip.AddrPortFrom(at[key].Addr(), 51820): true, netip.MustParseAddrPort("198.51.100.9:51820"): false, netip.AddrPortFrom(at[key].Addr(), 0): false,
		} {
			mapped = m
			ask(lab, "192.168.1.5:51820")
			mapped = netip.AddrPort{}
			if a := ask(nord); len(a.Peers) != 1 || (a.Peers[0].Mapped == m) != want || a.Peers[0].Mapped.IsValid() != want {
				t.Errorf("of a mapping at %v the clinic hears %+v", m, a)
			}
		}
		time.Sleep(20 * time.Minute)
		if a := ask(nord); len(a.Peers) != 1 || len(a.Peers[0].Local) != 0 {
			t.Errorf("addresses told twenty minutes ago are passed on: %+v", a)
		}
		delete(at, key)
		if a := ask(nord); len(a.Peers) != 0 {
			t.Errorf("of a peer that nobody sees: %+v", a)
		}

		before := asked
		self := nord.Map().Self.Address.String() + ":5000"
		for name, tc := range map[string]struct {
			remote, body string
			want         int
		}{
			"a stranger": {"10.201.0.99:1", "{}", 403}, "no JSON": {self, "{", 400},
			"too long": {self, `{"local":["` + string(bytes.Repeat([]byte("1"), 5000)) + `"]}`, 400}, "no address": {self, `{"local":["here"]}`, 400},
			"too many": {self, `{"local":["10.0.0.1:1","10.0.0.1:1","10.0.0.1:1","10.0.0.1:1","10.0.0.1:1","10.0.0.1:1","10.0.0.1:1"]}`, 400},
		} {
			if rec := do(n.Control, "POST", wire.PathPaths, tc.remote, []byte(tc.body)); rec.Code != tc.want {
				t.Errorf("%s: status %d, want %d: %s", name, rec.Code, tc.want, rec.Body)
			}
		}
		if asked != before {
			t.Error("the hub was asked for a question that was refused")
		}
		if rec := do(n.Public, "POST", wire.PathPaths, self, []byte("{}")); rec.Code != 404 {
			t.Errorf("outside the tunnel: %d", rec.Code)
		}
	})
}

// What a box sends comes back as large as it was, to those who are in the plan, and within bounds.
func TestSizesComeBack(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	self := n.Node(t, "a").Map().Self.Address.String() + ":5000"
	for name, tc := range map[string]struct {
		remote string
		bytes  int
		want   int
	}{"nothing": {self, 0, 200}, "some": {self, 6000, 200}, "the most": {self, wire.MaxSizes, 200}, "more": {self, wire.MaxSizes + 1, 400}, "a stranger": {"10.201.0.99:1", 10, 403}} {
		rec := do(n.Control, "POST", wire.PathSizes, tc.remote, bytes.Repeat([]byte("x"), tc.bytes))
		if rec.Code != tc.want || tc.want == 200 && !bytes.Equal(rec.Body.Bytes(), make([]byte, tc.bytes)) {
			t.Errorf("%s: status %d and %d bytes", name, rec.Code, rec.Body.Len())
		}
	}
}
