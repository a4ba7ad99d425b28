package transfer

import (
	"fmt"
	"slices"
	"time"
)

// Window is a time of the week with its own limit.
type Window struct {
	// Days on which it begins. Empty means every day.
	Days []time.Weekday
	// From and To are times of day since midnight, less than 24 h. To not after From means the next day.
	From, To time.Duration
	// BytesPerSecond is the limit; 0 means none.
	BytesPerSecond int64
}

// Schedule limits what a Sender may use of the line. The zero value does not.
type Schedule struct {
	// BytesPerSecond holds outside all Windows; 0 means no limit.
	BytesPerSecond int64
	// Windows: the first that fits counts.
	Windows []Window
	// Location is where the times of day are those of the clock on the wall. Nil means UTC.
	Location *time.Location
}

// minLimit keeps a limit from being a stop. Bytes per second.
const minLimit = 1000

// Validate says what is wrong.
func (s Schedule) Validate() error {
	limits := []int64{s.BytesPerSecond}
	for i, w := range s.Windows {
		limits = append(limits, w.BytesPerSecond)
		if w.From < 0 || w.To < 0 || w.From >= 24*time.Hour || w.To >= 24*time.Hour {
			return fmt.Errorf("window %d goes from %v to %v; both must be times of day", i+1, w.From, w.To)
		}
		for _, d := range w.Days {
			if d < time.Sunday || d > time.Saturday {
				return fmt.Errorf("window %d has a day %d; days are 0 (Sunday) to 6", i+1, d)
			}
		}
	}
	for _, l := range limits {
		if l != 0 && l < minLimit {
			return fmt.Errorf("a limit of %d bytes per second is less than %d; 0 means none", l, minLimit)
		}
	}
	return nil
}

// Limit returns the bytes per second that may be used at a time; 0 means no limit.
func (s Schedule) Limit(at time.Time) int64 {
	if s.Location != nil {
		at = at.In(s.Location)
	} else {
		at = at.UTC()
	}
	clock := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second +
		time.Duration(at.Nanosecond())
	for _, w := range s.Windows {
		if w.holds(at.Weekday(), clock) {
			return w.BytesPerSecond
		}
	}
	return s.BytesPerSecond
}

func (w Window) holds(day time.Weekday, clock time.Duration) bool {
	begins := func(d time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, d)
	}
	if w.From < w.To {
		return begins(day) && clock >= w.From && clock < w.To
	}
	return (begins(day) && clock >= w.From) || (begins((day+6)%7) && clock < w.To)
}

// bucket spends a limit evenly. It is not safe for concurrent use.
type bucket struct {
	tokens float64
	at     time.Time
}

// burst is how much of a limit may be spent at once.
const burst = 50 * time.Millisecond

// wait returns how long to wait before anything may be sent, at a limit of bytes per second.
func (b *bucket) wait(limit int64, now time.Time) time.Duration {
	if limit == 0 {
		b.tokens, b.at = 0, now
		return 0
	}
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*float64(limit), float64(limit)*burst.Seconds())
	b.at = now
	if b.tokens > 0 {
		return 0
	}
	return time.Duration((1 - b.tokens) / float64(limit) * float64(time.Second))
}

func (b *bucket) spend(n int) { b.tokens -= float64(n) }
