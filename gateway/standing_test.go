package gateway

import (
	"context"
	"crypto/hpke"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/clock"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// clinicPeers and clinicUses are a center with one service.
func clinicPeers() []wire.Peer {
	return []wire.Peer{{
		Node: "node_c", Site: "center", PublicKey: [32]byte{7}, Endpoints: []string{"127.0.0.1:9"},
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.0.17/32")},
	}}
}

func clinicUses() []wire.Use {
	return []wire.Use{{
		Service: "pacs", Site: "center", Protocol: wire.DICOM, Mode: wire.PassThrough, LANPort: 41104, AETitle: "PACS",
		Address: netip.MustParseAddrPort("10.201.0.17:11112"),
	}}
}

// desk is the coordinator's public API, which answers questions of standing.
type desk struct {
	*httptest.Server
	asked  atomic.Int32
	answer func(wire.StandingRequest) wire.StandingResponse
}

func newDesk(t *testing.T, b *box) *desk {
	t.Helper()
	key, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{}
	d.Server = httptest.NewServer(d.handler(t, key))
	t.Cleanup(d.Close)
	b.plan.Hub.URLs, b.plan.Hub.Seal = []string{"http://127.0.0.1:1", d.URL}, key.PublicKey().Bytes()
	return d
}

func (d *desk) handler(t *testing.T, key hpke.PrivateKey) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		req, sealer, err := wire.OpenStanding(key, body)
		if err != nil || r.URL.Path != wire.PathStanding {
			t.Errorf("%s: %v", r.URL.Path, err)
			return
		}
		b, err := sealer.Seal(d.answer(req))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	})
}

// A tunnel that is silent while the web answers gives way to one that can be carried, and that one when UDP has worked for an hour.
func TestGivesWay(t *testing.T) {
	b := newBox(t)
	standing := wire.StandingQuarantined
	d := newDesk(t, b)
	d.answer = func(wire.StandingRequest) wire.StandingResponse { return wire.StandingResponse{Standing: standing} }
	b.started = time.Now().Add(-2 * silentAfter)
	now := time.Now()
	// The first call only sets when to ask; an hour later it is due whatever the chance in it.
	ask := func() error {
		w := watch{free: now}
		return errors.Join(b.standing(t.Context(), &w, now), b.standing(t.Context(), &w, now.Add(time.Hour)))
	}
	b.opt.GiveWay = true
	if err := ask(); err != nil || d.asked.Load() != 1 {
		t.Errorf("a box in quarantine: %v after %d questions", err, d.asked.Load())
	}
	standing = wire.StandingActive
	b.opt.GiveWay = false
	if err := ask(); err != nil || !b.health.Has(codeCoordinator) {
		t.Errorf("a person chose the backend: %v", err)
	}
	b.opt.GiveWay = true
	if err := ask(); !errors.Is(err, ErrBlocked) {
		t.Errorf("blocked: %v", err)
	}
	d.Close()
	if err := ask(); err != nil {
		t.Errorf("nobody answers at all: %v", err)
	}

	b.connection(errors.New("no route"))
	if silence := b.silence(); silence < 2*silentAfter {
		t.Errorf("a box that was never connected has heard nothing for %v", silence)
	}

	b.opt.GiveWay, b.opt.StandIn = false, true
	w := watch{free: now}
	if err := b.standing(t.Context(), &w, now.Add(2*unblockedFor)); err != nil || w.free != now.Add(2*unblockedFor) {
		t.Errorf("it is silent, and free since %v: %v", w.free, err)
	}
	b.link.Connected = true
	for after, want := range map[time.Duration]error{unblockedFor - time.Second: nil, unblockedFor: ErrUnblocked} {
		w := watch{free: now}
		if err := b.standing(t.Context(), &w, now.Add(after)); !errors.Is(err, want) {
			t.Errorf("UDP has worked for %v: %v", after, err)
		}
	}
}

