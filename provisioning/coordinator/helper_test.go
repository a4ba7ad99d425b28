package coordinator_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
)

// openStore returns an empty database that is closed with the test.
func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return st
}

func newNetwork(t testing.TB, o provisioningtest.Options) *provisioningtest.Network {
	t.Helper()
	return provisioningtest.New(t, openStore(t), o)
}

// wantCode fails unless err is a *provisioning.Error or *wire.Refusal of the code, with a hint, that says all of words.
func wantCode(t testing.TB, err error, code provisioning.Code, words ...string) {
	t.Helper()
	var got provisioning.Code
	var message, hint string
	if e, ok := errors.AsType[*provisioning.Error](err); ok {
		got, message, hint = e.Code, e.Message, e.Hint
	} else if r, ok := errors.AsType[*wire.Refusal](err); ok {
		got, message, hint = provisioning.Code(r.Code), r.Message, r.Hint
	} else {
		t.Fatalf("got %v (%T), want a refusal of code %s", err, err, code)
	}
	if got != code {
		t.Errorf("got code %s (%s), want %s", got, message, code)
	}
	if hint == "" {
		t.Errorf("%q has no hint", message)
	}
	for _, w := range words {
		if !strings.Contains(message+" / "+hint, w) {
			t.Errorf("%q / %q does not say %q", message, hint, w)
		}
	}
}

func nodeInfo(t testing.TB, n *provisioningtest.Network, id provisioning.NodeID) coordinator.NodeInfo {
	t.Helper()
	nodes, err := n.Nodes(context.Background())
	if err != nil {
		t.Fatalf("list the nodes: %v", err)
	}
	for _, i := range nodes {
		if i.ID == id {
			return i
		}
	}
	t.Fatalf("there is no node %s", id)
	return coordinator.NodeInfo{}
}

var equateNet = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// reason drops what came beside an error.
func reason[T any](_ T, err error) error { return err }
