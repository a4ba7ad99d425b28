package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
)

const (
	// splitAt is how many studies in one answer make us ask again for parts of the day: archives cut answers at round numbers, none of which
	// is smaller.
	splitAt = 100
	// keep is how long what was fetched is remembered beyond what rounds look back to.
	keep = 14 * 24 * time.Hour
	// firstRetry doubles with each failure, up to lastRetry.
	firstRetry = time.Minute
	lastRetry  = 2 * time.Hour
)

// Report says how complete the work is. It names no study.
type Report struct {
	// Until is the end of the last round that saw everything; LastError is why the last one did not.
	Until     time.Time `json:"until,omitzero"`
	LastError string    `json:"last_error,omitempty"`
	// Studies that are remembered: Whole ones have all that was found, Waiting ones are still growing or not due, Failing ones were tried
	// in vain, Unwanted ones have other modalities.
	Studies  int `json:"studies"`
	Whole    int `json:"whole"`
	Waiting  int `json:"waiting"`
	Failing  int `json:"failing"`
	Unwanted int `json:"unwanted"`
	// Found and Fetched count objects of all studies but the unwanted. That the two are equal, and nothing waits or fails, is the proof of
	// completeness.
	Found   int `json:"found"`
	Fetched int `json:"fetched"`
	// StudyError is why the last study failed that did.
	StudyError string `json:"study_error,omitempty"`
}

// Complete reports whether all that was found was fetched.
func (r Report) Complete() bool {
	return r.Waiting+r.Failing == 0 && r.Found == r.Fetched && r.LastError == ""
}

// Poller polls one archive.
type Poller struct {
	cfg     Config
	journal *journal

	mu        sync.Mutex // guards the journal's content and the errors against Report
	lastError string
}

// New opens the journal. Run, or Close, ends it.
func New(cfg Config) (*Poller, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(cfg.Journal)
	if err != nil {
		return nil, err
	}
	return &Poller{cfg: cfg, journal: j}, nil
}

// Close closes the journal of a Poller that does not run.
func (p *Poller) Close() error { return p.journal.close() }

// Run polls until ctx is done.
func (p *Poller) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.journal.close()
		case <-timer.C:
		}
		began := time.Now()
		if err := p.Round(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Log.Warn("an archive could not be polled", "error", err)
		}
		p.cfg.Source.Idle(context.WithoutCancel(ctx))
		timer.Reset(max(p.cfg.Every-time.Since(began), minEvery))
	}
}

// Round looks once, and fetches what is due.
func (p *Poller) Round(ctx context.Context) error {
	err := p.look(ctx)
	p.mu.Lock()
	p.lastError = ""
	if err != nil {
		p.lastError = err.Error()
	}
	p.mu.Unlock()
	return errors.Join(err, p.fetch(ctx))
}

