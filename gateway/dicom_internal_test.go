package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/proxy/dicom"
)

func TestConflictsAreToldForADay(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := reconcile.DICOMCounts{Queue: "dicom.pacs", LedgerCounts: dicom.LedgerCounts{Conflicts: 3, LastConflict: at}}
	if s := conflictText(c, at.Add(23*time.Hour)); !strings.Contains(s, "3 objects of queue dicom.pacs") || !strings.Contains(s, "2026-11-22T12:00:00Z") {
		t.Errorf("told is %q", s)
	}
	if s := conflictText(c, at.Add(25*time.Hour)); s != "" {
		t.Errorf("a day later: %q", s)
	}
	if s := conflictText(reconcile.DICOMCounts{Queue: "dicom.pacs"}, at); s != "" {
		t.Errorf("without any: %q", s)
	}
}
