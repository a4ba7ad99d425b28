package wgkey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Bob's key pair of RFC 7748 §6.1.
const (
	bobPrivate = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
	bobPublic  = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
)

func TestPublicOfKnownKey(t *testing.T) {
	k, err := wgkey.ParsePrivateKeyHex(bobPrivate)
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	if p.Hex() != bobPublic {
		t.Errorf("public key is %s, want %s", p.Hex(), bobPublic)
	}
	if again, err := wgkey.ParsePrivateKey(k.RevealText()); err != nil || !again.Equal(k) {
		t.Errorf("text form does not come back: %v", err)
	}
	if k.RevealHex() != bobPrivate {
		t.Errorf("hexadecimal form is not what was parsed")
	}
	var text wgkey.PublicKey
	b, err := p.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := text.UnmarshalText(b); err != nil || text != p {
		t.Errorf("public key %v came back as %v (%v)", p, text, err)
	}
}

// spellings are the ways in which 32 bytes could end up in a text.
func spellings(b [wgkey.Size]byte) []string {
	var decimal, goHex []string
	for _, x := range b[:4] {
		decimal = append(decimal, fmt.Sprint(x))
		goHex = append(goHex, fmt.Sprintf("0x%x", x))
	}
	return []string{
		base64.StdEncoding.EncodeToString(b[:])[:16],
		strings.TrimRight(base64.URLEncoding.EncodeToString(b[:]), "=")[:16],
		fmt.Sprintf("%x", b[:6]), fmt.Sprintf("%X", b[:6]), fmt.Sprintf("% x", b[:6]),
		strings.Join(decimal, " "), strings.Join(decimal, ","), strings.Join(goHex, ", "),
		string(b[:6]), fmt.Sprintf("%q", string(b[:6])),
	}
}

type hidden struct {
	Exported wgkey.PrivateKey
	private  wgkey.PrivateKey
	Pointer  *wgkey.PrivateKey
	Shared   wgkey.PresharedKey
	shared   wgkey.PresharedKey
	Any      any
	List     []wgkey.PrivateKey
	Map      map[string]wgkey.PresharedKey
}

func TestSecretsNeverPrint(t *testing.T) {
	private, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := wgkey.NewPresharedKey()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := append(spellings(private.RevealBytes()), spellings(shared.RevealBytes())...)
	check := func(how, text string) {
		t.Helper()
		for _, f := range forbidden {
			if strings.Contains(text, f) {
				t.Errorf("%s shows a secret: %q", how, text)
				return
			}
		}
	}
	for name, v := range map[string]any{
		"private": private, "pointer": &private, "shared": shared,
		"struct": hidden{
			Exported: private, private: private, Pointer: &private, Shared: shared, shared: shared, Any: private,
			List: []wgkey.PrivateKey{private}, Map: map[string]wgkey.PresharedKey{"x": shared},
		},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%p", "%e", "%w"} {
			check(name+" as "+verb, fmt.Sprintf(verb, v))
		}
		check(name+" printed", fmt.Sprintln(v))
		b, err := json.Marshal(v)
		if err == nil || !errors.Is(err, wgkey.ErrSecret) {
			t.Errorf("json took %s: %s (%v)", name, b, err)
		}
		check(name+" as json", string(b)+fmt.Sprint(err))
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(v); err != nil {
			check(name+" as gob error", err.Error())
		}
		check(name+" as gob", buf.String())
		for _, h := range []slog.Handler{
			slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil),
		} {
			buf.Reset()
			slog.New(h).Info("x", "key", v, slog.Group("g", "key", v))
			check(fmt.Sprintf("%s in %T", name, h), buf.String())
		}
	}
	if s := fmt.Sprint(private, shared); s != "(private key) (preshared key)" {
		t.Errorf("printed as %q", s)
	}
}

func TestParseErrorsHideTheInput(t *testing.T) {
	private, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, digits := private.RevealText(), private.RevealHex()
	for _, in := range []string{
		"", " ", text + "=", text[:43], text[1:], " " + text, text + "\n", text[:20] + "\n" + text[20:], strings.ReplaceAll(text, "=", "x"),
		digits, digits + "0", digits[:63], digits[:63] + "g", strings.Repeat("A", 1<<20), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
	} {
		_, err1 := wgkey.ParsePrivateKey(in)
		_, err2 := wgkey.ParsePublicKey(in)
		if in != digits {
			_, err3 := wgkey.ParsePrivateKeyHex(in)
			_, err4 := wgkey.ParsePublicKeyHex(in)
			_, err5 := wgkey.ParsePresharedKeyHex(in)
			for _, err := range []error{err3, err4, err5} {
				if !errors.Is(err, wgkey.ErrMalformed) || (len(in) > 1 && strings.Contains(err.Error(), in)) {
					t.Errorf("hexadecimal, %d bytes: %v", len(in), err)
				}
			}
		}
		for _, err := range []error{err1, err2} {
			if !errors.Is(err, wgkey.ErrMalformed) {
				t.Errorf("base64, %d bytes: %v", len(in), err)
			} else if len(in) > 1 && (strings.Contains(err.Error(), in) || strings.Contains(err.Error(), text[:10])) {
				t.Errorf("the error shows the input: %v", err)
			}
		}
	}
}

func TestNewKeysDifferAndAreClamped(t *testing.T) {
	seen := map[[wgkey.Size]byte]bool{}
	for range 100 {
		k, err := wgkey.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		b := k.RevealBytes()
		if b[0]&7 != 0 || b[31]&0x80 != 0 || b[31]&0x40 == 0 {
			t.Error("a private key is not clamped")
		}
		p, err := wgkey.NewPresharedKey()
		if err != nil {
			t.Fatal(err)
		}
		if seen[b] || seen[p.RevealBytes()] {
			t.Fatal("a key came twice")
		}
		seen[b], seen[p.RevealBytes()] = true, true
	}
}

func TestZeroAndEqual(t *testing.T) {
	var private wgkey.PrivateKey
	var shared wgkey.PresharedKey
	var public wgkey.PublicKey
	if !private.IsZero() || !shared.IsZero() || !public.IsZero() {
		t.Error("a zero value is a key")
	}
	zeroes, err := wgkey.ParsePresharedKeyHex(strings.Repeat("0", 64))
	if err != nil || !zeroes.IsZero() || !zeroes.Equal(shared) {
		t.Errorf("a preshared key of zeroes is not none (%v)", err)
	}
	a, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	if copied := a; !copied.Equal(a) || a.Equal(b) || a.Equal(private) || a.IsZero() {
		t.Error("private keys compare wrongly")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "=", bobPrivate, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqwXf7pR25LCo=", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqwXf7pR25LCp=", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := wgkey.ParsePrivateKey(s)
		if err == nil && k.RevealText() != s {
			t.Errorf("%q is read as %q", s, k.RevealText())
		}
		p, perr := wgkey.ParsePublicKey(s)
		if (perr == nil) != (err == nil) || (perr == nil && p.String() != s) {
			t.Errorf("%q is read as %q (%v, private: %v)", s, p, perr, err)
		}
		if h, err := wgkey.ParsePublicKeyHex(s); err == nil && h.Hex() != strings.ToLower(s) {
			t.Errorf("%q is read as %q", s, h.Hex())
		}
		for _, err := range []error{err, perr} {
			if err != nil && (!errors.Is(err, wgkey.ErrMalformed) || (len(s) > 8 && strings.Contains(err.Error(), s))) {
				t.Errorf("error %q for %q", err, s)
			}
		}
	})
}
