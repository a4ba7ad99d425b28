package dicom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// The other services of the study root (PS3.4 §C.6.2).
const (
	StudyRootMove = "1.2.840.10008.5.1.4.1.2.2.2"
	StudyRootGet  = "1.2.840.10008.5.1.4.1.2.2.3"
)

// Limits of what is believed of an archive's answers.
const (
	maxFoundStudies   = 20_000
	maxFoundSeries    = 10_000
	maxFoundInstances = 200_000
	maxIdentifier     = 64 << 10 // bytes
)

// QueryConfig says whom a Querier asks.
type QueryConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CallingAE is our own AE title (empty means DefaultCallingAE), CalledAE the archive's.
	CallingAE, CalledAE string
	Limits              Limits
	// Log may be nil.
	Log *slog.Logger
}

// Querier asks an archive what it has and fetches it, in the study root (PS3.4 annex C). It keeps at most one association open, and
// is used by one goroutine.
type Querier struct {
	*user
	cfg    QueryConfig
	opened []kind
}

// NewQuerier connects to nothing yet.
func NewQuerier(cfg QueryConfig) *Querier {
	cfg.Log = orDiscard(cfg.Log)
	return &Querier{user: newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log), cfg: cfg}
}

// Close ends what is open.
func (q *Querier) Close(ctx context.Context) { q.release(ctx) }

// FoundStudy is one study of an archive. Its UID identifies a patient's study: it belongs in no log.
type FoundStudy struct {
	UID string
	// Instances is how many the archive says there are; -1 if it does not say.
	Instances int
	// Modalities in the study, as far as the archive says.
	Modalities []string
}

// FoundInstance is one object of a study. Class is empty where the archive does not say.
type FoundInstance struct{ Series, Class, UID string }

// QueryError is a failure that an archive has answered.
type QueryError struct {
	Called, Operation string
	Status            dimse.Status
}

func (e *QueryError) Error() string {
	return fmt.Sprintf("%s answers %s to a %s", e.Called, e.Status, e.Operation)
}

// Span is a part of a day, from hour First to before hour End.
type Span struct {
	Day        time.Time
	First, End int
}

// WholeDay is the Span of a day.
func WholeDay(day time.Time) Span { return Span{Day: day, End: 24} }

// Studies returns the studies whose date (and time, where the Span is a part of a day) lies in span. An archive may cut a long answer short
// without a word: ask for parts of a day where there are many.
func (q *Querier) Studies(ctx context.Context, span Span) ([]FoundStudy, error) {
	day := span.Day.Format("20060102")
	b := appendElement(nil, tagStudyDate, []byte(day), ' ')
	hours := ""
	if span.First > 0 || span.End < 24 {
		hours = fmt.Sprintf("%02d0000-%02d5959.999999", span.First, span.End-1)
	}
	b = appendElement(b, tagStudyTime, []byte(hours), ' ')
	b = appendElement(b, tagQueryLevel, []byte("STUDY"), ' ')
	b = appendElement(b, tagModalities, nil, ' ')
	b = appendUI(b, tagStudyInstance, "")
	b = appendElement(b, tagStudyInstances, nil, ' ')
	var out []FoundStudy
	err := q.find(ctx, b, maxFoundStudies, func(values map[uint32]string) {
		s := FoundStudy{UID: values[tagStudyInstance], Instances: count(values[tagStudyInstances])}
		if m := values[tagModalities]; m != "" {
			s.Modalities = strings.Split(m, `\`)
		}
		if ValidUID(s.UID) && !slices.ContainsFunc(out, func(o FoundStudy) bool { return o.UID == s.UID }) {
			out = append(out, s)
		}
	}, tagStudyInstance, tagStudyInstances, tagModalities)
	return out, err
}

// Instances returns all objects of a study, asking series by series as the hierarchy wants it (PS3.4 §C.4.1.2.1).
func (q *Querier) Instances(ctx context.Context, study string) ([]FoundInstance, error) {
	b := appendElement(nil, tagQueryLevel, []byte("SERIES"), ' ')
	b = appendUI(b, tagStudyInstance, study)
	b = appendUI(b, tagSeriesInstance, "")
	var series []string
	err := q.find(ctx, b, maxFoundSeries, func(values map[uint32]string) {
		if uid := values[tagSeriesInstance]; ValidUID(uid) && !slices.Contains(series, uid) {
			series = append(series, uid)
		}
	}, tagSeriesInstance)
	if err != nil {
		return nil, err
	}
	var out []FoundInstance
	seen := map[string]bool{}
	for _, s := range series {
		b := appendUI(nil, tagSOPClass, "")
		b = appendUI(b, tagSOPInstance, "")
		b = appendElement(b, tagQueryLevel, []byte("IMAGE"), ' ')
		b = appendUI(b, tagStudyInstance, study)
		b = appendUI(b, tagSeriesInstance, s)
		err := q.find(ctx, b, maxFoundInstances-len(out), func(values map[uint32]string) {
			if uid := values[tagSOPInstance]; ValidUID(uid) && !seen[uid] {
				seen[uid] = true
				out = append(out, FoundInstance{Series: s, Class: values[tagSOPClass], UID: uid})
			}
		}, tagSOPClass, tagSOPInstance)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find sends one query and calls found with the wanted values of each match.
func (q *Querier) find(ctx context.Context, identifier []byte, limit int, found func(map[uint32]string), want ...uint32) error {
	id, err := q.context(ctx, []kind{{class: StudyRootFind, syntax: ImplicitLittleEndian}}, StudyRootFind)
	if err != nil {
		return err
	}
	set := dimse.FindRQ{MessageID: q.nextMessage(), SOPClass: StudyRootFind}.Set()
	if err := q.send(ctx, id, &set, identifier); err != nil {
		return err
	}
	for matches := 0; ; matches++ {
		m, err := q.receive(ctx, maxIdentifier)
		if err != nil {
			return err
		}
		resp, err := q.responseTo(m)
		if err != nil {
			q.drop()
			return err
		}
		switch resp.Status.Class() {
		case dimse.ClassPending:
			if matches >= limit {
				q.drop()
				return fmt.Errorf("%s found more than %d matches", q.calledAE, limit)
			}
			found(values(m.data, m.enc, want))
		case dimse.ClassSuccess:
			return nil
		default:
			return &QueryError{Called: q.calledAE, Operation: "C-FIND", Status: resp.Status}
		}
	}
}

// values returns what of an identifier is wanted.
func values(b []byte, enc encoding, want []uint32) map[uint32]string {
	out := map[uint32]string{}
	for s := (elements{b: b, enc: enc}); ; {
		e, err := s.next()
		if err != nil {
			return out
		}
		if slices.Contains(want, e.tag) {
			out[e.tag] = e.text()
		}
	}
}

// count reads an integer string; -1 is none.
func count(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

var errNoService = errors.New("the archive does not offer that service")

// context returns the context for a service on an association that proposes kinds.
func (q *Querier) context(ctx context.Context, kinds []kind, class string) (uint8, error) {
	if q.a != nil && time.Since(q.used) > staleAfter && !q.a.Alive() {
		q.drop()
	}
	if q.a == nil || !slices.Equal(kinds, q.opened) {
		q.release(ctx)
		if err := q.open(ctx, callingOr(q.cfg.CallingAE), kinds); err != nil {
			return 0, err
		}
		q.opened = kinds
	}
	id, err := q.accepted(kind{class: class, syntax: ImplicitLittleEndian})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoService, err)
	}
	return id, nil
}
