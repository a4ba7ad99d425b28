package transfer

import (
	"testing"
	"time"
)

// TestKeepsUp: blocks are encoded only where the receiver decodes them as fast as the line brings them, and it is asked again after a while.
func TestKeepsUp(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		nsPerByte, rate float64
		age             time.Duration
		want            bool
	}{
		"nothing said":                          {0, 5e6, time.Hour, true},
		"slow line":                             {600, 1.25e6, 0, true},
		"quick line, quick receiver":            {150, 5e6, 0, true},
		"quick line, slow receiver":             {170, 5e6, 0, false},
		"slow receiver that said so a time ago": {300, 5e6, farFresh + time.Second, true},
		"one that would still be too slow":      {400, 5e6, farFresh + time.Second, false},
	} {
		s := newSpeed()
		s.line(c.rate, now)
		s.line(c.rate/10, now.Add(time.Second)) // held up
		if c.nsPerByte > 0 {
			s.heard(uint64(c.nsPerByte*1000), now.Add(-c.age))
		}
		if got := s.keepsUp(now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestDecodingReport: a report is the time in which anything was decoded by what came of it, once.
func TestDecodingReport(t *testing.T) {
	var d decoding
	if _, news := d.report(); news {
		t.Error("a report before anything was decoded")
	}
	at := time.Unix(1_000_000, 0)
	after := func(us int) time.Time { return at.Add(time.Duration(us) * time.Microsecond) }
	for i := range 50 { // two lanes, of which one waits for the other: 40 µs of each 100
		d.begin(after(100 * i))
		d.begin(after(100*i + 5))
		d.end(1000, after(100*i+20))
		d.end(1000, after(100*i+40))
	}
	if ps, news := d.report(); !news || ps != 20_000 {
		t.Errorf("%d ps a byte, news %v; want 20000", ps, news)
	}
	if _, news := d.report(); news {
		t.Error("a report without news")
	}
}