func TestStandingIsTold(t *testing.T) {
	b := newBox(t)
	d := newDesk(t, b)
	for _, c := range []struct {
		standing wire.Standing
		code     string
		says     string
	}{
		{wire.StandingUnknown, codeRemoved, "removed from the network"},
		{wire.StandingQuarantined, codeQuarantined, "Call the center (its key was seen in two places)"},
		{wire.StandingReplaced, codeReplaced, "another box has taken the place"},
		{wire.StandingWaiting, codeWaiting, "agrees to it"},
		{wire.StandingActive, codeCoordinator, "UDP"},
	} {
		d.answer = func(req wire.StandingRequest) wire.StandingResponse {
			if req.Node != "node_a" || req.PublicKey != b.keys.own {
				t.Errorf("it asks for %+v", req)
			}
			r := wire.StandingResponse{Standing: c.standing, Now: time.Now()}
			if c.standing == wire.StandingQuarantined {
				r.Message = "its key was seen in two places"
			}
			return r
		}
		b.askStanding(t.Context())
		list := b.health.List()
		if len(list) != 1 || list[0].Code != c.code || !strings.Contains(list[0].Message, c.says) || list[0].Severity == health.Info {
			t.Errorf("%s: %v, want %s alone", c.standing, list, c.code)
		}
		before := b.health.List()
		b.connection(errors.New("no route"))
		if after := b.health.List(); len(after) != 1 || after[0] != before[0] {
			t.Errorf("%s: silence afterwards makes it %v", c.standing, after)
		}
	}
	// Nobody answers: what is known stays. The hub answers: it ends.
	d.Close()
	b.askStanding(t.Context())
	if b.condition(codeCoordinator, health.Warning) == "" {
		t.Errorf("no answer has changed it: %v", b.health.List())
	}
	b.connection(nil)
	if list := b.health.List(); len(list) > 0 {
		t.Errorf("the hub is back, and there is %v", list)
	}
}

// While the key is being changed, the coordinator may know the other one: that is no other box.
func TestStandingWhileTheKeyIsChanged(t *testing.T) {
	b := newBox(t)
	d := newDesk(t, b)
	b.keys.next = wgkey.PublicKey{8}
	d.answer = func(req wire.StandingRequest) wire.StandingResponse {
		if req.PublicKey == b.keys.next {
			return wire.StandingResponse{Standing: wire.StandingActive}
		}
		return wire.StandingResponse{Standing: wire.StandingReplaced}
	}
	b.askStanding(t.Context())
	if b.health.Has(codeReplaced) || !b.health.Has(codeCoordinator) {
		t.Errorf("conditions: %v", b.health.List())
	}
}

// A late answer does not stand against a hub that has answered meanwhile.
func TestStandingComesLate(t *testing.T) {
	b := newBox(t)
	d := newDesk(t, b)
	d.answer = func(wire.StandingRequest) wire.StandingResponse {
		b.connection(nil)
		return wire.StandingResponse{Standing: wire.StandingUnknown}
	}
	b.askStanding(t.Context())
	if list := b.health.List(); len(list) > 0 {
		t.Errorf("conditions: %v", list)
	}
}

func TestScheduleOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s schedule
		began := time.Now()
		var asked []time.Duration
		for range 12 * 120 { // two hours
			time.Sleep(askLook)
			if s.due(time.Since(began), time.Now()) {
				asked = append(asked, time.Since(began))
			}
		}
		if asked[0] < time.Minute || asked[0] > 2*time.Minute {
			t.Errorf("first after %s", asked[0])
		}
		for i := 5; i < len(asked); i++ {
			if gap := asked[i] - asked[i-1]; gap < 5*time.Minute || gap > 7*time.Minute {
				t.Errorf("question %d comes %s after the one before", i, gap)
			}
		}
		if s.due(0, time.Now()); s.due(time.Second, time.Now()) || s != (schedule{}) {
			t.Error("it does not begin anew when the hub was heard")
		}
	})
}

