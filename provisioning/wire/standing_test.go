package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func sampleStanding() wire.StandingRequest {
	return wire.StandingRequest{Format: wire.Format, Node: "node_abc", PublicKey: wgkey.PublicKey{1, 2, 3}}
}

func TestSealedStanding(t *testing.T) {
	keys := testKeys()
	seal := keys[0].identity().HPKE
	body, opener, err := wire.SealStanding(seal, sampleStanding())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(body, []byte("node_")) {
		t.Error("the request can be read on the way")
	}
	req, sealer, err := wire.OpenStanding(keys[0].enroll, body)
	if err != nil || req != sampleStanding() {
		t.Fatalf("opened %+v (%v)", req, err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 1, 0, time.UTC)
	for _, want := range []wire.StandingResponse{
		{Standing: wire.StandingActive, Now: now},
		{Standing: wire.StandingQuarantined, Message: "its key was seen in two places: 192.0.2.1:4500 und Höhe " + strings.Repeat("x", 200), Now: now},
	} {
		sealed, err := sealer.Seal(want)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != wire.StandingSize || bytes.Contains(sealed, []byte("standing")) {
			t.Errorf("the answer has %d bytes, want %d for all, and unreadable", len(sealed), wire.StandingSize)
		}
		got, err := opener.Open(sealed)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%v: -sealed +opened:\n%s", err, d)
		}
		every(t, sealed, func(changed []byte) error {
			_, err := opener.Open(changed)
			return err
		})
	}
	every(t, body, func(changed []byte) error {
		_, sealer, err := wire.OpenStanding(keys[0].enroll, changed)
		if sealer != nil {
			t.Error("a changed request can be answered")
		}
		return err
	})
	if _, _, err := wire.OpenStanding(keys[1].enroll, body); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("another coordinator: got %v", err)
	}
}

// The words that make an answer long are those of operators.
func TestStandingMessageIsCut(t *testing.T) {
	keys := testKeys()[0]
	body, opener, err := wire.SealStanding(keys.identity().HPKE, sampleStanding())
	if err != nil {
		t.Fatal(err)
	}
	_, sealer, err := wire.OpenStanding(keys.enroll, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, long := range []string{strings.Repeat("<", 5000), strings.Repeat("ö", 5000), strings.Repeat("\x00", 299) + "öö"} {
		sealed, err := sealer.Seal(wire.StandingResponse{Standing: wire.StandingQuarantined, Message: long})
		if err != nil || len(sealed) != wire.StandingSize {
			t.Fatalf("%d bytes, %v", len(sealed), err)
		}
		if got, err := opener.Open(sealed); err != nil || !strings.HasPrefix(long, got.Message) || len(got.Message) < 299 {
			t.Errorf("%.20q became %q (%v)", long, got.Message, err)
		}
	}
}

// A message of one kind is none of the other, although the key is the same.
func TestSealedKindsAreApart(t *testing.T) {
	keys := testKeys()[0]
	enroll, _, err := wire.SealRequest(keys.identity(), sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	ask, opener, err := wire.SealStanding(keys.identity().HPKE, sampleStanding())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := wire.OpenStanding(keys.enroll, enroll); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("an enrolment as a question: %v", err)
	}
	if _, _, err := wire.OpenRequest(keys.enroll, ask); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("a question as an enrolment: %v", err)
	}
	_, sealer, err := wire.OpenRequest(keys.enroll, enroll)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := sealer.Seal(sampleResponse())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener.Open(answer); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("an enrolment's answer: %v", err)
	}
	if _, _, err := wire.OpenStanding(keys.enroll, make([]byte, wire.MaxStandingBody+1)); !errors.Is(err, wire.ErrSealed) {
		t.Errorf("too long: %v", err)
	}
	if _, _, err := wire.SealStanding([]byte("short"), sampleStanding()); err == nil {
		t.Error("sealed to no key")
	}
}

func FuzzOpenStanding(f *testing.F) {
	keys := testKeys()[0]
	body, _, err := wire.SealStanding(keys.identity().HPKE, sampleStanding())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:1200])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, sealer, err := wire.OpenStanding(keys.enroll, b)
		if err != nil && (!errors.Is(err, wire.ErrSealed) || sealer != nil) {
			t.Fatalf("%v is no %v, or it can be answered", err, wire.ErrSealed)
		}
	})
}

func FuzzOpenStandingAnswer(f *testing.F) {
	keys := testKeys()[0]
	body, opener, err := wire.SealStanding(keys.identity().HPKE, sampleStanding())
	if err != nil {
		f.Fatal(err)
	}
	_, sealer, err := wire.OpenStanding(keys.enroll, body)
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealer.Seal(wire.StandingResponse{Standing: wire.StandingActive})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := opener.Open(b); (err == nil) != bytes.Equal(b, good) || err != nil && !errors.Is(err, wire.ErrSealed) {
			t.Fatalf("got %v", err)
		}
	})
}
