package prove

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// The proof and the compiler of maps, which were written apart, find the same uses hard to tell from each other.
func TestDoorsAgreeWithTheCompiler(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ways, taken := newDoors(), []netmap.Door{}
		for range rapid.IntRange(1, 12).Draw(t, "uses") {
			u := wire.Use{
				Service: "s", LANPort: rapid.Uint16Range(1, 2).Draw(t, "port"),
				Protocol: rapid.SampledFrom([]wire.Protocol{wire.DICOM, wire.HL7, wire.HL7, wire.HL7}).Draw(t, "protocol"),
			}
			if u.Protocol == wire.DICOM {
				u.AETitle = rapid.SampledFrom([]string{"PACS", "pacs ", "CT"}).Draw(t, "title")
			} else {
				u.Receiver = rapid.SampledFrom([]string{"", "A", "a", "A^x", "a^X", "A^y", "B^x", "b"}).Draw(t, "receiver")
				u.HL7.Types = rapid.SampledFrom([]string{"", "ORU", "ORU^R01", "ORM^O01,ORU^R01", "ORU^R03", "ADT,ORM"}).Draw(t, "types")
				u.HL7.Copy = rapid.IntRange(0, 5).Draw(t, "copy") == 0
			}
			d := netmap.Door{
				Port: u.LANPort, Protocol: u.Protocol, AETitle: u.AETitle, Receiver: u.Receiver, Types: u.HL7.TypeList(), Copy: u.HL7.Copy,
			}
			want := false
			for _, other := range taken {
				want = want || d.Collides(other)
			}
			if _, got := ways.enter(u); got != want {
				t.Fatalf("%+v after %+v: %v, want %v", d, taken, got, want)
			}
			if !want {
				taken = append(taken, d)
			}
		}
	})
}

// TestMapsSayWhatTheServiceDoes changes one option of HL7 in a map and expects to be told.
func TestMapsSayWhatTheServiceDoes(t *testing.T) {
	v := Service{Name: "his", Protocol: wire.HL7, Mode: wire.Queued, Receiver: "HIS", HL7: wire.HL7Options{Types: "ORU", Behind: wire.Stop}}
	o := wire.Offer{Service: "his", Protocol: wire.HL7, Mode: wire.Queued, Receiver: "HIS", HL7: v.HL7}
	if !sameHL7(o, v) {
		t.Error("an offer as the service is was refused")
	}
	for name, change := range map[string]func(*wire.Offer){
		"mode": func(o *wire.Offer) { o.Mode = wire.PassThrough }, "receiver": func(o *wire.Offer) { o.Receiver = "" },
		"types": func(o *wire.Offer) { o.HL7.Types = "" }, "commit": func(o *wire.Offer) { o.HL7.CommitTarget = true },
	} {
		changed := o
		change(&changed)
		if sameHL7(changed, v) {
			t.Errorf("another %s was taken", name)
		}
	}
	v.Protocol = wire.DICOM
	if sameHL7(o, v) || !sameHL7(wire.Offer{Protocol: wire.DICOM}, v) {
		t.Error("DICOM with options of HL7 was taken, or without them refused")
	}
}

// TestFolderTargets holds that a folder is a name on the box and nothing else.
func TestFolderTargets(t *testing.T) {
	for target, ok := range map[string]bool{
		"folder:findings": true, "folder:a-1": true, "folder:": false, "folder:../x": false, "folder:/etc": false, "folder:A": false, "folder:x:1": false,
	} {
		r := &report{}
		p := &Prover{}
		p.proveTarget(r, Node{ID: "n", Site: "s"}, &mapState{}, wire.Offer{Service: "his", Protocol: wire.HL7, Target: target})
		if bad := len(r.result.bad) > 0; bad == ok {
			t.Errorf("%s: %v", target, r.result.bad)
		}
	}
}
