package localapi_test

import (
	"errors"
	"testing"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// testPriorities is the part of TestQueues about what passes what.
func testPriorities(t *testing.T, s *spool.Spool, q localapi.Queues) {
	ctx := t.Context()
	object := func(study string) spool.ID {
		w, err := s.Create(spool.Meta{Queue: "dicom.p", Attributes: map[string]string{dicom.AttrStudyInstance: study}})
		if err != nil {
			t.Fatal(err)
		}
		it, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return it.ID
	}
	carried := object("1.2")
	l, err := s.Next(ctx, "dicom.p")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Carried(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	a, b, c := object("1.2"), object("1.3"), object("1.2")
	if n, err := q.PrioritizeStudy(ctx, "1.2", true); n != 2 || err != nil {
		t.Errorf("%d objects are urgent now: %v", n, err)
	}
	for _, none := range []string{"1.4", ""} {
		if n, err := q.PrioritizeStudy(ctx, none, true); n != 0 || err != nil {
			t.Errorf("%d objects of no study: %v", n, err)
		}
	}
	if err := q.Prioritize(ctx, string(b), true); err != nil {
		t.Error(err)
	}
	if err := q.Prioritize(ctx, string(c), false); err != nil {
		t.Error(err)
	}
	for id, want := range map[spool.ID]int{carried: 0, a: spool.Urgent, b: spool.Urgent, c: 0} {
		if i, err := q.Item(ctx, string(id)); err != nil || i.Priority != want {
			t.Errorf("item %s has priority %d, %v; want %d", id, i.Priority, err, want)
		}
	}
	for _, id := range []string{string(carried), "none"} {
		if err := q.Prioritize(ctx, id, true); !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("item %s: %v", id, err)
		}
	}
}

// TestTelling: who has to sort anew hears of every change.
func TestTelling(t *testing.T) {
	s := newSpool(t)
	id := put(t, s, "dicom.a", "one")
	heard := 0
	q := localapi.QueuesOf(s).Telling(func() { heard++ })
	if err := q.Prioritize(t.Context(), id, true); err != nil || heard != 1 {
		t.Errorf("heard %d times: %v", heard, err)
	}
	if _, err := q.PrioritizeStudy(t.Context(), "1.2", true); err != nil || heard != 2 {
		t.Errorf("heard %d times: %v", heard, err)
	}
	if err := q.Prioritize(t.Context(), "none", true); err == nil || heard != 2 {
		t.Errorf("heard %d times: %v", heard, err)
	}
}
