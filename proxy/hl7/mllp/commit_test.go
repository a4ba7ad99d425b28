package mllp_test

import (
	"testing"

	"github.com/towpath/towpath/proxy/hl7/mllp"
)

func TestIsCommit(t *testing.T) {
	for content, want := range map[string][2]bool{
		"\x06": {true, true}, "\x15": {false, true}, "": {}, "\x06\x06": {}, "M": {}, "MSH|^~\\&|": {},
	} {
		if committed, is := mllp.IsCommit([]byte(content)); committed != want[0] || is != want[1] {
			t.Errorf("%q: %v, %v; want %v", content, committed, is, want)
		}
	}
}

// TestFragments has a sender start again in the middle of a message, with the line cut into single bytes.
func TestFragments(t *testing.T) {
	d := mllp.NewDecoder(0)
	var got []string
	for _, c := range []byte("\x0bMSH|one, cut\x0bMSH|one\r\x1c\r\x0bMSH|a\x0bMS|b\x1c\r\x0bFHS|x\x0bBHS|y\x0bMSH|z\x1c\r") {
		d.Feed([]byte{c})
		frame, ok, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			got = append(got, string(frame))
		}
	}
	if len(got) != 3 || got[0] != "MSH|one\r" || got[1] != "MSH|a\x0bMS|b" || got[2] != "MSH|z" || d.Fragments() != 3 {
		t.Errorf("frames %q, %d fragments", got, d.Fragments())
	}
}
