package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/spool"
)

// rateOver is over how long a rate is smoothed: a queue that empties by objects must not look as if it stood between two.
const rateOver = 15 * time.Second

// queueProgress is how one queue does.
type queueProgress struct {
	Queue string `json:"queue"`
	// Waiting and Bytes are what is here and not carried away yet.
	Waiting int   `json:"waiting"`
	Bytes   int64 `json:"bytes"`
	Carried int   `json:"carried"`
	Parked  int   `json:"parked"`
	Locked  int   `json:"locked,omitempty"`
	// Rate is what leaves, in bytes per second; Remaining when all that waits is gone at that rate, in seconds, absent if that cannot be said.
	Rate      float64 `json:"rate"`
	Remaining *int64  `json:"remaining,omitempty"`
	// Full names the bound that is reached, if one is.
	Full      string `json:"full,omitempty"`
	LastError string `json:"last_error,omitempty"`
}

// progressView is one look.
type progressView struct {
	At     time.Time       `json:"at"`
	Queues []queueProgress `json:"queues"`
}

// watcher compares each look with the one before.
type watcher struct {
	last  time.Time
	moved map[string]int64
	rate  map[string]float64
}

func newWatcher() *watcher { return &watcher{moved: map[string]int64{}, rate: map[string]float64{}} }

// look computes rates from what has left since the last look: what was delivered, and what the far gateway has.
func (x *watcher) look(now time.Time, all []spool.QueueStats) progressView {
	v := progressView{At: now.UTC(), Queues: []queueProgress{}}
	passed := now.Sub(x.last)
	for _, q := range all {
		moved := q.DeliveredBytes + q.CarriedBytes
		before, known := x.moved[q.Queue]
		x.moved[q.Queue] = moved
		if known && passed > 0 {
			momentary := max(float64(moved-before), 0) / passed.Seconds()
			weight := 1 - math.Exp(-passed.Seconds()/rateOver.Seconds())
			if old, moving := x.rate[q.Queue]; moving {
				momentary = old + weight*(momentary-old)
			}
			if momentary < 1 {
				momentary = 0
			}
			x.rate[q.Queue] = momentary
		}
		p := queueProgress{
			Queue: q.Queue, Waiting: q.Queued, Bytes: q.QueuedBytes, Carried: q.Carried, Parked: q.Parked, Locked: q.Locked,
			Rate: math.Round(x.rate[q.Queue]), Full: q.Full, LastError: q.LastError,
		}
		if rate := x.rate[q.Queue]; rate > 0 && q.QueuedBytes > 0 {
			left := int64(math.Ceil(float64(q.QueuedBytes) / rate))
			p.Remaining = &left
		}
		v.Queues = append(v.Queues, p)
	}
	x.last = now
	return v
}

// rows are what a person sees of a look.
func (v progressView) rows() [][]string {
	var rows [][]string
	for _, q := range v.Queues {
		rows = append(rows, []string{
			q.Queue, strconv.Itoa(q.Waiting), ui.Bytes(q.Bytes), strconv.Itoa(q.Carried), strconv.Itoa(q.Parked), ui.Bytes(int64(q.Rate)) + "/s",
			q.remaining(), q.because(),
		})
	}
	return rows
}

func (q queueProgress) remaining() string {
	switch {
	case q.Waiting == 0:
		return "nothing waits"
	case q.Remaining == nil:
		return "stands"
	}
	d := time.Duration(*q.Remaining) * time.Second
	return "in " + ui.For(time.Time{}.Add(time.Second), time.Time{}.Add(time.Second+d))
}

func (q queueProgress) because() string {
	var parts []string
	if q.Full != "" {
		parts = append(parts, "full ("+q.Full+")")
	}
	if q.Locked > 0 {
		parts = append(parts, ui.Count(q.Locked, "item")+" without key")
	}
	if q.LastError != "" {
		parts = append(parts, q.LastError)
	}
	return strings.Join(parts, "; ")
}

// watchOutput is where looks go.
type watchOutput struct {
	w        io.Writer
	terminal bool
	json     bool
	// lines is how many the last look took on a terminal, told what it said elsewhere.
	lines int
	told  string
}

func (o *watchOutput) show(v progressView) error {
	if o.json {
		return ui.JSONLine(o.w, v)
	}
	var text bytes.Buffer
	if len(v.Queues) == 0 {
		fmt.Fprintln(&text, "No queue was ever used.")
	} else if err := ui.Table(&text, []string{"QUEUE", "WAITING", "SIZE", "CARRIED", "PARKED", "RATE", "DONE", "BECAUSE"}, v.rows()); err != nil {
		return err
	}
	if o.terminal {
		if o.lines > 0 {
			fmt.Fprintf(o.w, "\x1b[%dA\x1b[J", o.lines)
		}
		o.lines = bytes.Count(text.Bytes(), []byte("\n"))
		_, err := o.w.Write(text.Bytes())
		return err //nolint:wrapcheck // standard output
	}
	if text.String() == o.told {
		return nil // a log needs no line that says the same again
	}
	o.told = text.String()
	_, err := fmt.Fprintf(o.w, "%s\n%s", v.At.Format(time.RFC3339), o.told)
	return err //nolint:wrapcheck // standard output
}

// watchStatus looks again and again, until it is stopped or the gateway is.
func watchStatus(c *cli.Context) error {
	every := c.Duration("every")
	if every < time.Second || every > time.Hour {
		return ui.Usagef("between 1s and 1h", "--every %s makes no sense", every)
	}
	out := &watchOutput{w: c.App.Writer, terminal: c.App.Writer == os.Stdout && terminal(os.Stdout), json: c.Bool("json")}
	return explainWatch(c, watchQueues(c.Context, localClient(c), every, out))
}

func explainWatch(c *cli.Context, err error) error {
	if err == nil || c.Context.Err() != nil {
		return nil //nolint:nilerr // stopped by whoever looked
	}
	return notRunning(c, err)
}

func watchQueues(ctx context.Context, q localapi.Queues, every time.Duration, out *watchOutput) error {
	x, tick := newWatcher(), time.NewTicker(every)
	defer tick.Stop()
	for {
		all, err := q.Stats(ctx)
		if err != nil {
			return err //nolint:wrapcheck // notRunning explains
		}
		if err := out.show(x.look(time.Now(), all)); err != nil {
			return errors.Join(errors.New("show the progress"), err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// spoolLine says how full the disk's part for queues is, and how it is encrypted.
func spoolLine(u spool.Usage) string {
	text := "Queues hold " + ui.Bytes(u.Bytes)
	if u.MaxBytes > 0 {
		text += " of " + ui.Bytes(u.MaxBytes)
	}
	text += ", " + ui.Bytes(max(u.FreeBytes-u.MinFreeBytes, 0)) + " more fit on the disk"
	if u.Sealed {
		text += "; encrypted"
	} else {
		text += "; NOT encrypted"
	}
	if u.Plain > 0 && u.Sealed {
		text += fmt.Sprintf(", but for %s of an older version", ui.Count(u.Plain, "item"))
	}
	if u.Locked > 0 {
		text += fmt.Sprintf("; %s without key", ui.Count(u.Locked, "item"))
	}
	if u.Quarantined > 0 {
		text += fmt.Sprintf("; %s damaged and set aside", ui.Count(u.Quarantined, "file"))
	}
	return text + "."
}

// sumOf is the digest of an item, or why there is none.
func sumOf(i localapi.QueueItem) string {
	if i.Locked {
		return "encrypted, and the key is not here"
	}
	return i.SHA256
}
