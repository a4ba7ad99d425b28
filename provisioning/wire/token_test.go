package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/wire"
)

func sampleToken() wire.Token {
	t := wire.Token{ID: "tok_k3f9q2m4x7p5w8zb", URLs: []string{"http://vpn.example.org", "https://192.0.2.7:8443", "http://[2001:db8::7]:80"}}
	for i := range t.Secret {
		t.Secret[i] = byte(i*37 + 11)
	}
	for i := range t.Fingerprint {
		t.Fingerprint[i] = byte(i*53 + 7)
	}
	return t
}

func genToken() *rapid.Generator[wire.Token] {
	return rapid.Custom(func(t *rapid.T) wire.Token {
		k := wire.Token{
			ID:   rapid.StringMatching(`[!-~]{1,40}`).Draw(t, "id"),
			URLs: rapid.SliceOfN(rapid.StringMatching(`https?://[a-z0-9]{1,20}(\.[a-z]{2,5}){0,2}(:[1-9][0-9]{0,3})?`), 1, 7).Draw(t, "urls"),
		}
		copy(k.Secret[:], rapid.SliceOfN(rapid.Byte(), wire.SecretSize, wire.SecretSize).Draw(t, "secret"))
		copy(k.Fingerprint[:], rapid.SliceOfN(rapid.Byte(), wire.FingerprintSize, wire.FingerprintSize).Draw(t, "fingerprint"))
		return k
	})
}

// revealed compares tokens with their secrets, which print as nothing.
func revealed(t wire.Token) any {
	return struct {
		ID          string
		Secret      [wire.SecretSize]byte
		Fingerprint [wire.FingerprintSize]byte
		URLs        []string
	}{t.ID, t.Secret, t.Fingerprint, t.URLs}
}

func TestTokenText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genToken().Draw(t, "token")
		got, err := wire.ParseToken(want.Reveal())
		if err != nil {
			t.Fatalf("parse %s: %v", want.Reveal(), err)
		}
		if d := cmp.Diff(revealed(want), revealed(got)); d != "" {
			t.Fatalf("-want +got:\n%s", d)
		}
	})
}

func TestTokenTextIsStable(t *testing.T) {
	const want = "enr1-2wa78vvb-bxnk6shs-e4s6td3r-6xr3axsr-f9h0pc2n-fafw9t8e-6dc7v8p7-xg8kc1sw-e6kdp425-faqy86ae-gewet8jq-hk0zc0r0-" +
		"1xv70vhe-cnw62vbg-dhjjwvvj-cw0gwc9s-68q30bhj-5rvkme1m-6gsg042v-68r30c9t-chh3geht-6xekme1g-03955n4a"
	got := sampleToken().Reveal()
	again, err := wire.ParseToken(got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(revealed(sampleToken()), revealed(again)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got != want {
		t.Errorf("tokens that are in people's hands would no longer be read:\ngot  %s\nwant %s", got, want)
	}
}

func TestTokenForgivesWhatPeopleAndMailProgramsDo(t *testing.T) {
	text := sampleToken().Reveal()
	body := strings.TrimPrefix(text, "enr1-")
	for name, s := range map[string]string{
		"upper case":         strings.ToUpper(text),
		"no dashes":          strings.ReplaceAll(text, "-", ""),
		"spaces":             strings.ReplaceAll(text, "-", " "),
		"lines":              "\r\n\t" + strings.ReplaceAll(text, "-", "-\r\n  ") + "\n",
		"typographic dashes": strings.ReplaceAll(text, "-", "\u2013"),
		"invisible spaces":   "\ufeff" + strings.ReplaceAll(text, "-", "\u200b\u00a0"),
		"letters for digits": "enrl-" + strings.NewReplacer("0", "O", "1", "I").Replace(body),
	} {
		got, err := wire.ParseToken(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got.Secret != sampleToken().Secret {
			t.Errorf("%s: another token came out", name)
		}
	}
}

// canonical folds what ParseToken takes for the same character.
func canonical(r rune) rune {
	switch r = []rune(strings.ToLower(string(r)))[0]; r {
	case 'o':
		return '0'
	case 'i', 'l':
		return '1'
	case ' ':
		return '-'
	}
	return r
}

func TestTokenNoticesEveryChangedCharacter(t *testing.T) {
	text := sampleToken().Reveal()
	const typed = "0179abhkmqzolXU -./!"
	tried := 0
	for i, was := range text {
		for _, is := range typed {
			if canonical(is) == canonical(was) {
				continue
			}
			tried++
			if _, err := wire.ParseToken(text[:i] + string(is) + text[i+1:]); err == nil {
				t.Fatalf("%q for %q at %d was not noticed", is, was, i)
			}
		}
	}
	if tried < 3000 {
		t.Errorf("only %d changes were tried", tried)
	}
}

func TestTokenNoticesAnyMistake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := genToken().Draw(t, "token").Reveal()
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		is := rapid.SampledFrom([]rune("0123456789abcdefghjkmnpqrstvwxyz-")).Draw(t, "is")
		if canonical(is) == canonical(rune(text[i])) {
			t.Skip("the same")
		}
		_, err := wire.ParseToken(text[:i] + string(is) + text[i+1:])
		if err == nil {
			t.Fatalf("%q at %d of %s was not noticed", is, i, text)
		}
		if i < len("enr1-") || text[i] == '-' || is == '-' {
			return
		}
		n := i - len("enr1-") - strings.Count(text[5:i], "-")
		if want := fmt.Sprintf("look at character %d of group %d after", n%8+1, n/8+1); !strings.Contains(err.Error(), want) {
			t.Fatalf("%q at %d of %s: %v, want %q", is, i, text, err, want)
		}
	})
}

