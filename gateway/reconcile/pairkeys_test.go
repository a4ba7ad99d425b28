package reconcile_test

import (
	"testing"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Only peers that agree on keys get one, the difference to before is the key alone, and the hub never has one.
func TestWithPairKeys(t *testing.T) {
	key, other := wgkey.PresharedKeyOf([32]byte{7}), wgkey.PresharedKeyOf([32]byte{8})
	m := wire.NetMap{Hub: wire.Hub{PublicKey: wgkey.PublicKey{9}}, Peers: []wire.Peer{
		{Node: "a", PublicKey: wgkey.PublicKey{1}},
		{Node: "b", PublicKey: wgkey.PublicKey{2}, Kind: wire.Unmanaged},
		{Node: "c", PublicKey: wgkey.PublicKey{3}, Kind: wire.Workstation},
		{Node: "d", PublicKey: wgkey.PublicKey{4}},
		{Node: "hub", PublicKey: wgkey.PublicKey{9}}, // a map that makes no sense
	}}
	var before tunnel.Config
	for i := range byte(5) {
		before.Peers = append(before.Peers, tunnel.Peer{PublicKey: wgkey.PublicKey{i + 1}})
	}
	before.Peers[4] = tunnel.Peer{PublicKey: wgkey.PublicKey{9}}
	after := reconcile.WithPairKeys(before, m, map[string]wgkey.PresharedKey{"a": key, "b": key, "c": other, "hub": key})
	for i, want := range []wgkey.PresharedKey{key, {}, other, {}, {}} {
		if !after.Peers[i].PresharedKey.Equal(want) {
			t.Errorf("peer %d has another key", i)
		}
		if !before.Peers[i].PresharedKey.IsZero() {
			t.Errorf("what was passed in has a key for peer %d", i)
		}
	}
	change := tunnel.Diff(before, after)
	if len(change.Updated) != 2 || len(change.Added)+len(change.Removed) > 0 || change.PrivateKey != nil || change.ListenPort != nil {
		t.Fatalf("the difference is %+v", change)
	}
	for _, u := range change.Updated {
		if u.PresharedKey == nil {
			t.Errorf("%+v has no key", u)
		}
		if u.Endpoint != nil || u.PersistentKeepalive != nil || len(u.RemovedIPs)+len(u.AddedIPs) > 0 {
			t.Errorf("more than the key differs: %+v", u)
		}
	}
	if again := reconcile.WithPairKeys(after, m, nil); !again.Peers[0].PresharedKey.IsZero() {
		t.Error("a key that is gone stays")
	}
}
