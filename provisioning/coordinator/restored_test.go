package coordinator_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// The database comes from a backup: boxes have newer maps than it knows.
func TestRestoredDatabase(t *testing.T) {
	n, lab, boxes := newFleet(t, openStore(t), 1)
	ctx := t.Context()
	wantCode(t, reason(n.Restored(ctx, "test")), provisioning.Conflict)
	tell := func(gen uint64) {
		t.Helper()
		s := boxes[0].Open(context.Background(), http.MethodGet, wire.Have{Generation: gen})
		defer s.Close()
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	have := lab.Generation()
	tell(have + 1<<41)
	if found, err := n.Findings(ctx); err != nil || len(found) != 0 {
		t.Errorf("what cannot be is a finding: %+v (%v)", found, err)
	}
	tell(have + 500)
	tell(have + 300)
	found, err := n.Findings(ctx)
	if err != nil || !hasFinding(found, coordinator.FindingRestored, boxes[0].ID) || found[0].Severity != "error" {
		t.Errorf("the findings are %+v (%v)", found, err)
	}
	gen, err := n.Restored(ctx, "test")
	if err != nil || gen <= have+500 {
		t.Fatalf("it goes on at %d (%v)", gen, err)
	}
	if _, m, err := n.NetMapFor(ctx, lab.ID); err != nil || m.Generation != gen {
		t.Errorf("the center's map is of generation %d (%v), want %d", m.Generation, err, gen)
	}
	if found, err = n.Findings(ctx); err != nil || len(found) != 0 {
		t.Errorf("afterwards the findings are %+v (%v)", found, err)
	}
	wantCode(t, reason(n.Restored(ctx, "test")), provisioning.Conflict)
}
