package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
)

// Stamp scans a time as a column: nanoseconds since 1970, NULL for the zero time. It comes back in UTC.
type Stamp struct{ time.Time }

// minTime and maxTime are the first and the last time that nanoseconds in 64 bits can tell.
func minTime() time.Time { return time.Unix(0, -1<<63) }
func maxTime() time.Time { return time.Unix(0, 1<<63-1) }

// Nanos returns the column of a time, the nearest there is for one that cannot be told.
func Nanos(t time.Time) any {
	switch {
	case t.IsZero():
		return nil
	case t.Before(minTime()):
		return int64(-1 << 63)
	case t.After(maxTime()):
		return int64(1<<63 - 1)
	}
	return t.UnixNano()
}

// CheckEventTime refuses a time that Nanos would change: the hash of an event covers it.
func CheckEventTime(t time.Time) error {
	if t.Before(minTime()) || t.After(maxTime()) {
		return provisioning.Errorf(provisioning.Invalid, "the event has no time that can be kept")
	}
	return nil
}

// CheckHistory refuses an entry that would not come back as it is.
func CheckHistory(e provisioning.RangeEvent) error {
	return errors.Join(CheckEventTime(e.At), e.Range.Validate())
}

// Scan implements sql.Scanner.
func (s *Stamp) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		s.Time = time.Time{}
	case int64:
		s.Time = time.Unix(0, v).UTC()
	default:
		return fmt.Errorf("a time is stored as %T", v)
	}
	return nil
}

// Fixed scans a column of exactly len(f) bytes.
type Fixed []byte

// Scan implements sql.Scanner.
func (f Fixed) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("want %d bytes, stored are %T of %d", len(f), v, len(b))
	}
	copy(f, b)
	return nil
}

// Document scans a column of JSON.
type Document struct{ Into any }

// Scan implements sql.Scanner.
func (d Document) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), d.Into)
	case []byte:
		return json.Unmarshal(v, d.Into)
	}
	return fmt.Errorf("a document is stored as %T", v)
}

// Documents encodes what a Node reports of itself.
func Documents(n provisioning.Node) (facts, conditions, queues []byte, err error) {
	facts, err1 := json.Marshal(n.Facts)
	conditions, err2 := json.Marshal(n.Conditions)
	queues, err3 := json.Marshal(n.Queues)
	return facts, conditions, queues, errors.Join(err1, err2, err3)
}
