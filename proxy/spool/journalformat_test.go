package spool

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// segmentOf makes a segment of items in groups, and returns where each record is.
func segmentOf(salt uint64, groups [][][]byte) (b []byte, records []record) {
	b = []byte(segmentMark)
	for _, group := range groups {
		begin := int64(len(b))
		for _, body := range group {
			r := record{
				kind: recordItem, ext: extQueued, id: newID(uint64(len(records) + 1)), salt: salt, at: int64(len(b)), group: begin, size: int64(len(body)),
			}
			b = appendRecord(b, r, body)
			records = append(records, r)
		}
	}
	return b, records
}

func drawGroups(t *rapid.T) [][][]byte {
	// A payload may hold what looks like a record, even a true one of another segment.
	forged := appendRecord([]byte("x"), record{kind: recordGone, ext: extQueued, id: newID(1), salt: 12345, group: 8}, nil)
	body := rapid.Custom(func(t *rapid.T) []byte {
		b := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "forged") {
			b = append(b, forged...)
		}
		return b
	})
	return rapid.SliceOfN(rapid.SliceOfN(body, 1, 4), 1, 4).Draw(t, "groups")
}

// TestJournalDamage breaks a closed segment anywhere: what was hit is reported, and all else is found as it was.
func TestJournalDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const salt = 777
		whole, records := segmentOf(salt, drawGroups(t))
		b := bytes.Clone(whole)
		from := rapid.IntRange(0, len(b)-1).Draw(t, "from")
		to := min(len(b), from+rapid.IntRange(1, 50).Draw(t, "bytes"))
		cut := rapid.Bool().Draw(t, "cut")
		switch {
		case cut:
			b, to = b[:from], len(b)
		default:
			for i := from; i < to; i++ {
				b[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
			}
		}
		c, err := readContents(b, salt, int64(len(whole)))
		if errors.Is(err, errNewerJournal) && from <= 6 && to > 6 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var want []record
		hit := 0
		for _, r := range records {
			if r.at < int64(to) && int64(from) < r.end() {
				hit++
			} else {
				want = append(want, r)
			}
		}
		if len(c.records) != len(want) {
			t.Fatalf("%d records, want %d", len(c.records), len(want))
		}
		for i, r := range c.records {
			if r != want[i] {
				t.Fatalf("%+v, want %+v", r, want[i])
			}
		}
		if (len(c.damaged) > 0) != (hit > 0) || c.torn != 0 {
			t.Fatalf("%d records were hit, %d regions are reported, %d bytes torn", hit, len(c.damaged), c.torn)
		}
	})
}

// TestJournalTorn has the machine stop while the last group is written: of that, what is behind the first gap is dropped without a word; what is before it
// was synced, and if it is damaged that is reported.
func TestJournalTorn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole, records := segmentOf(777, drawGroups(t))
		last := records[len(records)-1].group
		b := bytes.Clone(whole)
		at := int64(rapid.IntRange(int(last), len(b)-1).Draw(t, "at"))
		if rapid.Bool().Draw(t, "zeros") {
			clear(b[at:])
		} else {
			b = b[:at]
		}
		c, err := readContents(b, 777, -1)
		if err != nil {
			t.Fatal(err)
		}
		var want []record
		for _, r := range records {
			if r.end() <= at || bytes.Equal(b[min(int(r.at), len(b)):min(int(r.end()), len(b))], whole[r.at:r.end()]) {
				want = append(want, r)
			}
		}
		if len(c.records) != len(want) || len(c.damaged) != 0 {
			t.Fatalf("%d records, want %d; damaged %v", len(c.records), len(want), c.damaged)
		}
		if len(want) > 0 && c.end != want[len(want)-1].end() {
			t.Fatalf("it ends at %d, want %d", c.end, want[len(want)-1].end())
		}
		if last == int64(len(segmentMark)) || len(want) == 0 {
			return
		}
		// With a record of the last group there, all before that group is known to have been synced.
		if want[len(want)-1].group == last {
			hit := rapid.IntRange(len(segmentMark), int(last)-1).Draw(t, "hit")
			b[hit] ^= 1
			if c, err := readContents(b, 777, -1); err != nil || len(c.damaged) == 0 {
				t.Fatalf("%v: damage at %d of what was synced is not reported", err, hit)
			}
		}
	})
}

// TestJournalMarkTellsDamage needs the mark that is written when nobody waits: with it also damage of the last group is told from what is half written.
func TestJournalMarkTellsDamage(t *testing.T) {
	b, records := segmentOf(1, [][][]byte{{[]byte("one"), []byte("two")}})
	marked := appendRecord(bytes.Clone(b), record{kind: recordMarked, ext: extQueued, id: newID(0), salt: 1, group: int64(len(b))}, nil)
	at := records[1].at + recordHead
	for _, content := range [][]byte{b, marked} {
		content[at] ^= 1
		c, err := readContents(content, 1, -1)
		if err != nil {
			t.Fatal(err)
		}
		reported := len(c.damaged) == 1 && c.damaged[0].id == records[1].id
		if told := len(content) == len(marked); reported != told || c.records[0] != records[0] {
			t.Errorf("%d bytes: %+v", len(content), c)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	const a = "000000000000000a."
	for name, want := range map[string]int64{
		a + "ffffffffffffffff.open": -1, a + "ffffffffffffffff.0000000000000010.log": 16, a + "ffffffffffffffff.10.log": 0, a + "log": 0, a + "open": 0,
		"a.ffffffffffffffff.open": 0, a + "ffffffffffffffff.000000000000001g.log": 0, a + "ffffffffffffffff.open.bak": 0, "": 0, a + "..": 0,
		a + "ffffffffffffffff.-000000000000001.log": 0,
	} {
		number, salt, length, ok := parseSegmentName(name)
		if ok != (want != 0) || ok && (number != 10 || salt != 1<<64-1 || length != want) {
			t.Errorf("%q: %d, %x, %d, %v", name, number, salt, length, ok)
		}
	}
}

// FuzzJournal feeds anything: nothing is found twice, nor outside.
func FuzzJournal(f *testing.F) {
	b, _ := segmentOf(3, [][][]byte{{[]byte("a"), []byte("bc")}, {nil}})
	f.Add(b, true)
	f.Add(b[:len(b)-10], false)
	f.Add([]byte(segmentMark), false)
	f.Add([]byte("TWPJNL2\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, closed bool) {
		length := int64(-1)
		if closed {
			length = int64(len(b))
		}
		c, err := readContents(b, 3, length)
		if err != nil {
			if !errors.Is(err, errNewerJournal) {
				t.Fatal(err)
			}
			return
		}
		at := int64(0)
		for _, r := range c.records {
			if r.at < at || r.end() > c.end || r.end() > int64(len(b)) || r.size > maxImage {
				t.Fatalf("record %+v after %d, of %d bytes", r, at, len(b))
			}
			at = r.end()
		}
		covered := c.torn
		for _, r := range c.records {
			covered += r.end() - r.at
		}
		for _, d := range c.damaged {
			if d.from >= d.to {
				t.Fatalf("%+v", d)
			}
			covered += d.to - d.from
		}
		if len(c.records) > 0 && covered+int64(len(segmentMark)) != int64(len(b)) {
			t.Fatalf("%d of %d bytes are accounted for", covered, len(b))
		}
	})
}
