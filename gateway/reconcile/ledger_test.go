package reconcile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/gateway/reconcile"
)

// TestDICOMQueuesHaveALedger looks for the memory of each queue that is delivered by DICOM beside the queue, and for none elsewhere.
func TestDICOMQueuesHaveALedger(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	d := compiled(t, m)
	if err := f.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, delivery := range d.Deliveries {
		if delivery.Protocol == "dicom" {
			want = append(want, delivery.Queue)
		}
	}
	entries, err := os.ReadDir(filepath.Join(f.queue.Dir(), "books"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue // what is kept of storage commitments
		}
		got = append(got, strings.TrimSuffix(e.Name(), ".ledger"))
	}
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("ledgers of %v instead of %v", got, want)
	}
	var counted []string
	for _, c := range f.DICOM() {
		counted = append(counted, c.Queue)
	}
	if !slices.Equal(want, counted) {
		t.Errorf("counts of %v instead of %v", counted, want)
	}
	if err := f.Apply(t.Context(), reconcile.Desired{Tunnel: d.Tunnel}); err != nil {
		t.Fatal(err)
	}
	if c := f.DICOM(); len(c) > 0 {
		t.Errorf("nothing is emptied any more, and counted are %v", c)
	}
}
