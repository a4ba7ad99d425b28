package health_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/gateway/health"
)

func TestSinceStaysWhileAConditionHolds(t *testing.T) {
	var s health.Set
	begin := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	if !s.Raise("clock", health.Warning, "a minute off", begin) {
		t.Error("a new Condition must count as a change")
	}
	if s.Raise("clock", health.Warning, "a minute off", begin.Add(time.Hour)) {
		t.Error("the same Condition again is no change")
	}
	if !s.Raise("clock", health.Error, "an hour off", begin.Add(2*time.Hour)) {
		t.Error("another severity is a change")
	}
	want := []health.Condition{{Code: "clock", Severity: health.Error, Message: "an hour off", Since: begin}}
	if d := cmp.Diff(want, s.List()); d != "" {
		t.Errorf("conditions (-want +got):\n%s", d)
	}
}

func TestListIsWorstFirst(t *testing.T) {
	var s health.Set
	now := time.Now()
	s.Raise("b", health.Info, "", now)
	s.Raise("c", health.Error, "", now)
	s.Raise("a", health.Warning, "", now)
	s.Raise("d", health.Error, "", now)
	var got []string
	for _, c := range s.List() {
		got = append(got, c.Code)
	}
	if d := cmp.Diff([]string{"c", "d", "a", "b"}, got); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestHealthyIgnoresInfo(t *testing.T) {
	var s health.Set
	s.Raise("note", health.Info, "", time.Now())
	if !s.Healthy() {
		t.Error("information alone must not make a box unhealthy")
	}
	s.Raise("bad", health.Warning, "", time.Now())
	if s.Healthy() {
		t.Error("a warning must make a box unhealthy")
	}
	if !s.Clear("bad") || s.Clear("bad") {
		t.Error("Clear must report whether the Condition held")
	}
}

func TestKeepClearsOnlyItsOwnFamily(t *testing.T) {
	var s health.Set
	for _, c := range []string{"peer/a", "peer/b", "queue/a"} {
		s.Raise(c, health.Error, "", time.Now())
	}
	s.Keep("peer/", []string{"peer/b"})
	var got []string
	for _, c := range s.List() {
		got = append(got, c.Code)
	}
	if d := cmp.Diff([]string{"peer/b", "queue/a"}, got); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}
