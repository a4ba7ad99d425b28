package standby_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/standby"
)

// step is one probe at a second of the test, and what must be wanted then. Every wish is carried out.
type step struct {
	at      int
	gateway string
	verdict standby.Verdict
	want    standby.Decision
}

func stay(at string) standby.Decision { return standby.Decision{To: at} }

func TestChoice(t *testing.T) {
	failed := func(to string) standby.Decision { return standby.Decision{To: to, Why: standby.Failed} }
	returned := standby.Decision{To: "a", Why: standby.Returned}
	for name, steps := range map[string][]step{
		"one failure is none": {
			{0, "a", standby.Healthy, stay("a")},
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Healthy, stay("a")},
			{3, "a", standby.Failing, stay("a")},
		},
		"two in a row move": {
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, failed("b")},
			{3, "a", standby.Failing, stay("b")},
		},
		"to nobody that is not healthy": {
			{0, "a", standby.Failing, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "b", standby.Failing, stay("a")},
			{3, "a", standby.Failing, stay("a")},
			{4, "b", standby.Healthy, failed("b")},
		},
		"by rank": {
			{0, "c", standby.Healthy, stay("a")},
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, failed("b")},
		},
		"back after the hold-down": {
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, failed("b")},
			{10, "a", standby.Healthy, stay("b")},
			{69, "a", standby.Healthy, stay("b")},
			{70, "a", standby.Healthy, returned},
		},
		"a break begins the hold-down anew": {
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, failed("b")},
			{10, "a", standby.Healthy, stay("b")},
			{40, "a", standby.Failing, stay("b")},
			{41, "a", standby.Healthy, stay("b")},
			{100, "a", standby.Healthy, stay("b")},
			{101, "a", standby.Healthy, returned},
		},
		"a dead standby is left without hold-down": {
			{0, "b", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, failed("b")},
			{3, "a", standby.Healthy, stay("b")},
			{4, "b", standby.Failing, stay("b")},
			{5, "b", standby.Failing, failed("a")},
		},
		"no move to a lower rank without need": {
			{0, "a", standby.Healthy, stay("a")},
			{0, "b", standby.Healthy, stay("a")},
			{500, "b", standby.Healthy, stay("a")},
		},
		"where nobody reaches anything, nothing is left, and nobody gone to": {
			{0, "b", standby.Unsure, stay("a")},
			{1, "a", standby.Unsure, stay("a")},
			{2, "a", standby.Unsure, stay("a")},
			{3, "b", standby.Healthy, stay("a")},
			{4, "a", standby.Failing, stay("a")},
			{5, "a", standby.Unsure, stay("a")},
			{6, "a", standby.Failing, stay("a")},
			{7, "b", standby.Unsure, stay("a")},
			{8, "a", standby.Failing, stay("a")},
		},
		"strangers": {
			{0, "x", standby.Healthy, stay("a")},
			{1, "a", standby.Failing, stay("a")},
			{2, "a", standby.Failing, stay("a")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := standby.New(standby.Options{}, []string{"a", "b", "c"}, "")
			for _, s := range steps {
				now := time.Unix(int64(s.at), 0)
				got := m.Observe(s.gateway, s.verdict, now)
				if got != s.want {
					t.Fatalf("at %d s, %s %d: %+v, want %+v", s.at, s.gateway, s.verdict, got, s.want)
				}
				m.Moved(got.To, now)
			}
		})
	}
}

func TestFailedMoveIsRepeated(t *testing.T) {
	m := standby.New(standby.Options{Failures: 1}, []string{"a", "b"}, "")
	m.Observe("b", standby.Healthy, time.Unix(0, 0))
	want := standby.Decision{To: "b", Why: standby.Failed}
	for i := range 3 {
		if got := m.Observe("a", standby.Failing, time.Unix(int64(i), 0)); got != want {
			t.Fatalf("try %d: %+v, want %+v", i, got, want)
		}
		if m.Active() != "a" {
			t.Fatalf("active is %s before the move was confirmed", m.Active())
		}
	}
}

func TestRestartKeepsTheActiveOne(t *testing.T) {
	m := standby.New(standby.Options{}, []string{"a", "b"}, "b")
	if m.Active() != "b" {
		t.Fatalf("active is %s, want b", m.Active())
	}
	m.Observe("a", standby.Healthy, time.Unix(0, 0))
	if d := m.Observe("a", standby.Healthy, time.Unix(59, 0)); d.Why != standby.Stay {
		t.Fatalf("%+v before the hold-down ended", d)
	}
	if d := m.Observe("a", standby.Healthy, time.Unix(60, 0)); d.To != "a" {
		t.Fatalf("%+v, want a", d)
	}
	if got := standby.New(standby.Options{}, []string{"a", "b"}, "gone").Active(); got != "a" {
		t.Fatalf("active is %s, want the first", got)
	}
}

// TestChoiceHolds runs any sequence of probes, some moves failing, against what must hold whatever happens.
func TestChoiceHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hold := time.Duration(rapid.IntRange(1, 20).Draw(t, "hold")) * time.Second
		failures := rapid.IntRange(1, 3).Draw(t, "failures")
		ranked := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "gateways")]
		m := standby.New(standby.Options{Failures: failures, Hold: hold}, ranked, "")
		now := time.Unix(0, 0)
		var moved time.Time
		fails, since := map[string]int{}, map[string]time.Time{}
		for range rapid.IntRange(1, 100).Draw(t, "probes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			n := rapid.SampledFrom(ranked).Draw(t, "gateway")
			v := rapid.SampledFrom([]standby.Verdict{standby.Failing, standby.Failing, standby.Unsure, standby.Healthy, standby.Healthy}).Draw(t, "verdict")
			if v == standby.Failing {
				fails[n]++
			} else {
				fails[n] = 0
			}
			if v != standby.Healthy {
				delete(since, n)
			} else if since[n].IsZero() {
				since[n] = now
			}
			was := m.Active()
			d := m.Observe(n, v, now)
			rises := slices.Index(ranked, d.To) < slices.Index(ranked, was)
			switch {
			case (d.To == was) != (d.Why == standby.Stay):
				t.Fatalf("%+v from %s", d, was)
			case d.To != was && since[d.To].IsZero():
				t.Fatalf("moved to %s, which is not healthy", d.To)
			case d.Why == standby.Failed && fails[was] < failures:
				t.Fatalf("left %s after %d failures of %d", was, fails[was], failures)
			case d.Why == standby.Returned && (!rises || now.Sub(since[d.To]) < hold || !moved.IsZero() && now.Sub(moved) < hold):
				t.Fatalf("returned to %s too early", d.To)
			case d.Why == standby.Stay && fails[was] >= failures && len(since) > 0:
				t.Fatalf("stayed at %s, which is dead, with %d others healthy", was, len(since))
			}
			if d.Why != standby.Stay && rapid.Bool().Draw(t, "works") {
				m.Moved(d.To, now)
				moved = now
			}
		}
	})
}
