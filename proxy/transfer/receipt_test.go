package transfer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func sample() Receipt {
	return Receipt{
		Kind: Accepted, Origin: Origin{"clinic", "0001", [32]byte{1, 2, 3}}, Size: 526_000, Service: "pacs", By: "center",
		At: time.Date(2026, 11, 22, 23, 0, 0, 7, time.UTC), Code: "0000", Peer: "ARCHIVE",
	}
}

// The canonical form is what archives hold: it must never change within a version.
func TestReceiptGolden(t *testing.T) {
	r, err := sample().sign(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	want := "746f77706174682072656365697074 0a 01 02" +
		"0006 636c696e6963 0004 30303031 0102030000000000000000000000000000000000000000000000000000000000" +
		"00000000000806b0 0004 70616373 0006 63656e746572 " + hex.EncodeToString(r.Key[:]) +
		"18ea803cc7db6007 0004 30303030 0007 41524348495645 0000"
	want = strings.ReplaceAll(want, " ", "")
	if got := hex.EncodeToString(r.Bytes()[:len(r.Bytes())-64]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReceiptVerifies(t *testing.T) {
	key := testKey(1)
	r, err := sample().sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseReceipt(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(publicOf(key)); err != nil {
		t.Error(err)
	}
	if got.Origin != r.Origin || got.Size != r.Size || !got.At.Equal(r.At) || got.Code != r.Code || got.Peer != r.Peer || got.Kind != r.Kind {
		t.Errorf("%+v", got)
	}
	for name, public := range map[string]ed25519.PublicKey{"another key": publicOf(testKey(2)), "no key": nil} {
		if err := got.Verify(public); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range r.Bytes() {
		b := bytes.Clone(r.Bytes())
		b[i] ^= 1
		if forged, err := ParseReceipt(b); err == nil && forged.Verify(publicOf(key)) == nil {
			t.Errorf("byte %d does not count", i)
		}
	}
	if err := (Receipt{}).Verify(publicOf(key)); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sample().sign(other); err == nil {
		t.Error("signed by RSA")
	}
	long := sample()
	long.Reason = strings.Repeat("ü", MaxText)
	if r, err = long.sign(key); err != nil {
		t.Fatal(err)
	}
	if got, err = ParseReceipt(r.Bytes()); err != nil || len(got.Reason) > MaxText {
		t.Errorf("a reason of %d bytes: %v", len(got.Reason), err)
	}
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
