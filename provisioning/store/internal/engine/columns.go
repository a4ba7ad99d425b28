package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
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

// Optional scans a column as Fixed does; NULL leaves it as it is.
type Optional []byte

// Scan implements sql.Scanner.
func (o Optional) Scan(v any) error {
	if v == nil {
		return nil
	}
	return Fixed(o).Scan(v)
}

// OptionalKey returns the column of a key, NULL for the zero value.
func OptionalKey(k wgkey.PublicKey) any {
	if k.IsZero() {
		return nil
	}
	return k[:]
}

// TextAddr scans a column with the text of an address, empty for the zero value.
type TextAddr struct{ Into *netip.Addr }

// Scan implements sql.Scanner.
func (a TextAddr) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return a.Into.UnmarshalText([]byte(v))
	case []byte:
		return a.Into.UnmarshalText(v)
	}
	return fmt.Errorf("an address is stored as %T", v)
}

// AddrText returns the column of an address.
func AddrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// MemberDocument encodes what was signed of a Node; none is null.
func MemberDocument(m *wire.SignedMember) ([]byte, error) { return json.Marshal(m) }

// UseDocument encodes one use of a Token.
func UseDocument(u provisioning.TokenUse) ([]byte, error) {
	u.At = u.At.UTC()
	return json.Marshal(u)
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