// look asks day by day, newest first, so that a round that is cut short has seen what matters most.
func (p *Poller) look(ctx context.Context) error {
	now := time.Now()
	first := p.cfg.Since
	if back := p.journal.until.Add(-p.cfg.Overlap); back.After(first) {
		first = back
	}
	// Clocks of modalities are wrong, and days begin elsewhere earlier: tomorrow belongs to it.
	for day := midnight(now).AddDate(0, 0, 1); !day.Before(midnight(first)); day = day.AddDate(0, 0, -1) {
		found, err := p.ask(ctx, dicom.WholeDay(day))
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.Instances < 0 && p.wanted(f.Modalities) {
				all, err := p.cfg.Source.Instances(ctx, f.UID)
				if err != nil {
					return err //nolint:wrapcheck // it says who did not answer what
				}
				f.Instances = len(all)
			}
			if err := p.saw(f, day, now); err != nil {
				return err
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.journal.until = now
	if err := p.journal.write(entry{Until: now}); err != nil {
		return err
	}
	return p.journal.forget(now.Add(-p.cfg.Overlap - keep))
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

// ask returns the studies of a span, in parts where there are many.
func (p *Poller) ask(ctx context.Context, span dicom.Span) ([]dicom.FoundStudy, error) {
	found, err := p.cfg.Source.Studies(ctx, span)
	if err != nil || len(found) < splitAt || span.End-span.First == 1 {
		return found, err //nolint:wrapcheck // it says who did not answer what
	}
	half := (span.First + span.End) / 2
	for _, part := range []dicom.Span{{Day: span.Day, First: span.First, End: half}, {Day: span.Day, First: half, End: span.End}} {
		more, err := p.ask(ctx, part)
		if err != nil {
			return nil, err
		}
		for _, m := range more {
			if !slices.ContainsFunc(found, func(f dicom.FoundStudy) bool { return f.UID == m.UID }) {
				found = append(found, m)
			}
		}
	}
	return found, nil
}

// saw notes what an archive says of a study, if it is new.
func (p *Poller) saw(f dicom.FoundStudy, day, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.journal.studies[f.UID]
	unwanted := !p.wanted(f.Modalities)
	if s != nil && s.Count == f.Instances && s.Unwanted == unwanted {
		return nil
	}
	if s == nil {
		s = &study{UID: f.UID, Day: day.Format(time.DateOnly)}
		p.journal.studies[f.UID] = s
	}
	s.Count, s.Changed, s.Whole, s.Unwanted, s.Tries, s.Next = f.Instances, now, false, unwanted, 0, time.Time{}
	return p.journal.write(entry{Study: s})
}

func (p *Poller) wanted(modalities []string) bool {
	return len(p.cfg.Modalities) == 0 || len(modalities) == 0 ||
		slices.ContainsFunc(modalities, func(m string) bool { return slices.Contains(p.cfg.Modalities, strings.TrimSpace(m)) })
}

// fetch fetches what is due, oldest first. What fails does not hold up the next one, unless the archive is away.
func (p *Poller) fetch(ctx context.Context) error {
	due := p.due(time.Now())
	for i, s := range due {
		if !p.cfg.Hours.Contain(time.Now()) || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i > 0 && !pause(ctx, p.cfg.Pause) {
			return context.Cause(ctx)
		}
		err := p.fetchStudy(ctx, s)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if noted := p.note(s, err); noted != nil {
			return noted
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (p *Poller) due(now time.Time) []*study {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*study
	for _, s := range p.journal.studies {
		if !s.Whole && !s.Unwanted && now.Sub(s.Changed) >= p.cfg.Settle && !now.Before(s.Next) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *study) int {
		if c := a.Changed.Compare(b.Changed); c != 0 {
			return c
		}
		return strings.Compare(a.UID, b.UID)
	})
	return out
}

// fetchStudy brings what is missing. What the journal has of it is changed as objects arrive, and saved by note.
func (p *Poller) fetchStudy(ctx context.Context, s *study) error {
	found, err := p.cfg.Source.Instances(ctx, s.UID)
	if err != nil {
		return err //nolint:wrapcheck // it says who did not answer what
	}
	p.mu.Lock()
	got := make(map[string]bool, len(s.Got))
	for _, uid := range s.Got {
		got[uid] = true
	}
	s.Found = len(found)
	p.mu.Unlock()
	var missing []dicom.FoundInstance
	for _, f := range found {
		if !got[f.UID] {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	asked := make(map[string]bool, len(missing))
	for _, m := range missing {
		asked[m.UID] = true
	}
	err = p.cfg.Source.Fetch(ctx, s.UID, found, missing, func(uid string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if asked[uid] {
			delete(asked, uid)
			s.Got = append(s.Got, uid)
		}
	})
	if err == nil && len(asked) > 0 {
		err = fmt.Errorf("%d of %d objects did not come", len(asked), len(missing))
	}
	return err //nolint:wrapcheck // it says who did not do what
}

// note saves how a study has ended.
func (p *Poller) note(s *study, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		s.Whole, s.Tries, s.Next, s.Error = true, 0, time.Time{}, ""
	} else {
		s.Tries++
		s.Next = time.Now().Add(min(firstRetry<<min(s.Tries-1, 10), lastRetry))
		s.Error = err.Error()
		p.cfg.Log.Warn("a study could not be fetched whole; it will be tried again", "tries", s.Tries, "error", err)
	}
	return p.journal.write(entry{Study: s})
}

// Report may be called at any time.
func (p *Poller) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Report{Until: p.journal.until, LastError: p.lastError, Studies: len(p.journal.studies)}
	for _, s := range p.journal.studies {
		switch {
		case s.Unwanted:
			r.Unwanted++
			continue
		case s.Whole:
			r.Whole++
		case s.Tries > 0:
			r.Failing++
			r.StudyError = s.Error
		default:
			r.Waiting++
		}
		// What an archive has deleted since does not make up for what is missing elsewhere.
		found := max(s.Count, 0)
		if s.Whole {
			found = s.Found
		}
		r.Found += found
		r.Fetched += min(len(s.Got), found)
	}
	return r
}