// The clock is far back at boot: the floor comes first, then what the coordinator says, in time for the tunnel.
func TestBootClock(t *testing.T) {
	floor := time.Now().Add(24 * time.Hour).UTC()
	theirs := time.Now().Add(96 * time.Hour).UTC()
	for name, c := range map[string]struct {
		sane, silent, locked bool
		asked                int32
		want                 []time.Time
	}{
		"in the past":            {asked: 1, want: []time.Time{floor.Add(90 * time.Second), theirs}},
		"nobody answers":         {silent: true, want: []time.Time{floor.Add(90 * time.Second)}},
		"a sane clock":           {sane: true},
		"a clock to leave alone": {locked: true},
	} {
		b := newBox(t)
		d := newDesk(t, b)
		d.answer = func(wire.StandingRequest) wire.StandingResponse {
			return wire.StandingResponse{Standing: wire.StandingActive, Now: theirs}
		}
		b.m.Hub = b.plan.Hub
		if c.silent {
			d.Close()
		}
		if err := b.opt.Dir.SaveNetMap(b.signed(t, b.m, b.key)); err != nil {
			t.Fatal(err)
		}
		wall := time.Now()
		if c.sane {
			wall = floor.Add(time.Hour)
		}
		if err := b.opt.Dir.RaiseTimeFloor(floor); err != nil {
			t.Fatal(err)
		}
		var set []time.Time
		m := clock.Machine{Read: func() (time.Time, time.Duration) { return wall, 0 }}
		if !c.locked {
			m.Synchronized = func() bool { return false }
			m.Set = func(t time.Time) error {
				wall, set = t, append(set, t)
				return nil
			}
		}
		k := clock.NewKeeper(m, b.opt.Dir, b.opt.Log)
		BootClock(t.Context(), k, b.opt.Dir, b.opt.Identity, control.Ways{}, b.opt.Log)
		if d.asked.Load() != c.asked || len(set) != len(c.want) {
			t.Errorf("%s: asked %d times, set to %v", name, d.asked.Load(), set)
			continue
		}
		for i, w := range c.want {
			if set[i].Sub(w).Abs() > time.Second {
				t.Errorf("%s: set to %v, want %v", name, set, c.want)
			}
		}
	}
}

// A box that may set its clock follows the coordinator's heartbeats, and everybody can see it.
func TestClockIsRepairedByHeartbeats(t *testing.T) {
	b := newBox(t)
	wall := time.Now()
	m := clock.Machine{
		Read: func() (time.Time, time.Duration) { return wall, 0 }, Synchronized: func() bool { return false },
		Set: func(t time.Time) error { wall = t; return nil },
	}
	b.clock = clock.NewKeeper(m, b.opt.Dir, b.opt.Log)
	theirs := wall.Add(3 * time.Hour)
	s := b.signed(t, b.m, b.key)
	if err := b.frame(wire.Frame{NetMap: &s, Generation: 5, Now: theirs}); err != nil || len(b.health.List()) > 0 {
		t.Fatalf("the time that came with a map may be old: %v, %v", err, b.health.List())
	}
	if err := b.frame(wire.Frame{Generation: 5, Now: theirs}); err != nil {
		t.Fatal(err)
	}
	if !wall.Equal(theirs) {
		t.Errorf("the clock is at %s, want %s", wall, theirs)
	}
	if text := b.condition(codeRepaired, health.Info); !strings.Contains(text, "3h0m0s behind") || b.health.Has(codeSkew) {
		t.Errorf("conditions: %v", b.health.List())
	}
	r, _ := b.report()
	if len(r.Conditions) != 1 || r.Conditions[0].Code != "clock-repaired" || r.Conditions[0].Severity != "info" {
		t.Errorf("the report has %v", r.Conditions)
	}
	// One that may not is told only.
	b = newBox(t)
	if err := b.frame(wire.Frame{Generation: 5, Now: time.Now().Add(3 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if b.condition(codeSkew, health.Warning) == "" {
		t.Errorf("conditions: %v", b.health.List())
	}
}

// The silence of what people carry around is nobody's business; a gateway's is.
func TestSilenceOfPeers(t *testing.T) {
	b := newBox(t)
	silent := func(site string, kind wire.NodeKind) wire.Peer {
		return wire.Peer{Site: site, Kind: kind, PublicKey: [32]byte{byte(len(site))}, Endpoints: []string{"127.0.0.1:9"}}
	}
	turning := silent("turning", "")
	turning.NextKey = [32]byte{99}
	b.plan.Peers = []wire.Peer{silent("box", ""), silent("laptop", wire.Workstation), silent("printer", wire.Unmanaged), turning}
	b.dev.status = func() tunnel.Status {
		return tunnel.Status{Peers: []tunnel.PeerStatus{
			{PublicKey: turning.PublicKey, LastHandshake: time.Now().Add(-time.Hour)}, {PublicKey: turning.NextKey, LastHandshake: time.Now()},
		}}
	}
	b.observe(context.Background())
	if list := b.health.List(); len(list) != 1 || list[0].Code != codePeer+"box" {
		t.Errorf("conditions: %v, want the box's alone", list)
	}
}
