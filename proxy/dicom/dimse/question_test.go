package dimse_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// TestQuestionsByHand compares the requests that ask with bytes written down from PS3.7 tables 9.3-3, 10.3-1 and 10.3-7.
func TestQuestionsByHand(t *testing.T) {
	for name, tc := range map[string]struct {
		set  dimse.Set
		want string
	}{
		"C-FIND": {
			dimse.FindRQ{MessageID: 5, SOPClass: "1.2"}.Set(),
			"00000000 04000000 34000000 00000200 04000000 312e3200 00000001 02000000 2000 00001001 02000000 0500 " +
				"00000007 02000000 0000 00000008 02000000 0100",
		},
		"N-ACTION": {
			dimse.ActionRQ{MessageID: 5, SOPClass: "1.2", SOPInstance: "1.2.3", Action: 1}.Set(),
			"00000000 04000000 42000000 00000300 04000000 312e3200 00000001 02000000 3001 00001001 02000000 0500 " +
				"00000008 02000000 0100 00000110 06000000 312e322e3300 00000810 02000000 0100",
		},
		"N-EVENT-REPORT": {
			dimse.EventReportRQ{MessageID: 5, SOPClass: "1.2", SOPInstance: "1.2.3", Event: 2}.Set(),
			"00000000 04000000 42000000 00000200 04000000 312e3200 00000001 02000000 0001 00001001 02000000 0500 " +
				"00000008 02000000 0100 00000010 06000000 312e322e3300 00000210 02000000 0200",
		},
	} {
		if got := hex.EncodeToString(tc.set.Encode()); got != strings.ReplaceAll(tc.want, " ", "") {
			t.Errorf("%s: %s", name, got)
		}
	}
}
