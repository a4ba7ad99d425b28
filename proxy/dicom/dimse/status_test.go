package dimse_test

import (
	"testing"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// TestStatusClasses pins the judgment on each status that C-STORE can answer (PS3.4 table B.2-1, PS3.7 annex C).
func TestStatusClasses(t *testing.T) {
	for class, values := range map[dimse.Class][]dimse.Status{
		dimse.ClassSuccess:   {0x0000},
		dimse.ClassWarning:   {0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xB123},
		dimse.ClassTransient: {0xA700, 0xA701, 0xA7FF, 0x0110, 0x0124, 0x0210, 0x0213},
		dimse.ClassPermanent: {
			0xA900, 0xA9FF, 0xC000, 0xC123, 0xCFFF, 0x0105, 0x0106, 0x0111, 0x0112, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122,
			0x0211, 0x0212, 0xA801, 0x1234, 0x0002,
		},
		dimse.ClassPending:  {0xFF00, 0xFF01},
		dimse.ClassCanceled: {0xFE00},
	} {
		for _, v := range values {
			if got := v.Class(); got != class {
				t.Errorf("%s is %s instead of %s", v, got, class)
			}
		}
	}
}

// TestStatusHasWords looks that every possible status has a class and prints.
func TestStatusHasWords(t *testing.T) {
	for v := range 1 << 16 {
		s := dimse.Status(v)
		if s.Class().String() == "unknown" || len(s.String()) < len("0000 (x)") {
			t.Fatalf("%04X prints as %s, class %s", v, s, s.Class())
		}
	}
	if got := dimse.OutOfResources.String(); got != "A700 (out of resources)" {
		t.Errorf("A700 prints as %s", got)
	}
	got := dimse.CStoreRSP.String() + " " + dimse.CFindRQ.String() + " " + dimse.Command(0x77).String()
	if got != "C-STORE-RSP C-FIND-RQ command 0077H" {
		t.Errorf("commands print as %s", got)
	}
}
