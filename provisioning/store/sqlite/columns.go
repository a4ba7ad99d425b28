package sqlite

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// stamp is a time as a column: nanoseconds since 1970, NULL for the zero time.
type stamp struct{ time.Time }

// The first and the last time that nanoseconds in 64 bits can tell.
var (
	minTime = time.Unix(0, -1<<63)  //nolint:gochecknoglobals // a constant in all but name
	maxTime = time.Unix(0, 1<<63-1) //nolint:gochecknoglobals // a constant in all but name
)

// nanos returns the column of a time.
func nanos(t time.Time) any {
	switch {
	case t.IsZero():
		return nil
	case t.Before(minTime):
		return int64(-1 << 63)
	case t.After(maxTime):
		return int64(1<<63 - 1)
	}
	return t.UnixNano()
}

// Scan implements sql.Scanner.
func (s *stamp) Scan(v any) error {
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

// fixed scans a column of exactly len(f) bytes.
type fixed []byte

// Scan implements sql.Scanner.
func (f fixed) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("want %d bytes, stored are %T of %d", len(f), v, len(b))
	}
	copy(f, b)
	return nil
}

// document scans a column of JSON.
type document struct{ into any }

// Scan implements sql.Scanner.
func (d document) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("a document is stored as %T", v)
	}
	return json.Unmarshal([]byte(s), d.into)
}

// blobOf is an address as a column.
func blobOf(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}

// addrOf reads blobOf's form.
func addrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }
