package dicom

import (
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// What is told of any outcome is read back as that, in both encodings.
func TestPledgeEventIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		enc := encoding{order: binary.LittleEndian, explicit: rapid.Bool().Draw(t, "explicit")}
		p := pledge{Transaction: "2.25.1"}
		for i := range rapid.IntRange(1, 9).Draw(t, "objects") {
			o := promise{Class: "1.2.840.10008.5.1.4.1.1.2", Instance: fmt.Sprintf("1.2.%d", i*11), Committed: rapid.Bool().Draw(t, "good")}
			if !o.Committed {
				o.Reason = rapid.Uint16Range(1, 0xFFFF).Draw(t, "reason")
			}
			p.Objects = append(p.Objects, o)
		}
		event, data := p.event(enc)
		r := parseReport(data, enc)
		failures := false
		for _, o := range p.Objects {
			switch got := r.objects[o.Instance]; {
			case o.Committed && got != committed:
				t.Fatalf("%s is committed and read as %d", o.Instance, got)
			case !o.Committed && (got == committed || r.reasons[o.Instance] != o.Reason):
				t.Fatalf("%s failed with %04X and is read as %d, %04X", o.Instance, o.Reason, got, r.reasons[o.Instance])
			}
			failures = failures || !o.Committed
		}
		if r.transaction != p.Transaction || len(r.objects) != len(p.Objects) || (event == eventFailuresExist) != failures {
			t.Fatalf("event %d, transaction %q, %d objects", event, r.transaction, len(r.objects))
		}
		// A request is read as it is asked.
		if !enc.explicit {
			got, err := parsePledge(requestFor("2.25.1", p.Objects), enc)
			if err != nil || got.Transaction != p.Transaction || !got.sameRequest(&p) {
				t.Fatalf("%+v, %v", got, err)
			}
		}
	})
}

func TestParkedReason(t *testing.T) {
	for text, want := range map[string]uint16{
		"PACS refused the object with status 0122 (SOP class not supported): x":              0x0122,
		"PACS refused the object with status 0118 (no such SOP class): x":                    0x0122,
		"PACS refused the object with status A900 (data set does not match SOP class): x":    0x0110,
		"PACS has failed 50 times with this object; the last time: status A700 (out of): x":  0x0213,
		"PACS refused the object with status 0119 (SOP class and instance do not belong): x": 0x0119,
		"held by an operator": 0x0110,
	} {
		if got := parkedReason(text, false); got != want {
			t.Errorf("%s: %04X, want %04X", text, got, want)
		}
	}
	if got := parkedReason("PACS does not accept SOP class 1.2 in transfer syntax 1.3", true); got != 0x0122 {
		t.Errorf("a kind that the archive does not take: %04X", got)
	}
}

func FuzzParsePledge(f *testing.F) {
	enc := encoding{order: binary.LittleEndian}
	f.Add(requestFor("2.25.1", []promise{{Class: "1.2", Instance: "1.3"}}), false)
	f.Add([]byte{8, 0, 0x99, 0x11, 0xFF, 0xFF, 0xFF, 0xFF}, true)
	f.Fuzz(func(t *testing.T, b []byte, explicit bool) {
		enc.explicit = explicit
		p, err := parsePledge(b, enc)
		if err != nil {
			return
		}
		if !ValidUID(p.Transaction) || len(p.Objects) == 0 || len(p.Objects)*16 > len(b) {
			t.Fatalf("%d bytes are read as %d objects of %q", len(b), len(p.Objects), p.Transaction)
		}
		for _, o := range p.Objects {
			if !ValidUID(o.Class) || !ValidUID(o.Instance) {
				t.Fatalf("%+v", o)
			}
		}
	})
}
