package pdu_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// ignoreRaw compares associations by their fields, not by the bytes they came as.
var ignoreRaw = cmp.Options{
	cmpopts.IgnoreUnexported(pdu.AssociateRQ{}, pdu.AssociateAC{}),
	cmpopts.EquateEmpty(),
}

// echoRQ is the A-ASSOCIATE-RQ of a C-ECHO, put together by hand from PS3.8 §9.3.2.
const echoRQ = "0100 000000cc" + // type, reserved, length 204
	"0001 0000" + // version, reserved
	"414e592d534350202020202020202020" + // called "ANY-SCP"
	"4543484f534355202020202020202020" + // calling "ECHOSCU"
	"0000000000000000000000000000000000000000000000000000000000000000" +
	"1000 0015 312e322e3834302e31303030382e332e312e312e31" + // application context
	"2000 002e 01000000" + // presentation context 1
	"3000 0011 312e322e3834302e31303030382e312e31" + // verification
	"4000 0011 312e322e3834302e31303030382e312e32" + // implicit VR little endian
	"5000 0039" + // user information
	"5100 0004 00004000" + // maximum length 16384
	"5200 001b 312e322e3237362e302e373233303031302e332e302e332e362e37" + // class UID
	"5500 000e 4f464649535f44434d544b5f3336" // version name

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeAssociateRQByHand(t *testing.T) {
	b := unhex(t, echoRQ)
	rq, err := pdu.DecodeAssociateRQ(b, pdu.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := &pdu.AssociateRQ{
		ProtocolVersion: 1, CalledAE: "ANY-SCP", CallingAE: "ECHOSCU", ApplicationContext: pdu.ApplicationContext,
		Contexts: []pdu.ProposedContext{{ID: 1, AbstractSyntax: "1.2.840.10008.1.1", TransferSyntaxes: []string{"1.2.840.10008.1.2"}}},
		UserInfo: pdu.UserInfo{
			MaxLength: 16384, ImplementationClass: "1.2.276.0.7230010.3.0.3.6.7", ImplementationVersion: "OFFIS_DCMTK_36",
		},
	}
	if diff := cmp.Diff(want, rq, ignoreRaw); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(rq.Raw(), b) {
		t.Error("Raw is not what was received")
	}
	again, err := rq.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("encoded again as\n%x instead of\n%x", again, b)
	}
}

var (
	uids    = rapid.StringMatching(`[0-2](\.(0|[1-9][0-9]{0,8})){1,6}`)
	titles  = rapid.StringMatching(`[A-Z]([A-Z0-9_ -]{0,14}[A-Z0-9])?`)
	blobs   = rapid.SliceOfN(rapid.Byte(), 0, 40)
	unknown = rapid.Custom(func(t *rapid.T) pdu.Item {
		return pdu.Item{Type: rapid.SampledFrom([]uint8{0x57, 0x5A, 0x01, 0xFF}).Draw(t, "type"), Data: blobs.Draw(t, "data")}
	})
	userInfos = rapid.Custom(func(t *rapid.T) pdu.UserInfo {
		u := pdu.UserInfo{
			MaxLength:             rapid.Uint32().Draw(t, "max"),
			ImplementationClass:   rapid.OneOf(rapid.Just(""), uids).Draw(t, "class"),
			ImplementationVersion: rapid.StringMatching(`([A-Z_0-9]{1,16})?`).Draw(t, "version"),
			Roles: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pdu.Role {
				return pdu.Role{SOPClass: uids.Draw(t, "uid"), SCU: rapid.Bool().Draw(t, "scu"), SCP: rapid.Bool().Draw(t, "scp")}
			}), 0, 4).Draw(t, "roles"),
			Extended: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pdu.Extended {
				return pdu.Extended{SOPClass: uids.Draw(t, "uid"), Info: blobs.Draw(t, "info")}
			}), 0, 4).Draw(t, "extended"),
			Unknown: rapid.SliceOfN(unknown, 0, 4).Draw(t, "unknown"),
		}
		if rapid.Bool().Draw(t, "async") {
			u.Async = &pdu.AsyncWindow{Invoked: rapid.Uint16().Draw(t, "invoked"), Performed: rapid.Uint16().Draw(t, "performed")}
		}
		if rapid.Bool().Draw(t, "identity") {
			u.Identity = &pdu.UserIdentity{
				Type: rapid.Uint8().Draw(t, "type"), ResponseRequested: rapid.Bool().Draw(t, "wanted"),
				Primary: blobs.Draw(t, "primary"), Secondary: blobs.Draw(t, "secondary"),
			}
		}
		if rapid.Bool().Draw(t, "identity response") {
			u.IdentityResponse = append([]byte{1}, blobs.Draw(t, "response")...)
		}
		return u
	})
)

func TestAssociateRQRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rq := &pdu.AssociateRQ{
			ProtocolVersion: rapid.Uint16().Draw(t, "version"), CalledAE: titles.Draw(t, "called"), CallingAE: titles.Draw(t, "calling"),
			ApplicationContext: uids.Draw(t, "context"), UserInfo: userInfos.Draw(t, "user info"),
		}
		for i := range rapid.IntRange(1, 128).Draw(t, "contexts") {
			rq.Contexts = append(rq.Contexts, pdu.ProposedContext{
				ID: uint8(2*i + 1), AbstractSyntax: uids.Draw(t, "abstract"),
				TransferSyntaxes: rapid.SliceOfN(uids, 1, 3).Draw(t, "syntaxes"),
			})
		}
		b, err := rq.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := pdu.DecodeAssociateRQ(b, pdu.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rq, got, ignoreRaw); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAssociateACRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ac := &pdu.AssociateAC{
			ProtocolVersion: 1, CalledAE: titles.Draw(t, "called"), CallingAE: titles.Draw(t, "calling"),
			ApplicationContext: pdu.ApplicationContext, UserInfo: userInfos.Draw(t, "user info"),
		}
		for i := range rapid.IntRange(0, 128).Draw(t, "contexts") {
			ac.Contexts = append(ac.Contexts, pdu.AcceptedContext{
				ID: uint8(2*i + 1), Result: pdu.ContextResult(rapid.Uint8().Draw(t, "result")), TransferSyntax: uids.Draw(t, "syntax"),
			})
		}
		b, err := ac.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := pdu.DecodeAssociateAC(b, pdu.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ac, got, ignoreRaw); diff != "" {
			t.Fatal(diff)
		}
	})
}

// build makes a request with n contexts of m transfer syntaxes and k roles.
func build(t testing.TB, n, m, k int) []byte {
	t.Helper()
	rq := &pdu.AssociateRQ{ProtocolVersion: 1, CalledAE: "A", CallingAE: "B", ApplicationContext: pdu.ApplicationContext}
	for i := range n {
		pc := pdu.ProposedContext{ID: uint8(2*i + 1), AbstractSyntax: "1.2"}
		for j := range m {
			pc.TransferSyntaxes = append(pc.TransferSyntaxes, fmt.Sprintf("1.2.%d", j))
		}
		rq.Contexts = append(rq.Contexts, pc)
	}
	for range k {
		rq.UserInfo.Roles = append(rq.UserInfo.Roles, pdu.Role{SOPClass: "1.2"})
	}
	b, err := rq.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAssociateRQLimits(t *testing.T) {
	for _, tc := range []struct {
		name    string
		b       []byte
		lim     pdu.Limits
		message string
	}{
		{"contexts", build(t, 5, 1, 0), pdu.Limits{MaxContexts: 4}, "more than 4 presentation contexts"},
		{"more contexts than IDs", build(t, 129, 1, 0), pdu.Limits{}, "presentation contexts"},
		{"syntaxes", build(t, 1, 65, 0), pdu.Limits{}, "more than 64 transfer syntaxes"},
		{"user items", build(t, 1, 1, 512), pdu.Limits{}, "more than 512 user information items"},
		{"size", build(t, 9, 9, 9), pdu.Limits{MaxAssociate: 100}, "at most 100 are taken"},
		{"no context", build(t, 0, 0, 0), pdu.Limits{}, "no presentation context"},
		{"no syntax", build(t, 1, 0, 0), pdu.Limits{}, "lacks an abstract or transfer syntax"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := pdu.DecodeAssociateRQ(tc.b, tc.lim)
			bad, ok := errors.AsType[*pdu.Error](err)
			if !ok || bad.Reason != pdu.ReasonInvalidParameter || !strings.Contains(bad.Message, tc.message) {
				t.Errorf("got %v, want %q", err, tc.message)
			}
		})
	}
	if _, err := pdu.DecodeAssociateRQ(build(t, 128, 64, 511), pdu.Limits{}); err != nil {
		t.Errorf("the largest request within the limits is refused: %v", err)
	}
}

