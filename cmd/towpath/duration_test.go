package main

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"30d": 30 * day, "2w": 14 * day, "1w3d12h": 10*day + 12*time.Hour, "36h": 36 * time.Hour, " 7d ": 7 * day, "0": 0, "0d": 0, "1d1.5h": day + 90*time.Minute,
		"106751d": 106751 * day,
	} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "d", "7", "-1d", "-1h", "1d-1h", "7 days", "1.5d", "106752d", "99999999999999999999d", "15250w999999h", "7dd", "w1"} {
		if got, err := parseDuration(in); err == nil {
			t.Errorf("%q is %v, want an error", in, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1w3d12h")
	f.Add("106751d23h47m")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseDuration(s); err == nil && d < 0 {
			t.Errorf("%q is %v", s, d)
		}
	})
}

func TestDurationInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 days", day: "1 day", 30 * day: "30 days", time.Hour: "1 hour", 36 * time.Hour: "36 hours", 90 * time.Second: "1m30s"} {
		if got := inWords(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
