package adminapi

import "testing"

// TestRoundedKeepsTheEnds: a little is not nothing, and almost all is not all.
func TestRoundedKeepsTheEnds(t *testing.T) {
	for f, want := range map[float64]float64{0: 0, 1e-12: 0.0001, 0.00004: 0.0001, 0.25: 0.25, 0.12345678: 0.1235, 0.99999: 0.9999, 1: 1} {
		if got := rounded(f); got != want {
			t.Errorf("%v: got %v, want %v", f, got, want)
		}
	}
}
