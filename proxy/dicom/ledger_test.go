package dicom

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

func ledgerAt(t *testing.T, path string, opts LedgerOptions) *Ledger {
	t.Helper()
	l, err := OpenLedger(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *Ledger) put(n uint64, instance, data string) delivered {
	it := spool.Item{ID: idOf(n), SHA256: sha256.Sum256([]byte(data))}
	return l.line(it, kind{class: "1.2", syntax: "1.2.3"}, instance, time.Now())
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:8]
}

func idOf(n uint64) spool.ID { return spool.ID(fmt.Sprintf("%016x", n)) }

// TestLedgerSurvives kills the process (it just opens the file again) after each step of a delivery.
func TestLedgerSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books", "q.ledger")
	l := ledgerAt(t, path, LedgerOptions{})
	if got := l.state(idOf(5)); got != stateSynced {
		t.Errorf("new: %s", got)
	}
	if err := l.begin(idOf(5)); err != nil {
		t.Fatal(err)
	}
	l.certain(idOf(5)) // answered, in this process
	if got := l.state(idOf(5)); got != stateSynced {
		t.Errorf("answered: %s", got)
	}

	l = ledgerAt(t, path, LedgerOptions{}) // killed
	for n, want := range map[uint64]deliveryState{5: stateInDoubt, 4: stateInDoubt, 5 + markStep: stateSynced} {
		if got := l.state(idOf(n)); got != want {
			t.Errorf("after a crash %d is %s instead of %s", n, got, want)
		}
	}
	d := l.put(5, "1.2.5", "data")
	if err := l.taken(idOf(5), d); err != nil {
		t.Fatal(err)
	}

	l = ledgerAt(t, path, LedgerOptions{}) // killed
	for _, tc := range []struct {
		instance, data string
		same, other    bool
	}{{"1.2.5", "data", true, false}, {"1.2.5", "other", false, true}, {"1.2.6", "data", false, false}} {
		same, other := l.seen(l.put(9, tc.instance, tc.data))
		if same.IsZero() == tc.same || other != tc.other {
			t.Errorf("%s %s: %v, %v", tc.instance, tc.data, same, other)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"1.2.5", string(sum([]byte("data")))} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the ledger holds %q", secret)
		}
	}
}

// TestLedgerIsSynced looks whether what a power cut must not take is synced when it has been noted, and that a failure spoils nothing for what
// comes after it.
func TestLedgerIsSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.ledger")
	l := ledgerAt(t, path, LedgerOptions{})
	if err := errors.Join(l.begin(idOf(1)), l.taken(idOf(1), l.put(1, "1.1", "a"))); err != nil || l.file.dirty {
		t.Fatalf("%v, unsynced %v", err, l.file.dirty)
	}
	_, _ = l.file.f.Write([]byte("half a record")) // as a full disk leaves it
	_ = l.file.f.Close()
	if err := l.taken(idOf(2), l.put(2, "1.2", "b")); err == nil {
		t.Error("written to a closed file")
	}
	mark := l.mark
	if err := l.taken(idOf(3), l.put(3, "1.3", "c")); err != nil {
		t.Error(err)
	}
	_ = l.file.f.Close()
	if err := l.begin(idOf(2 * markStep)); err == nil || l.mark != mark {
		t.Errorf("%v, items below %d may have been sent instead of %d", err, l.mark, mark)
	}
	if err := l.sync(); err != nil {
		t.Error(err)
	}
	l = ledgerAt(t, path, LedgerOptions{})
	for n, instance := range []string{"1.1", "1.2", "1.3"} {
		if same, _ := l.seen(l.put(9, instance, string(rune('a'+n)))); same.IsZero() {
			t.Errorf("%s is not known to have been delivered", instance)
		}
	}
	if l.doubtBelow != mark {
		t.Errorf("in doubt below %d instead of %d", l.doubtBelow, mark)
	}
}

