package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// TestProgress has a queue that empties at a steady rate, one that stands and one with nothing in it.
func TestProgress(t *testing.T) {
	x, now := newWatcher(), time.Unix(1000, 0)
	steady := spool.QueueStats{Queue: "a", Queued: 100, QueuedBytes: 100 << 20}
	stands := spool.QueueStats{Queue: "b", Queued: 2, QueuedBytes: 1000, LastError: "no route", Locked: 1, Full: "items"}
	var v progressView
	for range 60 {
		v = x.look(now, []spool.QueueStats{steady, stands, {Queue: "c"}})
		now = now.Add(time.Second)
		// Half of it is carried, and half delivered.
		steady.QueuedBytes -= 1 << 20
		steady.Queued--
		steady.CarriedBytes += 1 << 19
		steady.DeliveredBytes += 1 << 19
	}
	a, b, c := v.Queues[0], v.Queues[1], v.Queues[2]
	if a.Rate < 1<<20*99/100 || a.Rate > 1<<20*101/100 || a.Remaining == nil || *a.Remaining < 40 || *a.Remaining > 42 || a.Waiting != 41 {
		t.Errorf("%+v", a)
	}
	if b.Rate != 0 || b.Remaining != nil || c.Remaining != nil {
		t.Errorf("%+v, %+v", b, c)
	}
	if got := strings.Join(v.rows()[0], "|"); got != "a|41|43.0 MB|0|0|1.0 MB/s|in 41 s|" {
		t.Errorf("%q", got)
	}
	if got := strings.Join(v.rows()[1], "|"); got != "b|2|1.0 kB|0|0|0 B/s|stands|full (items); 1 item without key; no route" {
		t.Errorf("%q", got)
	}
	if got := v.rows()[2][6]; got != "nothing waits" {
		t.Errorf("%q", got)
	}
	// What stops is seen soon, and a restart of the gateway, which counts anew, is no negative rate.
	steady.DeliveredBytes, steady.CarriedBytes = 0, 0
	for range 30 {
		v = x.look(now, []spool.QueueStats{steady})
		now = now.Add(time.Second)
	}
	if r := v.Queues[0].Rate; r < 0 || r > 1<<20/4 {
		t.Errorf("it stands for 30 s and the rate is %v", r)
	}
}

func TestProgressOutput(t *testing.T) {
	one := progressView{At: time.Unix(1000, 0).UTC(), Queues: []queueProgress{{Queue: "a", Waiting: 1, Bytes: 5}}}
	two := one
	two.Queues = []queueProgress{{Queue: "a", Waiting: 2, Bytes: 5}, {Queue: "b"}}
	var terminal, plain, stream bytes.Buffer
	for _, o := range []*watchOutput{{w: &terminal, terminal: true}, {w: &plain}, {w: &stream, json: true}} {
		for _, v := range []progressView{one, one, two, two} {
			if err := o.show(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := strings.Count(terminal.String(), "\x1b[2A\x1b[J"); got != 2 || strings.Count(terminal.String(), "\x1b[3A\x1b[J") != 1 {
		t.Errorf("the terminal gets %q", terminal.String())
	}
	if strings.Contains(plain.String(), "\x1b") || strings.Count(plain.String(), "QUEUE") != 2 || !strings.Contains(plain.String(), "1970-01-01T00:16:40Z\n") {
		t.Errorf("a log gets %q", plain.String())
	}
	lines := strings.Split(strings.TrimSpace(stream.String()), "\n")
	for _, l := range lines {
		var v progressView
		if err := json.Unmarshal([]byte(l), &v); err != nil || v.Queues[0].Queue != "a" {
			t.Errorf("%q (%v)", l, err)
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d lines of JSON", len(lines))
	}
}

func TestSpoolLine(t *testing.T) {
	for want, u := range map[string]spool.Usage{
		"Queues hold 0 B, 700 B more fit on the disk; encrypted.": {FreeBytes: 1000, MinFreeBytes: 300, Sealed: true},
		"Queues hold 5 B of 10 B, 0 B more fit on the disk; encrypted, but for 2 items of an older version; 1 item without key.": {
			Bytes: 5, MaxBytes: 10, MinFreeBytes: 1, Sealed: true, Plain: 2, Locked: 1,
		},
		"Queues hold 0 B, 0 B more fit on the disk; NOT encrypted; 3 files damaged and set aside.": {Plain: 2, Quarantined: 3},
	} {
		if got := spoolLine(u); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
