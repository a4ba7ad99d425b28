package netmap

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/wire"
)

// Whatever comes in whatever order, the set takes exactly what collides with none that it took.
func TestDoorsAgainstCollides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, taken := doors{}, []Door{}
		for range rapid.IntRange(1, 20).Draw(t, "doors") {
			d := Door{
				Port:     rapid.Uint16Range(1, 2).Draw(t, "port"),
				Protocol: rapid.SampledFrom([]wire.Protocol{wire.DICOM, wire.HL7, wire.HL7}).Draw(t, "protocol"),
			}
			if d.Protocol == wire.DICOM {
				d.AETitle = rapid.SampledFrom([]string{"PACS", "pacs ", " Pacs", "CT", "K", "\u212a", "MR 1"}).Draw(t, "title") // the Kelvin sign folds to K
			} else {
				d.Receiver = rapid.SampledFrom([]string{"", "A", "a", "A^", "A^x", "a^X", "A^y", "B^x", "b", "C", "^", "^x"}).Draw(t, "receiver")
				d.Types = rapid.SampledFrom([][]string{nil, nil, {"ORU"}, {"ORU^R01"}, {"ORM^O01", "ORU^R01"}, {"ORU^R03"}, {"ADT", "ORM"}}).Draw(t, "types")
				d.Copy = rapid.IntRange(0, 5).Draw(t, "copy") == 0
			}
			want := !slices.ContainsFunc(taken, d.Collides)
			if got := set.enter(d); got != want {
				t.Fatalf("%+v after %+v: taken %v, want %v", d, taken, got, want)
			}
			if want {
				taken = append(taken, d)
			}
		}
	})
}
