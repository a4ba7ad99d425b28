package coordinator_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

func deposit(id string, fill byte, needed ...string) wire.SpoolKeyDeposit {
	return wire.SpoolKeyDeposit{Format: 1, Key: wire.HeldSpoolKey{ID: id, Private: bytes.Repeat([]byte{fill}, wire.SpoolKeySize)}, Needed: needed}
}

func heldIDs(k wire.SpoolKeys) (ids []string) {
	for _, x := range k.Keys {
		ids = append(ids, x.ID)
	}
	return ids
}

// TestSpoolKeysAreKeptForOneNode deposits keys and gets them back, and lets others try.
func TestSpoolKeysAreKeptForOneNode(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Clinic(t, "nord")
	n.Clinic(t, "sued")
	box, other := n.Node(t, "nord"), n.Node(t, "sued")
	wantCode(t, n.DepositSpoolKey(ctx, box.ID, deposit("aa", 7)), provisioning.Conflict, "keeps the keys", "--spool-key coordinator")
	wantCode(t, n.SetSiteSpoolKey(ctx, "test", "nord", "attic"), provisioning.Invalid)
	for _, site := range []string{"nord", "sued"} {
		if err := n.SetSiteSpoolKey(ctx, "test", site, wire.SpoolKeyCoordinator); err != nil {
			t.Fatal(err)
		}
	}
	if _, m, err := n.NetMapFor(ctx, box.ID); err != nil || m.Self.SpoolKey != wire.SpoolKeyCoordinator {
		t.Errorf("its map says %q (%v)", m.Self.SpoolKey, err)
	}
	for range 2 { // the answer may have been lost
		if err := n.DepositSpoolKey(ctx, box.ID, deposit("aa", 7)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.DepositSpoolKey(ctx, box.ID, deposit("bb", 8, "aa")); err != nil {
		t.Fatal(err)
	}
	got, err := n.SpoolKeys(ctx, box.ID)
	if err != nil || !slices.Equal(heldIDs(got), []string{"aa", "bb"}) || !bytes.Equal(got.Keys[0].Private, bytes.Repeat([]byte{7}, 32)) {
		t.Fatalf("%v (%v)", got, err)
	}
	if got, err := n.SpoolKeys(ctx, other.ID); err != nil || len(got.Keys) != 0 {
		t.Errorf("another node got %v (%v)", got, err)
	}
	for name, d := range map[string]wire.SpoolKeyDeposit{
		"no id": deposit("", 1), "odd id": deposit("../a", 1), "long id": deposit(strings.Repeat("a", 65), 1),
		"short": {Format: 1, Key: wire.HeldSpoolKey{ID: "cc", Private: []byte{1}}}, "newer": {Format: 9, Key: deposit("cc", 1).Key},
	} {
		t.Log(name)
		wantCode(t, n.DepositSpoolKey(ctx, box.ID, d), provisioning.Invalid)
	}

	// What is not needed any more is forgotten.
	if err := n.DepositSpoolKey(ctx, box.ID, deposit("cc", 9, "bb")); err != nil {
		t.Fatal(err)
	}
	if got, err := n.SpoolKeys(ctx, box.ID); err != nil || !slices.Equal(heldIDs(got), []string{"bb", "cc"}) {
		t.Errorf("%v (%v)", got, err)
	}

	// The database alone is worth nothing, and does not give the key to another.
	err = n.Store.Update(ctx, func(tx store.Tx) error {
		held, err := tx.SpoolKeys().Of(box.ID)
		if err != nil {
			return err
		}
		for _, k := range held {
			for fill := range byte(10) {
				if bytes.Contains(k.Sealed, bytes.Repeat([]byte{fill}, 16)) {
					t.Errorf("the key %s is in the database", k.ID)
				}
			}
		}
		stolen := held[0]
		stolen.Node = other.ID
		return tx.SpoolKeys().Create(stolen)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.SpoolKeys(ctx, other.ID); err == nil {
		t.Errorf("a row of another node was opened: %v", got)
	}

	setState(t, n, box.ID, provisioning.NodeQuarantined, "stolen")
	_, err = n.SpoolKeys(ctx, box.ID)
	wantCode(t, err, provisioning.Denied, "quarantined")
	wantCode(t, n.DepositSpoolKey(ctx, box.ID, deposit("dd", 1)), provisioning.Denied)
	n.Remove(t, box.ID)
	_, err = n.SpoolKeys(ctx, box.ID)
	wantCode(t, err, provisioning.Denied, "removed")

	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range events {
		if strings.HasPrefix(e.Action, "spoolkey.") || e.Action == "site.spoolkey" {
			count[e.Action]++
		}
		if strings.Contains(e.Detail, "\a\a\a\a") {
			t.Errorf("a key is in the trail: %q", e.Detail)
		}
	}
	if want := map[string]int{"site.spoolkey": 2, "spoolkey.deposit": 3, "spoolkey.deliver": 3}; fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("the trail has %v, want %v", count, want)
	}
}

func TestSpoolKeysAreBounded(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "nord")
	box := n.Node(t, "nord")
	if err := n.SetSiteSpoolKey(t.Context(), "test", "nord", wire.SpoolKeyCoordinator); err != nil {
		t.Fatal(err)
	}
	var needed []string
	for i := range wire.MaxSpoolKeys {
		id := fmt.Sprintf("%02x", i)
		if err := n.DepositSpoolKey(t.Context(), box.ID, deposit(id, 1, needed...)); err != nil {
			t.Fatal(err)
		}
		needed = append(needed, id)
	}
	wantCode(t, n.DepositSpoolKey(t.Context(), box.ID, deposit("ff", 1, needed...)), provisioning.Conflict)
	if err := n.DepositSpoolKey(t.Context(), box.ID, deposit("ff", 1, needed[1:]...)); err != nil {
		t.Error(err)
	}
}
