package poll_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// archive is a Source in memory.
type archive struct {
	studies map[string]*held
	// fail makes the next calls fail, whatever they are; lose makes the next objects not come.
	fail, lose int
	// mute archives do not say how many objects a study has, capped ones answer with at most 100 studies.
	mute, capped bool
	fetched      map[string]int
	when         []time.Time // of fetches
	idle         int
}

type held struct {
	at        time.Time
	modality  string
	instances []string
}

func (a *archive) add(study string, at time.Time, modality string, instances int) {
	h := a.studies[study]
	if h == nil {
		h = &held{at: at, modality: modality}
		a.studies[study] = h
	}
	for range instances {
		h.instances = append(h.instances, fmt.Sprintf("%s.%d", study, len(h.instances)+1))
	}
}

var errAway = errors.New("the archive is away")

func (a *archive) call() error {
	if a.fail > 0 {
		a.fail--
		return errAway
	}
	return nil
}

func (a *archive) Studies(_ context.Context, span dicom.Span) ([]dicom.FoundStudy, error) {
	if err := a.call(); err != nil {
		return nil, err
	}
	var out []dicom.FoundStudy
	for _, uid := range slices.Sorted(maps.Keys(a.studies)) {
		h := a.studies[uid]
		if h.at.Format(time.DateOnly) != span.Day.Format(time.DateOnly) || h.at.Hour() < span.First || h.at.Hour() >= span.End {
			continue
		}
		if a.capped && len(out) == 100 {
			break
		}
		f := dicom.FoundStudy{UID: uid, Instances: len(h.instances), Modalities: []string{h.modality}}
		if a.mute {
			f.Instances, f.Modalities = -1, nil
		}
		out = append(out, f)
	}
	return out, nil
}

func (a *archive) Instances(_ context.Context, study string) ([]dicom.FoundInstance, error) {
	if err := a.call(); err != nil {
		return nil, err
	}
	var out []dicom.FoundInstance
	for _, i := range a.studies[study].instances {
		out = append(out, dicom.FoundInstance{Series: study + ".0", UID: i})
	}
	return out, nil
}

func (a *archive) Fetch(_ context.Context, _ string, _, missing []dicom.FoundInstance, fetched func(string)) error {
	a.when = append(a.when, time.Now())
	if err := a.call(); err != nil {
		return err
	}
	for _, m := range missing {
		if a.lose > 0 {
			a.lose--
			continue
		}
		a.fetched[m.UID]++
		fetched(m.UID)
	}
	return nil
}

func (a *archive) Idle(context.Context) { a.idle++ }

func newArchive() *archive { return &archive{studies: map[string]*held{}, fetched: map[string]int{}} }

func (a *archive) config(t interface{ Helper() }, journal string) poll.Config {
	t.Helper()
	return poll.Config{Source: a, Journal: journal, Since: time.Now(), Every: time.Minute, Settle: 5 * time.Minute}
}

func open(t interface {
	Helper()
	Fatal(...any)
}, cfg poll.Config,
) *poll.Poller {
	t.Helper()
	p, err := poll.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inTime advances the clock by d, with a round every minute.
func inTime(t *testing.T, p *poll.Poller, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		_ = p.Round(t.Context())
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
		}
	}
}

// TestGrowingStudy is fetched when it has stopped growing, and what comes later by itself, across a restart.
func TestGrowingStudy(t *testing.T) {
	for _, mute := range []bool{false, true} {
		t.Run(fmt.Sprint("mute=", mute), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newArchive()
				a.mute = mute
				cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
				p := open(t, cfg)
				for range 4 {
					a.add("1.2", time.Now(), "CT", 3)
					inTime(t, p, 4*time.Minute)
				}
				if len(a.fetched) != 0 {
					t.Fatal("a study was fetched while it grew")
				}
				inTime(t, p, 5*time.Minute)
				r := p.Report()
				if len(a.fetched) != 12 || len(a.when) != 1 || !r.Complete() || r.Found != 12 || r.Fetched != 12 || r.Whole != 1 {
					t.Fatalf("%d objects in %d goes, %+v", len(a.fetched), len(a.when), r)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				a.add("1.2", time.Now(), "CT", 2)
				p = open(t, cfg)
				inTime(t, p, 7*time.Minute)
				for uid, n := range a.fetched {
					if n != 1 {
						t.Errorf("%s was fetched %d times", uid, n)
					}
				}
				if r := p.Report(); len(a.fetched) != 14 || !r.Complete() {
					t.Errorf("%d objects, %+v", len(a.fetched), r)
				}
				_ = p.Close()
			})
		})
	}
}

func TestWhatDoesNotComeIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArchive()
		p := open(t, a.config(t, filepath.Join(t.TempDir(), "journal")))
		a.add("1.2", time.Now(), "CT", 10)
		a.add("1.3", time.Now(), "CT", 1)
		a.lose = 4
		inTime(t, p, 5*time.Minute+time.Second)
		r := p.Report()
		if r.Complete() || r.Failing != 1 || r.Whole != 1 || r.Found != 11 || r.Fetched != 7 || !strings.Contains(r.StudyError, "4 of 10") {
			t.Fatalf("%+v", r)
		}
		if strings.Contains(r.StudyError, "1.2") {
			t.Error("the report names a study")
		}
		inTime(t, p, 5*time.Minute)
		if r := p.Report(); !r.Complete() || a.fetched["1.2.1"] != 1 || a.fetched["1.2.9"] != 1 {
			t.Errorf("%+v, %v", r, a.fetched)
		}
		_ = p.Close()
	})
}

func TestHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
		a := newArchive()
		cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
		now := time.Now()
		from := now.Add(3 * time.Hour)
		h, err := poll.ParseHours(from.Format("15:04") + "-" + from.Add(time.Hour).Format("15:04"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Hours = h
		p := open(t, cfg)
		a.add("1.2", now, "CT", 1)
		inTime(t, p, 26*time.Hour)
		if len(a.when) != 1 || a.when[0].Before(from) || a.when[0].After(from.Add(2*time.Minute)) {
			t.Errorf("fetched at %v", a.when)
		}
		_ = p.Close()
	})
	for s, ok := range map[string]bool{"": true, "22:00-06:00": true, "00:00-23:59": true, "22-6": false, "24:00-01:00": false, "01:00-01:00": false, "1:00-2:00": false, "10:00-11:00x": false} {
		if _, err := poll.ParseHours(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
	night := poll.Hours{From: 22 * 60, To: 6 * 60}
	for at, in := range map[string]bool{"21:59": false, "22:00": true, "23:59": true, "00:00": true, "05:59": true, "06:00": false} {
		clock, _ := time.Parse("15:04", at)
		if night.Contain(clock) != in {
			t.Errorf("%s", at)
		}
	}
}

// TestManyStudiesOfADay: an archive that cuts its answers at 100 hides nothing.
func TestManyStudiesOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArchive()
		a.capped = true
		cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
		cfg.Pause = time.Millisecond
		for i := range 900 {
			a.add(fmt.Sprintf("1.%d", i), time.Now().Add(time.Duration(i)*time.Minute), "MR", 1)
		}
		p := open(t, cfg)
		inTime(t, p, 7*time.Minute)
		if r := p.Report(); len(a.fetched) != 900 || !r.Complete() {
			t.Errorf("%d of 900, %+v", len(a.fetched), r)
		}
		_ = p.Close()
	})
}

func TestModalities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArchive()
		cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
		cfg.Modalities = []string{"ECG", "CT"}
		a.add("1.1", time.Now(), "US", 3)
		a.add("1.2", time.Now(), "ECG", 2)
		p := open(t, cfg)
		inTime(t, p, 7*time.Minute)
		if r := p.Report(); len(a.fetched) != 2 || a.fetched["1.2.1"] != 1 || !r.Complete() || r.Unwanted != 1 {
			t.Errorf("%v, %+v", a.fetched, r)
		}
		_ = p.Close()
	})
}

func TestJournalAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArchive()
		cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
		a.add("1.2", time.Now(), "CT", 3)
		p := open(t, cfg)
		inTime(t, p, 7*time.Minute)
		_ = p.Close()
		b, err := os.ReadFile(cfg.Journal)
		if err != nil {
			t.Fatal(err)
		}
		write := func(b []byte) {
			if err := os.WriteFile(cfg.Journal, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(b[:len(b)-7])
		p = open(t, cfg)
		inTime(t, p, 7*time.Minute)
		if a.fetched["1.2.1"] != 1 || !p.Report().Complete() {
			t.Errorf("after a cut line: %v", a.fetched)
		}
		_ = p.Close()
		write(append([]byte("{nonsense\n"), b...))
		if _, err := poll.New(cfg); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("a damaged journal: %v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	a := newArchive()
	for name, change := range map[string]func(*poll.Config){
		"no archive": func(c *poll.Config) { c.Source = nil }, "no journal": func(c *poll.Config) { c.Journal = "" },
		"no day": func(c *poll.Config) { c.Since = time.Time{} }, "too often": func(c *poll.Config) { c.Every = time.Second },
		"too far back": func(c *poll.Config) { c.Overlap = 400 * 24 * time.Hour }, "negative": func(c *poll.Config) { c.Settle = -1 },
	} {
		cfg := a.config(t, filepath.Join(t.TempDir(), "journal"))
		change(&cfg)
		if p, err := poll.New(cfg); err == nil {
			_ = p.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newArchive()
		a.add("1.2", time.Now(), "CT", 1)
		p := open(t, a.config(t, filepath.Join(t.TempDir(), "journal")))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil || a.fetched["1.2.1"] != 1 || a.idle < 9 {
			t.Errorf("%v, %v, idle %d times", err, a.fetched, a.idle)
		}
	})
}

// step is one thing that happens, with a number that says how much.
type step struct {
	what string
	n    int
}

// TestNothingIsLeftOutOrRepeated: whatever the archive does, and however often we restart, in the end each object came once.
func TestNothingIsLeftOutOrRepeated(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mute := rapid.Bool().Draw(rt, "mute")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.SampledFrom([]string{"study", "grow", "fail", "lose", "restart", "wait"}).Draw(rt, "what"), rapid.IntRange(1, 60).Draw(rt, "n")}
		}), 5, 40).Draw(rt, "steps")
		journal, wrong := filepath.Join(t.TempDir(), "journal"), ""
		synctest.Test(t, func(t *testing.T) { wrong = play(t, mute, steps, journal) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// play returns what is wrong in the end.
func play(t *testing.T, mute bool, steps []step, journal string) string {
	t.Helper()
	a := newArchive()
	a.mute = mute
	cfg := a.config(t, journal)
	p := open(t, cfg)
	for _, s := range steps {
		switch s.what {
		case "study":
			a.add(fmt.Sprintf("1.%d", len(a.studies)+1), time.Now(), "CT", 1+s.n%5)
		case "grow":
			if n := len(a.studies); n > 0 {
				a.add(fmt.Sprintf("1.%d", 1+s.n%n), time.Time{}, "", 1+s.n%3)
			}
		case "fail":
			a.fail = 1 + s.n%5
		case "lose":
			a.lose = 1 + s.n%3
		case "restart":
			if err := p.Close(); err != nil {
				return err.Error()
			}
			p = open(t, cfg)
		case "wait":
			inTime(t, p, time.Duration(s.n)*time.Minute)
		}
		inTime(t, p, time.Minute)
	}
	defer func() { _ = p.Close() }()
	a.fail, a.lose = 0, 0
	for range 6 { // retries are up to two hours apart
		inTime(t, p, time.Minute)
		time.Sleep(time.Hour)
	}
	for uid, h := range a.studies {
		for _, i := range h.instances {
			if a.fetched[i] != 1 {
				return fmt.Sprintf("object %s of study %s came %d times", i, uid, a.fetched[i])
			}
		}
	}
	if r := p.Report(); !r.Complete() || r.Studies != len(a.studies) {
		return fmt.Sprintf("%+v", r)
	}
	return ""
}
