package adminapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
)

// exerciseKeys calls what is about keys and signatures, in a network whose key is on the coordinator.
func exerciseKeys(t *testing.T, c *adminapi.Client, n *provisioningtest.Network) {
	t.Helper()
	ctx := t.Context()
	n.Clinic(t, "keys")
	box := n.Node(t, "keys")
	id := string(box.ID)
	find := func() adminapi.Node {
		t.Helper()
		for _, v := range must(c.Nodes(ctx))(t) {
			if v.ID == id {
				return v
			}
		}
		t.Fatalf("there is no node %s", id)
		return adminapi.Node{}
	}
	if err := c.RotateNode(ctx, id, true); err != nil || find().Rotate != "make" {
		t.Errorf("a key is changed with %v: %+v", err, find())
	}
	if err := c.CancelRotation(ctx, id); err != nil || find().Rotate != "" {
		t.Errorf("the change is canceled with %v: %+v", err, find())
	}
	rank, endpoint := 2, "b.example.net:51820"
	if err := c.PlaceNode(ctx, id, adminapi.NodePlace{Rank: &rank, Endpoint: &endpoint}); err != nil || find().Rank != 2 || find().Endpoint != endpoint {
		t.Errorf("%+v, %v", find(), err)
	}
	if err := c.QuarantineNode(ctx, id, "stolen"); err != nil || find().State != "quarantined" || find().Reason != "stolen" {
		t.Errorf("quarantined with %v: %+v", err, find())
	}
	if err := c.ReadmitNode(ctx, id); err != nil || find().State != "active" {
		t.Errorf("readmitted with %v: %+v", err, find())
	}
	if _, _, err := c.Unsigned(ctx); !conflict(err) {
		t.Errorf("unsigned: %v", err)
	}
	if _, err := c.TakeSigned(ctx, []adminapi.SignedMember{{Payload: []byte("x"), Signature: []byte("y")}}); !conflict(err) {
		t.Errorf("signed: %v", err)
	}
	if _, err := c.Restored(ctx); !conflict(err) {
		t.Errorf("restored: %v", err)
	}
	s := box.Open(context.Background(), http.MethodGet, wire.Have{Generation: box.Generation() + 100})
	_, err := s.Next()
	s.Close()
	if gen := must(c.Restored(ctx))(t); err != nil || gen <= box.Generation()+100 {
		t.Errorf("it goes on at generation %d (%v)", gen, err)
	}
}

func conflict(err error) bool {
	e, ok := refusal(err)
	return ok && e.Code == provisioning.Conflict && e.Hint != ""
}

func TestSignaturesTravel(t *testing.T) {
	ctx := t.Context()
	keys, key, err := coordinator.NewOfflineKeys()
	if err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n := provisioningtest.New(t, st, provisioningtest.Options{Keys: keys})
	srv := httptest.NewServer(adminapi.Handler(n.Coordinator, nil, nil))
	defer srv.Close()
	c := adminapi.NewClient(srv.URL, srv.Client())
	if network, l, err := c.Unsigned(ctx); err != nil || len(l) != 0 || network != key.NetworkID() {
		t.Fatalf("network %s waits for %+v (%v)", network, l, err)
	}
	n.Clinic(t, "a")
	box, token := n.Box(t), n.Token(t, "a")
	if err := box.Enroll(ctx, token, wire.Facts{}); err == nil {
		t.Fatal("it is in without a signature")
	}
	_, waiting, err := c.Unsigned(ctx)
	if err != nil || len(waiting) != 1 || waiting[0].Site != "a" || waiting[0].Since.IsZero() || len(waiting[0].LastPayload) != 0 {
		t.Fatalf("%+v, %v", waiting, err)
	}
	var m wire.Member
	if err := json.Unmarshal(waiting[0].Member, &m); err != nil || m.Node != waiting[0].Node {
		t.Fatalf("%+v, %v", m, err)
	}
	signed, err := key.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	bad := adminapi.SignedMember{Payload: signed.Payload, Signature: make([]byte, 64)}
	if _, err := c.TakeSigned(ctx, []adminapi.SignedMember{bad}); err == nil || !strings.Contains(err.Error(), "was not made with the key") {
		t.Errorf("a forged one: %v", err)
	}
	taken, err := c.TakeSigned(ctx, []adminapi.SignedMember{adminapi.SignedMember(signed)})
	if err != nil || len(taken.Accepted) != 1 || len(taken.Active) != 1 || len(taken.Stale) != 0 {
		t.Errorf("%+v, %v", taken, err)
	}
	if err := box.Enroll(ctx, token, wire.Facts{}); err != nil {
		t.Error(err)
	}
	if _, err := n.Renumber(ctx, "test", coordinator.RenumberRequest{Site: "a", Keep: 0}); err != nil {
		t.Fatal(err)
	}
	if _, l, err := c.Unsigned(ctx); err != nil || len(l) != 1 || len(l[0].LastPayload) == 0 || len(l[0].LastSignature) == 0 {
		t.Errorf("after a change %+v waits (%v)", l, err)
	}
}