func TestTokenNamesTheMistake(t *testing.T) {
	text := sampleToken().Reveal()
	groups := strings.Split(text, "-")
	change := func(group int, f func(string) string) string {
		g := append([]string{}, groups...)
		g[group] = f(g[group])
		return strings.Join(g, "-")
	}
	flip := func(c byte) string {
		if c == '7' {
			return "8"
		}
		return "7"
	}
	for name, tc := range map[string]struct {
		text string
		want error
		says string
	}{
		"wrong character": {change(5, func(s string) string { return s[:2] + flip(s[2]) + s[3:] }), wire.ErrTokenTypo, "character 3 of group 5"},
		"in first group":  {change(1, func(s string) string { return flip(s[0]) + s[1:] }), wire.ErrTokenTypo, "character 1 of group 1"},
		"no such letter":  {change(9, func(s string) string { return s[:7] + "u" }), wire.ErrTokenTypo, "character 8 of group 9"},
		"one missing":     {change(4, func(s string) string { return s[:3] + s[4:] }), wire.ErrTokenTypo, "one character is missing before character"},
		"one too many":    {change(4, func(s string) string { return s[:3] + "x" + s[3:] }), wire.ErrTokenTypo, "of group 4 after enr1 is one too many"},
		"neighbors swapped": {
			change(3, func(s string) string { return string([]byte{s[1], s[0]}) + s[2:] }), wire.ErrTokenTypo,
			"character 2 of group 3 after enr1 and the one before are swapped",
		},
		"groups swapped":  {strings.Join(append(append([]string{"enr1"}, groups[1], groups[3], groups[2]), groups[4:]...), "-"), wire.ErrTokenTypo, "copy it again"},
		"end missing":     {strings.Join(groups[:10], "-"), wire.ErrTokenTruncated, fmt.Sprintf("72 of its %d characters", 8*(len(groups)-1))},
		"cut in a group":  {text[:len(text)-13], wire.ErrTokenTruncated, "copy it again, to the end"},
		"only the prefix": {"enr1-", wire.ErrTokenTruncated, "beginning"},
		"twice":           {text + text[4:], wire.ErrTokenTypo, "copy it again"},
		"many times":      {text + strings.Repeat(text[4:], 12), wire.ErrTokenTypo, "pasted twice"},
		"beginning lost":  {text[7:], wire.ErrTokenForeign, "its beginning"},
		"newer":           {"enr2" + text[4:], wire.ErrTokenNewer, "newer"},
		"empty":           {"", wire.ErrTokenForeign, "starts with enr1-"},
		"a URL":           {"https://vpn.example.org", wire.ErrTokenForeign, "starts with enr1-"},
		"a book":          {strings.Repeat("enr1-", 4000), wire.ErrTokenForeign, "20000 characters"},
		"not UTF-8":       {text[:20] + "\xff\xfe" + text[20:], wire.ErrTokenTypo, "character"},
	} {
		_, err := wire.ParseToken(tc.text)
		if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: got %q, want %q with %q", name, err, tc.want, tc.says)
		}
	}
}

