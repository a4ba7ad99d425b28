package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// What a zero Options means.
const (
	DefaultMinFree    = 256 << 20
	DefaultBackoffMin = time.Second
	DefaultBackoffMax = 5 * time.Minute
)

// Limits on what a producer may say.
const (
	// MaxAttributes bounds keys and values of Meta.Attributes together, in bytes.
	MaxAttributes = 16 << 10
	maxQueueName  = 96
	// MaxPriority is the highest Meta.Priority.
	MaxPriority = 9
)

// Options tune a Spool. The zero value is good.
type Options struct {
	// MaxBytes bounds the bytes of all files of items, finished or not. Zero means no bound.
	MaxBytes int64
	// MinFreeBytes is the space that must stay free on the filesystem; new items are refused a quarter earlier. Zero means
	// DefaultMinFree, negative means none.
	MinFreeBytes int64
	// Ordered reports whether a queue is strictly first in, first out, within one priority. It is asked once per queue. Nil means that none is.
	Ordered func(queue string) bool
	// Backoff is the time between attempts.
	Backoff Backoff
	// MaxShared is the largest item, in bytes as it is stored, that goes into the journal, where many share a file and a sync; larger ones
	// have a file of their own. Zero means 64 KiB, which is also the most, negative that all have.
	MaxShared int
	// Log may be nil.
	Log *slog.Logger

	segmentSize int64 // of the journal, and its slack; zero but in tests
}

// Backoff is exponential with full jitter: after attempt n the wait is drawn evenly from zero to min(Max, Min·2ⁿ⁻¹).
type Backoff struct {
	// Min and Max bound the range's upper end. Zero means the default.
	Min, Max time.Duration
}

// ceiling returns the longest wait after that many attempts.
func (b Backoff) ceiling(attempts int) time.Duration {
	d := b.Min
	for range attempts - 1 {
		if d >= b.Max/2 {
			return b.Max
		}
		d *= 2
	}
	return min(d, b.Max)
}

func (b Backoff) wait(attempts int) time.Duration { return rand.N(b.ceiling(attempts) + 1) }

// away is the wait after an UnreachableError: at most a tenth of Max, so that the end of an outage is noticed soon.
func (b Backoff) away(attempts int) time.Duration {
	return rand.N(min(b.ceiling(attempts), max(b.Max/10, b.Min)) + 1)
}

func (o Options) withDefaults() Options {
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = DefaultMinFree
	}
	if o.MaxShared == 0 || o.MaxShared > maxImage {
		o.MaxShared = maxImage
	}
	if o.Ordered == nil {
		o.Ordered = func(string) bool { return false }
	}
	if o.Backoff.Min <= 0 {
		o.Backoff.Min = DefaultBackoffMin
	}
	if o.Backoff.Max <= 0 {
		o.Backoff.Max = DefaultBackoffMax
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (m Meta) validate() error {
	if err := validQueue(m.Queue); err != nil {
		return err
	}
	if m.Priority < 0 || m.Priority > MaxPriority {
		return fmt.Errorf("the priority %d is not between 0 and %d", m.Priority, MaxPriority)
	}
	size := 0
	for k, v := range m.Attributes {
		size += len(k) + len(v)
		if !validText(k) || !validText(v) {
			return errors.New("an attribute is not valid UTF-8")
		}
	}
	if size > MaxAttributes {
		return fmt.Errorf("the attributes take %d bytes, more than %d", size, MaxAttributes)
	}
	return nil
}

// validQueue accepts [a-z0-9.-]{1,96}: a service's name with what stands before it.
func validQueue(name string) error {
	if name == "" || len(name) > maxQueueName {
		return fmt.Errorf("the queue name has %d characters; it must have 1 to %d", len(name), maxQueueName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return fmt.Errorf("the queue name %q may hold only a-z, 0-9, dot and hyphen", name)
		}
	}
	return nil
}
