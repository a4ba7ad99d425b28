package dicom

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// fetchSyntaxes are the transfer syntaxes in which objects are fetched, each in a context of its own, so that the archive need not decompress: it
// has what modalities have sent. The most common stand first, for where there is not room for all.
var fetchSyntaxes = []string{
	ExplicitLittleEndian, ImplicitLittleEndian, "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91",
	"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.81", deflatedExplicit,
	"1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203", bigEndianExplicit,
}

// commonClasses are proposed when an archive does not say what it has: those of nearly all objects of a clinic.
var commonClasses = []string{
	storagePrefix + "2", storagePrefix + "2.1", storagePrefix + "4", storagePrefix + "4.1", // CT, MR
	storagePrefix + "1", storagePrefix + "1.1", storagePrefix + "1.1.1", storagePrefix + "1.2", storagePrefix + "1.2.1", storagePrefix + "1.3", // CR, DX, MG, intra-oral
	storagePrefix + "6.1", storagePrefix + "3.1", storagePrefix + "12.1", storagePrefix + "12.2", storagePrefix + "13.1.3", // US, XA, RF, tomosynthesis
	storagePrefix + "20", storagePrefix + "128", storagePrefix + "7", storagePrefix + "7.2", storagePrefix + "7.4", // NM, PET, secondary captures
	storagePrefix + "88.11", storagePrefix + "88.22", storagePrefix + "88.33", storagePrefix + "88.59", storagePrefix + "88.67", // reports, key objects, dose
	storagePrefix + "11.1", storagePrefix + "104.1", // presentation states, PDF
	storagePrefix + "9.1.1", storagePrefix + "9.1.2", storagePrefix + "77.1.5.1", storagePrefix + "77.1.4", // ECG, ophthalmic and visible light photographs
}

// Selection is what is to be fetched: a whole study, or some objects of one of its series.
type Selection struct {
	Study string
	// Series and Instances are both set or both empty.
	Series    string
	Instances []string
}