func TestTokenNeverPrints(t *testing.T) {
	k := sampleToken()
	var buf strings.Builder
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("token", "token", k, "secret", k.Secret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
		fmt.Fprintf(&buf, verb+"\n", k)
		fmt.Fprintf(&buf, verb+"\n", &k)
		fmt.Fprintf(&buf, verb+"\n", k.Secret)
		fmt.Fprintf(&buf, verb+"\n", struct{ T wire.Token }{k})
	}
	for _, form := range []string{
		fmt.Sprintf("%x", k.Secret[:4]), fmt.Sprintf("%X", k.Secret[:4]), fmt.Sprintf("%d %d", k.Secret[0], k.Secret[1]),
		fmt.Sprintf("%o %o", k.Secret[0], k.Secret[1]), k.Reveal()[40:60],
	} {
		if strings.Contains(buf.String(), form) {
			t.Errorf("the secret is printed as %q in:\n%s", form, &buf)
		}
	}
	if _, err := json.Marshal(k); err == nil {
		t.Error("a token was encoded as JSON")
	}
}

func TestTokenErrorsNeverQuoteIt(t *testing.T) {
	text := sampleToken().Reveal()
	for i := range len(text) - 8 {
		for _, bad := range []string{text[:i] + "u" + text[i+1:], text[:i], text[i+1:]} {
			if _, err := wire.ParseToken(bad); err != nil && strings.Contains(err.Error(), text[i+1:i+9]) {
				t.Fatalf("%v quotes the token", err)
			}
		}
	}
}

func TestTokenCheck(t *testing.T) {
	for _, u := range []string{
		"", "vpn.example.org", "ftp://vpn.example.org", "http://", "http://user@vpn.example.org", "http://vpn.example.org/", "http://vpn.example.org/x",
		"http://vpn.example.org?x", "http://vpn.example.org:", "http://vpn.example.org:0", "http://vpn.example.org:70000", "http://-vpn.example.org",
		"http://vpn..org", "http://v_n.org", "http://0.0.0.0", "http://[::]", "http://[fe80::1%25eth0]", "http://[2001:db8::zz]", "http://vpn.example.org#x",
		"http://" + strings.Repeat("a", 64) + ".org", "http://" + strings.Repeat("abc.", 60) + "org", "HTTP://vpn.example.org",
	} {
		k := sampleToken()
		k.URLs = []string{u}
		if k.Check() == nil || k.Reveal() != "" {
			t.Errorf("a token with the address %q passed", u)
		}
	}
	for name, k := range map[string]wire.Token{
		"no id":         {URLs: []string{"http://a"}},
		"long id":       {ID: strings.Repeat("x", 41), URLs: []string{"http://a"}},
		"id with space": {ID: "a b", URLs: []string{"http://a"}},
		"no address":    {ID: "a"},
		"nine":          {ID: "a", URLs: strings.Split(strings.Repeat("http://a,", 8)+"http://a", ",")},
		"too much":      {ID: "a", URLs: strings.Split(strings.Repeat("http://"+strings.Repeat("abcdefg.", 20)+"org,", 3)+"http://a", ",")},
	} {
		if k.Check() == nil || k.Reveal() != "" {
			t.Errorf("a token with %s passed", name)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	text := sampleToken().Reveal()
	f.Add(text)
	f.Add(strings.ToUpper(text))
	f.Add(text[:len(text)/2])
	f.Add(text[:40] + "7" + text[41:])
	f.Add("enr1-")
	f.Add("enr2-00000000")
	f.Add("enr1-00000000")
	f.Add("enr1-04000000-00000000-00000000-00000000")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := wire.ParseToken(s)
		if err != nil {
			for _, want := range []error{wire.ErrTokenForeign, wire.ErrTokenNewer, wire.ErrTokenTruncated, wire.ErrTokenTypo} {
				if errors.Is(err, want) {
					return
				}
			}
			t.Fatalf("%v is none of the named errors", err)
		}
		again, err := wire.ParseToken(k.Reveal())
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if d := cmp.Diff(revealed(k), revealed(again)); d != "" {
			t.Fatalf("-first +again:\n%s", d)
		}
	})
}
