package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
)

// Source is the archive.
type Source interface {
	Studies(ctx context.Context, span dicom.Span) ([]dicom.FoundStudy, error)
	Instances(ctx context.Context, study string) ([]dicom.FoundInstance, error)
	// Fetch brings what is missing of a study into the queue: all of it if missing is the whole. It calls fetched for each object that
	// is safe, and may do so after an error, too.
	Fetch(ctx context.Context, study string, found, missing []dicom.FoundInstance, fetched func(uid string)) error
	// Idle is called when nothing is asked for a while: end what is open.
	Idle(ctx context.Context)
}

// What a zero Config means.
const (
	DefaultEvery   = 15 * time.Minute
	DefaultOverlap = 3 * 24 * time.Hour
	DefaultSettle  = 10 * time.Minute
	DefaultPause   = time.Second
	minEvery       = 10 * time.Second
	maxOverlap     = 366 * 24 * time.Hour
)

// Config says when and what.
type Config struct {
	Source Source
	// Journal is the file in which the Poller keeps what it knows.
	Journal string
	// Since is the day of the oldest studies to be fetched. Required.
	Since time.Time
	// Every is the time between two rounds. Overlap is how far each looks back before the end of the last complete one: studies appear late in
	// archives. A study that appears later than that after its own date is not found.
	Every, Overlap time.Duration
	// Settle is how long a study must have stayed as it is before it is fetched. Objects that come later are fetched, too, by
	// themselves.
	Settle time.Duration
	// Pause is the time between two studies, to leave the archive air.
	Pause time.Duration
	// Hours are when studies may be fetched, in local time; looking is always allowed. The zero value is always.
	Hours Hours
	// Modalities limits what is fetched to studies that have one of these. Empty means all. An archive that does not say what a study has gets
	// all of it fetched.
	Modalities []string
	// Log may be nil.
	Log *slog.Logger
}

// Hours is a part of the day, by its beginning and end in minutes after midnight; the end may be before the beginning: over midnight.
type Hours struct{ From, To int }

// ParseHours reads "22:00-06:00". Empty is always.
func ParseHours(s string) (Hours, error) {
	if s == "" {
		return Hours{}, nil
	}
	var h1, m1, h2, m2 int
	if n, err := fmt.Sscanf(s, "%d:%d-%d:%d", &h1, &m1, &h2, &m2); n != 4 || err != nil || s != fmt.Sprintf("%02d:%02d-%02d:%02d", h1, m1, h2, m2) {
		return Hours{}, errors.New("write the hours as HH:MM-HH:MM, such as 22:00-06:00")
	}
	if h1 > 23 || h2 > 23 || m1 > 59 || m2 > 59 || h1 == h2 && m1 == m2 {
		return Hours{}, errors.New("the hours must be two different times of the day, such as 22:00-06:00")
	}
	return Hours{From: 60*h1 + m1, To: 60*h2 + m2}, nil
}

// Contain reports whether t, in its own time zone, is in the Hours.
func (h Hours) Contain(t time.Time) bool {
	at := 60*t.Hour() + t.Minute()
	switch {
	case h == Hours{}:
		return true
	case h.From < h.To:
		return at >= h.From && at < h.To
	}
	return at >= h.From || at < h.To
}

func (c Config) withDefaults() (Config, error) {
	if c.Source == nil || c.Journal == "" || c.Since.IsZero() {
		return c, errors.New("polling needs an archive, a journal and the day of the oldest study")
	}
	for _, d := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&c.Every, DefaultEvery}, {&c.Overlap, DefaultOverlap}, {&c.Settle, DefaultSettle}, {&c.Pause, DefaultPause}} {
		if *d.to == 0 {
			*d.to = d.def
		}
		if *d.to < 0 {
			return c, errors.New("times of polling cannot be negative")
		}
	}
	if c.Every < minEvery || c.Overlap > maxOverlap {
		return c, fmt.Errorf("rounds must be at least %v apart and look back at most %v", minEvery, maxOverlap)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