func (s Selection) identifier() []byte {
	level := "STUDY"
	if s.Series != "" {
		level = "IMAGE"
	}
	var b []byte
	if s.Series != "" {
		b = appendUI(b, tagSOPInstance, strings.Join(s.Instances, `\`))
	}
	b = appendElement(b, tagQueryLevel, []byte(level), ' ')
	b = appendUI(b, tagStudyInstance, s.Study)
	if s.Series != "" {
		b = appendUI(b, tagSeriesInstance, s.Series)
	}
	return b
}

// Retrieved is what an archive says of a retrieval when it has ended.
type Retrieved struct {
	Completed, Failed, Warned int
	Status                    dimse.Status
}

// Get fetches objects of the given SOP classes by C-GET and puts them into a queue, as if the archive had sent them. Stored is called with the UID of each
// that is safe. Without classes, which some archives do not tell, those of nearly all objects are proposed. More classes than fit one association (PS3.8 allows 128 contexts) are an error: fetch by series then.
func (q *Querier) Get(ctx context.Context, sel Selection, classes []string, queue spool.Queue, name string, stored func(uid string)) (Retrieved, error) {
	kinds := []kind{{class: StudyRootGet, syntax: ImplicitLittleEndian}}
	classes = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(classes))), func(c string) bool { return !IsStorageClass(c) })
	if len(classes) == 0 {
		classes = commonClasses
	}
	if len(classes)*2 >= maxContexts {
		return Retrieved{}, fmt.Errorf("objects of %d SOP classes cannot be fetched on one association", len(classes))
	}
	each := min(len(fetchSyntaxes), (maxContexts-1)/len(classes))
	q.roles = nil
	for _, class := range classes {
		q.roles = append(q.roles, pdu.Role{SOPClass: class, SCP: true})
		for _, syntax := range fetchSyntaxes[:each] {
			kinds = append(kinds, kind{class: class, syntax: syntax})
		}
	}
	defer func() { q.roles = nil }()
	id, err := q.context(ctx, kinds, StudyRootGet)
	if err != nil {
		return Retrieved{}, err
	}
	set := dimse.RetrieveRQ{MessageID: q.nextMessage(), SOPClass: StudyRootGet}.Set()
	if err := q.send(ctx, id, &set, sel.identifier()); err != nil {
		return Retrieved{}, err
	}
	association := rand.Text()[:associationText]
	p := &provider{limits: q.limits, log: q.log, a: q.a, open: func(o object) (storeWriter, error) {
		o.CallingAE, o.CalledAE = q.calledAE, callingOr(q.cfg.CallingAE)
		o.Association = association
		return notingWriter{arrive(queue, name, o, nil), func() { stored(o.SOPInstance) }}, nil
	}}
	out, err := q.serveGet(ctx, p)
	if err != nil {
		q.drop()
	}
	return out, err
}

// notingWriter says when an object is safe.
type notingWriter struct {
	*arrival
	note func()
}

func (w notingWriter) Commit() error {
	err := w.arrival.Commit()
	if err == nil {
		w.note()
	}
	return err
}

// serveGet takes objects until the retrieval has ended.
func (q *Querier) serveGet(ctx context.Context, p *provider) (Retrieved, error) {
	for {
		id, command, err := q.a.Receive(ctx)
		if err != nil {
			return Retrieved{}, fmt.Errorf("fetch from %s: %w", q.calledAE, err)
		}
		set, err := dimse.Decode(command)
		if err != nil {
			return Retrieved{}, fmt.Errorf("fetch from %s: %w", q.calledAE, err)
		}
		pc, _ := q.a.Context(id)
		if set.CommandField() == dimse.CStoreRQ {
			if err := p.store(ctx, pc, &set); err != nil {
				return Retrieved{}, fmt.Errorf("fetch from %s: %w", q.calledAE, err)
			}
			continue
		}
		out, done, err := q.progress(ctx, pc, set)
		if err != nil || done {
			return out, err
		}
	}
}

// progress reads one response of a retrieval.
func (q *Querier) progress(ctx context.Context, pc ul.Context, set dimse.Set) (out Retrieved, done bool, err error) {
	m := message{context: pc.ID, set: set}
	if set.HasDataSet() { // what has failed, which our own books say too
		if _, err := readDataSet(ctx, q.a, pc.ID, maxFoundInstances*66); err != nil {
			return out, false, err
		}
	}
	resp, err := q.responseTo(m)
	if err != nil {
		return out, false, err
	}
	if resp.Status.Class() == dimse.ClassPending {
		return out, false, nil
	}
	number := func(t dimse.Tag) int {
		n, _ := set.US(t)
		return int(n)
	}
	out = Retrieved{Completed: number(dimse.TagCompleted), Failed: number(dimse.TagFailed), Warned: number(dimse.TagWarned), Status: resp.Status}
	if c := resp.Status.Class(); c == dimse.ClassSuccess || c == dimse.ClassWarning {
		return out, true, nil
	}
	return out, true, &QueryError{Called: q.calledAE, Operation: strings.TrimSuffix(resp.To.String(), "-RQ"), Status: resp.Status}
}

// Move has the archive send objects to an AE title, on an association that it opens itself (C-MOVE).
func (q *Querier) Move(ctx context.Context, sel Selection, destination string) (Retrieved, error) {
	if err := pdu.CheckAETitle(destination); err != nil {
		return Retrieved{}, err
	}
	id, err := q.context(ctx, []kind{{class: StudyRootMove, syntax: ImplicitLittleEndian}}, StudyRootMove)
	if err != nil {
		return Retrieved{}, err
	}
	set := dimse.RetrieveRQ{MessageID: q.nextMessage(), SOPClass: StudyRootMove, Destination: destination}.Set()
	if err := q.send(ctx, id, &set, sel.identifier()); err != nil {
		return Retrieved{}, err
	}
	for {
		m, err := q.receive(ctx, maxFoundInstances*66)
		if err != nil {
			return Retrieved{}, err
		}
		// receive has read the data set, if there was one.
		m.set.SetUS(dimse.TagDataSetType, noData)
		pc, _ := q.a.Context(m.context)
		out, done, err := q.progress(ctx, pc, m.set)
		if err != nil && !done {
			q.drop()
		}
		if err != nil || done {
			return out, err
		}
	}
}

// noData is the Command Data Set Type of a message without one (PS3.7 §E.1).
const noData = 0x0101
