package dicom_test

import (
	"errors"
	"testing"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
)

// What comes into a queue another way than by a route is urgent by the same rules, and keeps a higher priority that it has.
func TestUrgencyOfAQueue(t *testing.T) {
	q := &memoryQueue{}
	urgent := dicom.Urgency{Callers: []string{"ER_CT"}, Classes: []string{"1.2.3"}}.Queue(q)
	for _, tc := range []struct {
		calling, class string
		has, want      int
	}{
		{"CT1", "1.2", 0, 0}, {"ER_CT", "1.2", 0, spool.Urgent}, {"er_ct", "1.2", 0, 0}, {"CT1", "1.2.3", 0, spool.Urgent}, {"ER_CT", "1.2.3", 9, 9}, {"CT1", "1.2", 2, 2},
	} {
		w, err := urgent.Create(spool.Meta{
			Queue: "q", Priority: tc.has, Attributes: map[string]string{dicom.AttrCallingAE: tc.calling, dicom.AttrSOPClass: tc.class},
		})
		if err != nil {
			t.Fatal(err)
		}
		it, err := w.Commit()
		if err != nil || it.Meta.Priority != tc.want {
			t.Errorf("%+v has priority %d, %v", tc, it.Meta.Priority, err)
		}
	}
	q.createErr = errors.New("full")
	if _, err := urgent.Create(spool.Meta{}); !errors.Is(err, q.createErr) {
		t.Errorf("the queue's error is %v", err)
	}
}