func TestAssociateRQRefusesContextIDs(t *testing.T) {
	for name, ids := range map[string][]uint8{"even": {2}, "twice": {1, 1}} {
		rq := &pdu.AssociateRQ{}
		for _, id := range ids {
			rq.Contexts = append(rq.Contexts, pdu.ProposedContext{ID: id, AbstractSyntax: "1.2", TransferSyntaxes: []string{"1.2"}})
		}
		b, err := rq.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pdu.DecodeAssociateRQ(b, pdu.Limits{}); err == nil {
			t.Errorf("%s context IDs are accepted", name)
		}
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	rq := &pdu.AssociateRQ{CalledAE: "SEVENTEEN-LETTERS"}
	if _, err := rq.Encode(); err == nil {
		t.Error("an AE title of 17 characters is encoded")
	}
	rq = &pdu.AssociateRQ{UserInfo: pdu.UserInfo{Identity: &pdu.UserIdentity{Primary: make([]byte, 1<<16)}}}
	if _, err := rq.Encode(); err == nil {
		t.Error("a field of 64 KiB is encoded")
	}
}

func TestAETitles(t *testing.T) {
	b := build(t, 1, 1, 0)
	copy(b[10:26], "  PACS 1\x00\x00\x00\x00\x00\x00\x00\x00")
	rq, err := pdu.DecodeAssociateRQ(b, pdu.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if rq.CalledAE != "PACS 1" {
		t.Errorf("called AE title %q", rq.CalledAE)
	}
	for _, ok := range []string{"A", "PACS 1", "SIXTEEN-LETTERS-"} {
		if err := pdu.CheckAETitle(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "   ", " A", "A ", "SEVENTEEN-LETTERS", "A\\B", "Ä", "A\x00B", "A\n"} {
		if err := pdu.CheckAETitle(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestUserIdentityNeverPrints(t *testing.T) {
	id := pdu.UserIdentity{Type: 2, Primary: []byte("user"), Secondary: []byte("passcode")}
	rq := pdu.AssociateRQ{UserInfo: pdu.UserInfo{Identity: &id}}
	for _, s := range []string{fmt.Sprint(id), fmt.Sprintf("%+v", id), fmt.Sprintf("%#v", id), fmt.Sprintf("%+v", rq), fmt.Sprint(&id)} {
		if strings.Contains(s, "passcode") || strings.Contains(s, fmt.Sprint([]byte("passcode"))) {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestShortPDUs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rj := pdu.AssociateRJ{
			Result: pdu.RejectResult(rapid.Uint8().Draw(t, "result")), Source: pdu.RejectSource(rapid.Uint8().Draw(t, "source")),
			Reason: rapid.Uint8().Draw(t, "reason"),
		}
		if got, err := pdu.DecodeAssociateRJ(rj.Encode()); err != nil || got != rj {
			t.Fatalf("%v, %v instead of %v", got, err, rj)
		}
		a := pdu.Abort{Source: pdu.AbortSource(rapid.Uint8().Draw(t, "who")), Reason: pdu.Reason(rapid.Uint8().Draw(t, "why"))}
		if got, err := pdu.DecodeAbort(a.Encode()); err != nil || got != a {
			t.Fatalf("%v, %v instead of %v", got, err, a)
		}
	})
	if got := hex.EncodeToString(pdu.EncodeReleaseRQ()); got != "05000000000400000000" {
		t.Errorf("A-RELEASE-RQ is %s", got)
	}
	if got := hex.EncodeToString(pdu.EncodeReleaseRP()); got != "06000000000400000000" {
		t.Errorf("A-RELEASE-RP is %s", got)
	}
	if got := (pdu.AssociateRJ{Result: 1, Source: 1, Reason: 7}).String(); got != "1/1/7 (permanent, called AE title not recognized)" {
		t.Errorf("printed as %s", got)
	}
	if got := (pdu.AssociateRJ{Result: 2, Source: 3, Reason: 1}).String(); got != "2/3/1 (transient, temporary congestion)" {
		t.Errorf("printed as %s", got)
	}
	if _, err := pdu.DecodeAbort((pdu.AssociateRJ{}).Encode()); err == nil {
		t.Error("an A-ASSOCIATE-RJ is decoded as an A-ABORT")
	}
}

func FuzzAssociate(f *testing.F) {
	f.Add(build(f, 1, 1, 1))
	f.Add(build(f, 3, 2, 0))
	f.Add((pdu.AssociateRJ{}).Encode())
	ac := pdu.AssociateAC{Contexts: []pdu.AcceptedContext{{ID: 1, TransferSyntax: "1.2"}}, UserInfo: pdu.UserInfo{MaxLength: 1}}
	b, err := ac.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if rq, err := pdu.DecodeAssociateRQ(b, pdu.Limits{}); err == nil {
			again, err := rq.Encode()
			if err != nil {
				t.Fatalf("decoded and cannot be encoded: %v", err)
			}
			same, err := pdu.DecodeAssociateRQ(again, pdu.Limits{})
			if err != nil {
				t.Fatalf("decoded, encoded and cannot be decoded: %v", err)
			}
			if diff := cmp.Diff(rq, same, ignoreRaw); diff != "" {
				t.Fatal(diff)
			}
		}
		if ac, err := pdu.DecodeAssociateAC(b, pdu.Limits{}); err == nil {
			again, err := ac.Encode()
			if err != nil {
				t.Fatalf("decoded and cannot be encoded: %v", err)
			}
			same, err := pdu.DecodeAssociateAC(again, pdu.Limits{})
			if err != nil {
				t.Fatalf("decoded, encoded and cannot be decoded: %v", err)
			}
			if diff := cmp.Diff(ac, same, ignoreRaw); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
