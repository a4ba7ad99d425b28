package coordinator_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestEnroll(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	site := n.Clinic(t, "praxis-nord")
	box := n.Box(t)
	facts := wire.Facts{Hostname: "box\x00\n-7", Model: strings.Repeat("M", 100), LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.20/24")}}
	if err := box.Enroll(t.Context(), n.Token(t, "praxis-nord"), facts); err != nil {
		t.Fatal(err)
	}
	m := box.Map()
	pub, err := box.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	if m.Self.Site != "praxis-nord" || m.Self.PublicKey != pub || m.Self.Address != site.Prefixes[0].Addr().Next() {
		t.Errorf("the map is for %+v, want the first host of %v", m.Self, site.Prefixes)
	}
	if m.Hub.Address != netip.MustParseAddr("10.201.0.1") || m.Hub.ControlPort != coordinator.ControlPort || m.Hub.PublicKey != n.Keys.HubPublicKey() {
		t.Errorf("the hub is %+v", m.Hub)
	}
	if got := m.Expires.Sub(m.Issued); got != coordinator.MapLifetime {
		t.Errorf("the map is good for %s", got)
	}
	info := nodeInfo(t, n, box.ID)
	want := wire.Facts{Hostname: "box -7", Model: strings.Repeat("M", 64), LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.0/24")}}
	if d := cmp.Diff(want, info.Facts, equateNet); d != "" {
		t.Errorf("what is stored of the box: -want +got:\n%s", d)
	}
	if info.Site != site.ID || info.Kind != wire.Gateway || info.PublicKey != pub || info.Enrolled.IsZero() || !info.LastSeen.IsZero() {
		t.Errorf("the node is %+v", info.Node)
	}
	e := lastEvent(t, n)
	if e.Action != "node.enroll" || e.Subject != string(box.ID) || !strings.HasPrefix(e.Actor, "token tok_") || !strings.Contains(e.Detail, "praxis-nord") ||
		strings.Contains(e.Detail, "clock") {
		t.Errorf("the event is %+v", e)
	}
}

func TestEnrollAgain(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "praxis-nord")
	box, token := n.Box(t), n.Token(t, "praxis-nord")
	for range 3 {
		if err := box.Enroll(t.Context(), token, wire.Facts{}); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := n.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].ID != box.ID {
		t.Errorf("after asking three times there are %+v (%v)", nodes, err)
	}
	wantCode(t, n.Box(t).Enroll(t.Context(), token, wire.Facts{}), provisioning.Denied, "was used on", "new token")
	n.Remove(t, box.ID)
	wantCode(t, box.Enroll(t.Context(), token, wire.Facts{}), provisioning.Denied, "was used on")
}

func TestEnrollAgainEndsWithTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "praxis-nord")
		box, token := n.Box(t), n.Token(t, "praxis-nord")
		if err := box.Enroll(t.Context(), token, wire.Facts{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(coordinator.DefaultTokenTTL - time.Second)
		if err := box.Enroll(t.Context(), token, wire.Facts{}); err != nil {
			t.Errorf("within the token's time: %v", err)
		}
		time.Sleep(time.Second)
		wantCode(t, box.Enroll(t.Context(), token, wire.Facts{}), provisioning.Expired, "was good until")
	})
}