// TestLedgerTornAndDamaged cuts the file at every byte of its last records, and flips a bit in the middle.
func TestLedgerTornAndDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.ledger")
	l := ledgerAt(t, path, LedgerOptions{})
	if err := l.begin(idOf(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.taken(idOf(1), l.put(1, "1.1", "a")); err != nil {
		t.Fatal(err)
	}
	if err := l.taken(idOf(2), l.put(2, "1.2", "b")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) *Ledger {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return ledgerAt(t, path, LedgerOptions{})
	}
	for cut := len(whole) - ledgerRecord + 1; cut < len(whole); cut++ {
		l := write(whole[:cut])
		first, _ := l.seen(l.put(1, "1.1", "a"))
		second, _ := l.seen(l.put(2, "1.2", "b"))
		if first.IsZero() || !second.IsZero() || l.doubtBelow != 1+markStep {
			t.Fatalf("cut at %d: %v, %v, %d", cut, first, second, l.doubtBelow)
		}
	}
	for name, at := range map[string]int{"head": 3, "mark": ledgerHead + 2*ledgerRecord - 20} {
		b := append([]byte{}, whole...)
		b[at] ^= 1
		if l := write(b); l.doubtBelow != math.MaxUint64 || l.state(idOf(1<<40)) != stateInDoubt {
			t.Errorf("%s damaged: doubt below %d", name, l.doubtBelow)
		}
	}
}

// TestLedgerIsBounded fills it over its number and its age, in memory and on disk.
func TestLedgerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "q.ledger")
		l := ledgerAt(t, path, LedgerOptions{MaxEntries: 50, MaxAge: time.Hour})
		for n := range uint64(2000) {
			if err := l.taken(idOf(n), l.put(n, fmt.Sprint("1.", n), "x")); err != nil {
				t.Fatal(err)
			}
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if most := int64(ledgerHead + ledgerRecord*(2*50+markStep+1)); len(l.lines) != 50 || len(l.sums) != 50 || len(l.known) != 50 || st.Size() > most {
			t.Errorf("%d lines, %d sums, %d objects, %d bytes", len(l.lines), len(l.sums), len(l.known), st.Size())
		}
		if old, _ := l.seen(l.put(1, "1.1949", "x")); !old.IsZero() {
			t.Error("the oldest is still there")
		}
		if kept, _ := l.seen(l.put(1, "1.1950", "x")); kept.IsZero() {
			t.Error("the newest are gone")
		}
		time.Sleep(time.Hour + time.Second) // fake time
		l = ledgerAt(t, path, LedgerOptions{MaxEntries: 50, MaxAge: time.Hour})
		if len(l.lines) != 0 {
			t.Errorf("%d lines are older than an hour", len(l.lines))
		}
	})
}

// TestLedgerForgetsOnTheSafeSide has more items in doubt, failing and waited for than are remembered.
func TestLedgerForgetsOnTheSafeSide(t *testing.T) {
	l := newLedger(LedgerOptions{})
	now := time.Now()
	for n := range uint64(maxDoubts + 10) {
		if err := l.begin(idOf(n)); err != nil {
			t.Fatal(err)
		}
		l.unanswered(idOf(n), now)
	}
	for n := range uint64(maxDoubts + 10) {
		if got := l.state(idOf(n)); got != stateInDoubt {
			t.Fatalf("%d is %s", n, got)
		}
	}
	for n := range uint64(maxStrikes + 10) {
		l.strike(idOf(n), "why", false, now)
	}
	for n := range uint64(maxHeld + 10) {
		l.hold(objectKey{byte(n), byte(n >> 8), byte(n >> 16)}, idOf(n), now.Add(time.Hour))
	}
	if len(l.doubts) > maxDoubts || len(l.strikes) > maxStrikes || l.holding > maxHeld {
		t.Errorf("%d doubts, %d strikes, %d held", len(l.doubts), len(l.strikes), l.holding)
	}
	l.sweepLocked(now.Add(2 * time.Hour))
	if l.holding != 0 || len(l.held) != 0 {
		t.Errorf("%d held after their time", l.holding)
	}
}

func TestPatience(t *testing.T) {
	p := Patience{}.withDefaults()
	now := time.Now()
	for name, tc := range map[string]struct {
		s      strike
		passed uint64
		want   bool
	}{
		"often and long while others pass":     {strike{tries: 10, first: now.Add(-time.Hour)}, 1, true},
		"often but not long":                   {strike{tries: 100, first: now.Add(-59 * time.Minute)}, 1, false},
		"long but not often":                   {strike{tries: 9, first: now.Add(-100 * time.Hour)}, 1, false},
		"refused while nothing passes":         {strike{tries: 60, first: now.Add(-71 * time.Hour), answered: true}, 0, false},
		"refused over days":                    {strike{tries: 50, first: now.Add(-72 * time.Hour), answered: true}, 0, true},
		"broken line over days, nothing goes":  {strike{tries: 5000, first: now.Add(-1000 * time.Hour)}, 0, false},
		"others passed before, not since then": {strike{tries: 50, first: now.Add(-2 * time.Hour), passed: 7}, 7, false},
	} {
		if got := tc.s.over(p, tc.passed, now); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
