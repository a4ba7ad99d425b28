package nodeapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
)

// TestPairMailByControl leaves a message as a box, and gets it as another one and not as a stranger.
func TestPairMailByControl(t *testing.T) {
	n, _ := newNetwork(t)
	n.Center(t, "lab", "")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Clinic(t, "a")
	n.Grant(t, "pacs", "a")
	lab, box := n.Node(t, "lab"), n.Node(t, "a")
	at := func(m wire.NetMap) string { return m.Self.Address.String() + ":5000" }
	body, err := json.Marshal(wire.PairMail{Format: 1, Post: []wire.PairMessage{{To: string(lab.ID), Body: []byte("sealed")}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		method, remote string
		body           []byte
		want           int
	}{
		"the box": {"POST", at(box.Map()), body, 200}, "a stranger": {"POST", "10.201.0.99:1", body, 403}, "no JSON": {"POST", at(box.Map()), []byte("{"), 400},
		"too long": {"POST", at(box.Map()), make([]byte, wire.MaxPairMailBody+1), 400}, "a newer box": {"POST", at(box.Map()), []byte(`{"format":9}`), 400},
		"GET": {"GET", at(box.Map()), nil, 405},
	} {
		if rec := do(n.Control, tc.method, wire.PathPairMail, tc.remote, tc.body); rec.Code != tc.want {
			t.Errorf("%s: status %d, want %d: %s", name, rec.Code, tc.want, rec.Body)
		}
	}
	rec := do(n.Control, http.MethodPost, wire.PathPairMail, at(lab.Map()), []byte(`{"format":1}`))
	var got wire.PairMailbox
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || len(got.Mail) != 1 || string(got.Mail[0].Body) != "sealed" || got.Mail[0].From != string(box.ID) {
		t.Errorf("the other end gets %d %s", rec.Code, rec.Body)
	}
	if !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the headers are %v", rec.Header())
	}
	if rec := do(n.Public, http.MethodPost, wire.PathPairMail, at(lab.Map()), []byte(`{"format":1}`)); rec.Code != 404 {
		t.Errorf("outside the tunnel: %d", rec.Code)
	}
}