func TestEnrollRefusals(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	for _, s := range []string{"a", "b", "c"} {
		n.Clinic(t, s)
	}
	first := n.Node(t, "a")
	firstKey, err := first.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	n.Center(t, "lab", "192.0.2.9:51820")
	n.Node(t, "lab")
	approved := func(site string) wire.Token {
		_, token, err := n.CreateToken(t.Context(), provisioningtest.Actor, coordinator.NewToken{Site: site, Approval: true})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	revoked := n.Token(t, "b")
	if err := n.RevokeToken(t.Context(), provisioningtest.Actor, provisioning.TokenID(revoked.ID)); err != nil {
		t.Fatal(err)
	}
	forged := n.Token(t, "b")
	forged.Secret[3] ^= 1
	unknown := n.Token(t, "b")
	unknown.ID = "tok_aaaaaaaaaaaaaaaa"
	lan := func(p string) func(*wire.EnrollRequest) {
		return func(r *wire.EnrollRequest) { r.Facts.LANs = []netip.Prefix{netip.MustParsePrefix(p)} }
	}
	for name, tc := range map[string]struct {
		token wire.Token
		edit  func(*wire.EnrollRequest)
		code  provisioning.Code
		says  []string
	}{
		"unknown token":               {unknown, nil, provisioning.Denied, []string{"this token is not known here"}},
		"wrong secret":                {forged, nil, provisioning.Denied, []string{"this token is not known here"}},
		"no secret":                   {n.Token(t, "b"), func(r *wire.EnrollRequest) { r.Secret = nil }, provisioning.Denied, nil},
		"long secret":                 {n.Token(t, "b"), func(r *wire.EnrollRequest) { r.Secret = append(r.Secret, 0) }, provisioning.Denied, nil},
		"revoked":                     {revoked, nil, provisioning.Denied, []string{"was withdrawn on"}},
		"LAN in the pool":             {n.Token(t, "b"), lan("10.201.5.0/24"), provisioning.Conflict, []string{"10.201.5.0/24", "10.201.0.0/16", "own LAN"}},
		"LAN over the pool":           {n.Token(t, "b"), lan("10.0.0.7/8"), provisioning.Conflict, []string{"10.0.0.0/8", "10.201.0.0/16"}},
		"site is taken":               {n.Token(t, "a"), nil, provisioning.Conflict, []string{"site a has a gateway already", string(first.ID)}},
		"further gateway of a clinic": {approved("a"), nil, provisioning.Conflict, []string{"site a has a gateway already"}},
		"further gateway of a center, without approval": {n.Token(t, "lab"), nil, provisioning.Conflict, []string{"site lab has a gateway already", "--approve"}},
		"key is taken":  {n.Token(t, "c"), func(r *wire.EnrollRequest) { r.PublicKey = firstKey }, provisioning.Conflict, []string{"key of this box"}},
		"no key":        {n.Token(t, "c"), func(r *wire.EnrollRequest) { r.PublicKey = wgkey.PublicKey{} }, provisioning.Invalid, nil},
		"the hub's key": {n.Token(t, "c"), func(r *wire.EnrollRequest) { r.PublicKey = n.Keys.HubPublicKey() }, provisioning.Invalid, nil},
		"newer box":     {n.Token(t, "c"), func(r *wire.EnrollRequest) { r.Format = wire.Format + 1 }, provisioning.Invalid, []string{"update the coordinator"}},
	} {
		before := lastEvent(t, n).Seq
		box := n.Box(t)
		box.Remote = fmt.Sprintf("198.51.100.%d:1", len(name))
		pub, err := box.Key.Public()
		if err != nil {
			t.Fatal(err)
		}
		req := wire.EnrollRequest{Format: 1, TokenID: tc.token.ID, Secret: tc.token.Secret[:], PublicKey: pub, Now: time.Now()}
		if tc.edit != nil {
			tc.edit(&req)
		}
		t.Run(name, func(t *testing.T) {
			wantCode(t, box.EnrollWith(t.Context(), tc.token, req), tc.code, tc.says...)
		})
		if e := lastEvent(t, n); e.Seq != before && e.Action != "token.create" {
			t.Errorf("%s: a refusal has changed something: %+v", name, e)
		}
	}
	nodes, err := n.Nodes(t.Context())
	if err != nil || len(nodes) != 2 {
		t.Errorf("after all refusals there are %d nodes (%v)", len(nodes), err)
	}
}

// TestATokenOfAnotherKindIsNotUsedUp holds that a box that says what it is is told of a wrong token in time, and that one of an earlier version,
// which says nothing, becomes what the token is for.
func TestATokenOfAnotherKindIsNotUsedUp(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	token := n.Token(t, "a")
	ask := func(kind wire.NodeKind) error {
		box := n.Box(t)
		pub, err := box.Key.Public()
		if err != nil {
			t.Fatal(err)
		}
		return box.EnrollWith(t.Context(), token, wire.EnrollRequest{
			Format: 1, TokenID: token.ID, Secret: token.Secret[:], PublicKey: pub, Kind: kind, Now: time.Now(),
		})
	}
	wantCode(t, ask(wire.Workstation), provisioning.Invalid, "a gateway's", "not a workstation's", "not used up", "towpath enroll")
	wantCode(t, ask("toaster"), provisioning.Invalid, "a gateway's")
	if nodes, err := n.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Fatalf("there are %d nodes (%v)", len(nodes), err)
	}
	if err := ask(wire.Gateway); err != nil {
		t.Error(err)
	}
	n.Clinic(t, "b")
	token = n.Token(t, "b")
	if err := ask(""); err != nil {
		t.Error(err)
	}
}

func TestEnrollTakesAForeignLAN(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	facts := wire.Facts{LANs: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("fd00::/8"), {}}}
	if err := n.Box(t).Enroll(t.Context(), n.Token(t, "a"), facts); err != nil {
		t.Error(err)
	}
}

func TestEnrollNotesAWrongClock(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	box, token := n.Box(t), n.Token(t, "a")
	pub, err := box.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	req := wire.EnrollRequest{Format: 1, TokenID: token.ID, Secret: token.Secret[:], PublicKey: pub, Now: time.Unix(0, 0)}
	if err := box.EnrollWith(t.Context(), token, req); err != nil {
		t.Fatalf("a box without a clock was refused: %v", err)
	}
	if e := lastEvent(t, n); !strings.Contains(e.Detail, "clock is off by -") {
		t.Errorf("the event says %q", e.Detail)
	}
}

func TestEnrollSlowsDownGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		forged, token := n.Token(t, "a"), n.Token(t, "a")
		forged.Secret[0] ^= 1
		guesser := n.Box(t)
		for i := range 10 {
			wantCode(t, guesser.Enroll(t.Context(), forged, wire.Facts{}), provisioning.Denied, "not known here")
			if i == 4 {
				guesser.Remote = "198.51.100.7:40001"
			}
		}
		wantCode(t, guesser.Enroll(t.Context(), forged, wire.Facts{}), provisioning.Unavailable, "too many failed", "try again in")
		wantCode(t, guesser.Enroll(t.Context(), token, wire.Facts{}), provisioning.Unavailable)

		other := n.Box(t)
		other.Remote = "203.0.113.9:1"
		if err := other.Enroll(t.Context(), token, wire.Facts{}); err != nil {
			t.Errorf("somebody else is slowed down, too: %v", err)
		}
		time.Sleep(61 * time.Second)
		wantCode(t, guesser.Enroll(t.Context(), forged, wire.Facts{}), provisioning.Denied)
		wantCode(t, guesser.Enroll(t.Context(), forged, wire.Facts{}), provisioning.Unavailable)
	})
}

func TestEnrollAtTheSameTime(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	token := n.Token(t, "a")
	const boxes = 8
	errs := make([]error, boxes)
	var wg sync.WaitGroup
	for i := range boxes {
		b := n.Box(t)
		wg.Go(func() { errs[i] = b.Enroll(context.Background(), token, wire.Facts{}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantCode(t, err, provisioning.Denied, "was used on")
		}
	}
	if won != 1 {
		t.Errorf("%d boxes enrolled with one token", won)
	}
}

func TestTokenForSeveralAtTheSameTime(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	k := token(t, n, coordinator.NewToken{Site: "a", Kind: wire.Workstation, Limit: 3})
	const boxes = 8
	errs := make([]error, boxes)
	all := make([]*provisioningtest.Node, boxes)
	var wg sync.WaitGroup
	for i := range boxes {
		all[i] = n.Box(t)
		wg.Go(func() { errs[i] = all[i].Enroll(context.Background(), k, wire.Facts{}) })
	}
	wg.Wait()
	addresses := map[netip.Addr]bool{}
	for i, err := range errs {
		if err != nil {
			wantCode(t, err, provisioning.Denied, "for 3 boxes and is used up")
			continue
		}
		addresses[all[i].Map().Self.Address] = true
		if err := all[i].Enroll(t.Context(), k, wire.Facts{}); err != nil {
			t.Errorf("one that lost the answer: %v", err)
		}
	}
	if len(addresses) != 3 {
		t.Errorf("%d boxes enrolled with a token for 3", len(addresses))
	}
}

func TestEnrollWaitsForTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		n.Clinic(t, "b")
		view, err := n.HubView(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.HubApplied(view.Generation)
		box, token := n.Box(t), n.Token(t, "a")
		answered := make(chan error, 1)
		go func() { answered <- box.Enroll(context.Background(), token, wire.Facts{}) }()
		synctest.Wait()
		select {
		case err := <-answered:
			t.Fatalf("the box got its answer (%v) before the hub knew it", err)
		default:
		}
		if view, err = n.HubView(t.Context()); err != nil || len(view.Nodes) != 1 {
			t.Fatalf("the hub is to know %+v (%v)", view.Nodes, err)
		}
		n.HubApplied(view.Generation)
		start := time.Now()
		if err := <-answered; err != nil || time.Since(start) != 0 {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		start = time.Now()
		if err := n.Box(t).Enroll(t.Context(), n.Token(t, "b"), wire.Facts{}); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("with a hub that hangs: got %v after %s", err, time.Since(start))
		}
	})
}

func TestNothingSecretIsLoggedOrAudited(t *testing.T) {
	var log strings.Builder
	n := newNetwork(t, provisioningtest.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	n.Clinic(t, "a")
	token := n.Token(t, "a")
	forged := token
	forged.Secret[0] ^= 1
	if err := n.Box(t).Enroll(t.Context(), forged, wire.Facts{}); err == nil {
		t.Fatal("a forged token was taken")
	}
	if err := n.Box(t).Enroll(t.Context(), token, wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	events, err := n.Events(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&log, "%+v %v %+v %#v", events, n.Keys, n.Keys, n.Keys)
	if !strings.Contains(log.String(), "enrolment refused") {
		t.Error("the refusal was not logged")
	}
	for _, secret := range []string{token.Reveal(), token.Reveal()[30:60], fmt.Sprintf("%x", token.Secret[:]), fmt.Sprint(token.Secret[:]), n.HubKey().RevealText()} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a secret can be read in:\n%s", &log)
		}
	}
}

func lastEvent(t testing.TB, n *provisioningtest.Network) provisioning.Event {
	t.Helper()
	events, err := n.Events(context.Background(), 0, 0)
	if err != nil || len(events) == 0 {
		t.Fatalf("read the audit trail: %d events, %v", len(events), err)
	}
	return events[len(events)-1]
}
