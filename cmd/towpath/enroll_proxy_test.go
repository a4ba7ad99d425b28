package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	labLogin    = `PRAXIS\box7:p@ss/w0rd-canary`
	labLoginURL = "PRAXIS%5Cbox7:p%40ss%2Fw0rd-canary@"
)

func labFacts() wire.Facts {
	return wire.Facts{
		Hostname: "hostname-canary-box7", Serial: "SERIAL-CANARY-0815", Model: "Model Canary 3000", Version: "version-canary",
		LANs: []netip.Prefix{netip.MustParsePrefix("192.168.178.0/24")},
	}
}

func labKey(t *testing.T) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestEnrollThroughProxies goes through every kind of proxy that clinics have, with the token's address reachable in no other way.
func TestEnrollThroughProxies(t *testing.T) {
	for name, c := range map[string]struct {
		scheme string
		setup  func(*labProxy)
		login  string
		used   string
	}{
		"absolute-form":               {scheme: "http", used: "absGET absPOST"},
		"absolute-form, credentials":  {scheme: "http", setup: func(p *labProxy) { p.login = labLogin }, login: labLoginURL, used: "absGET absPOST"},
		"CONNECT":                     {scheme: "https", used: "CONNECT"},
		"CONNECT, credentials":        {scheme: "https", setup: func(p *labProxy) { p.login = labLogin }, login: labLoginURL, used: "CONNECT"},
		"absolute-form is refused":    {scheme: "http", setup: func(p *labProxy) { p.noAbsolute = http.StatusMethodNotAllowed }, used: "absGET CONNECT"},
		"absolute-form is forbidden":  {scheme: "http", setup: func(p *labProxy) { p.noAbsolute = http.StatusForbidden }, used: "absGET CONNECT"},
		"absolute-form is not known":  {scheme: "http", setup: func(p *labProxy) { p.noAbsolute = http.StatusBadRequest }, used: "absGET CONNECT"},
		"refused, and with a login":   {scheme: "http", setup: func(p *labProxy) { p.noAbsolute, p.login = 403, labLogin }, login: labLoginURL, used: "absGET CONNECT"},
		"TLS inspection":              {scheme: "https", setup: func(p *labProxy) { p.inspect = true }, used: "CONNECT"},
		"TLS inspection, credentials": {scheme: "https", setup: func(p *labProxy) { p.inspect, p.login = true, labLogin }, login: labLoginURL, used: "CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newProxyLab(t, c.scheme)
			p := newLabProxy(t, l)
			if c.setup != nil {
				c.setup(p)
			}
			key := labKey(t)
			got, err := control.Enroll(t.Context(), proxyOnly(p, "http://"+c.login+p.address()), l.token, key, labFacts())
			if err != nil {
				t.Fatal(err)
			}
			if got.NetMap.Self.Site != labSite || l.nodes(t) != 1 {
				t.Errorf("enrolled at site %q, and there are %d nodes", got.NetMap.Self.Site, l.nodes(t))
			}
			if p.used() != c.used {
				t.Errorf("the proxy was asked with %s, want %s", p.used(), c.used)
			}
			saw := p.saw()
			if (c.scheme == "http" && c.used == "absGET absPOST" || p.inspect) && !bytes.Contains(saw, []byte(wire.PathEnroll)) {
				t.Fatal("the proxy recorded nothing: the test proves nothing")
			}
			for _, leak := range leaks(t, l, key, got, saw) {
				t.Errorf("the proxy could read %s", leak)
			}
			if p.inspect && bytes.Contains(saw, []byte("Proxy-Authorization")) {
				t.Error("the proxy's credentials went on to the coordinator")
			}
		})
	}
}

// leaks names what of an enrolment's secrets is in a recording. Every run of 8 bytes of the NetMap counts that is not in the coordinator's
// public identity.
func leaks(t *testing.T, l *proxyLab, key wgkey.PrivateKey, got control.Enrolled, recording []byte) []string {
	t.Helper()
	pub, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	secret, f := l.token.Secret[:], labFacts()
	var found []string
	for name, s := range map[string]string{
		"the token's secret": string(secret), "the token's secret in base64": base64.StdEncoding.EncodeToString(secret),
		"the token's secret in hex": hex.EncodeToString(secret), "the token": l.token.Reveal()[:20], "the token's id": l.token.ID,
		"the private key": key.RevealText(), "the public key": pub.String(), "the host name": f.Hostname, "the serial number": f.Serial,
		"the model": f.Model, "the version": f.Version, "the LAN": f.LANs[0].Addr().String(), "the site": labSite,
	} {
		if bytes.Contains(recording, []byte(s)) {
			found = append(found, name)
		}
	}
	identity, err := json.Marshal(l.Identity())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := json.Marshal(got.Signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range [][]byte{got.Signed.Payload, sealed} {
		for i := 0; i+8 <= len(plain); i++ {
			if run := plain[i : i+8]; bytes.Contains(recording, run) && !bytes.Contains(identity, run) {
				return append(found, fmt.Sprintf("%q of the NetMap", run))
			}
		}
	}
	return found
}

// TestLeaksAreFound proves that the search above can fail.
func TestLeaksAreFound(t *testing.T) {
	l := newProxyLab(t, "http")
	p := newLabProxy(t, l)
	key := labKey(t)
	got, err := control.Enroll(t.Context(), proxyOnly(p, p.address()), l.token, key, labFacts())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(l.token.Secret[:]), labFacts().Serial, string(got.Signed.Payload[40:48]), `"site":"` + labSite} {
		if len(leaks(t, l, key, got, slices.Concat(p.saw(), []byte("noise"+s)))) == 0 {
			t.Errorf("%q was not found", s)
		}
	}
}

// enrollIn does what the command does, in a new box.
func enrollIn(t *testing.T, dir string, l *proxyLab, ways control.Ways) error {
	t.Helper()
	d, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	_, err = enroll(t.Context(), d, l.token.Reveal(), enrollOptions{Ways: ways})
	return err
}

// TestProxyThatWantsALogin checks that the person hears what to do, and that nobody hears the password.
func TestProxyThatWantsALogin(t *testing.T) {
	for name, c := range map[string]struct {
		scheme, login string
		challenge     []string
		want, hint    string
	}{
		"none given":             {"http", "", nil, "wants a user name and a password", "TOWPATH_PROXY=http://USER:PASSWORD@127.0.0.1:"},
		"none given, CONNECT":    {"https", "", nil, "wants a user name and a password", "TOWPATH_PROXY=http://USER:PASSWORD@127.0.0.1:"},
		"wrong":                  {"http", "box7:p%40ss%2Fcanary-wrong@", nil, "refused the user name or the password", "special characters"},
		"wrong, CONNECT":         {"https", "box7:p%40ss%2Fcanary-wrong@", nil, "refused the user name or the password", "special characters"},
		"only Windows':":         {"http", "", []string{"Negotiate", "NTLM"}, "accepts only Negotiate or NTLM", "without logging in"},
		"only Windows', given":   {"https", labLoginURL, []string{"Negotiate, NTLM"}, "accepts only Negotiate or NTLM", "without logging in"},
		"Windows' or Basic":      {"http", "", []string{"Negotiate", `Basic realm="x"`}, "wants a user name and a password", "--proxy"},
		"Digest with parameters": {"http", "", []string{`Digest realm="a, b", nonce="c"`}, "accepts only Digest,", "Basic"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newProxyLab(t, c.scheme)
			p := newLabProxy(t, l)
			p.login, p.challenge = "nobody:knows", c.challenge
			err := enrollIn(t, filepath.Join(t.TempDir(), "box"), l, proxyOnly(p, "http://"+c.login+p.address()))
			said := reported(t, err, ui.ExitFailed)
			if !strings.Contains(said, c.want) || !strings.Contains(said, c.hint) {
				t.Errorf("said %q; want %q and the hint %q", said, c.want, c.hint)
			}
			if !strings.Contains(said, "directly: dial tcp") {
				t.Errorf("said %q; want the direct way named too", said)
			}
			if n := strings.Count(p.used(), " ") + 1; n != 1 {
				t.Errorf("a proxy that refuses the login was asked %d times", n)
			}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
				if text := fmt.Sprintf(verb, err) + said; strings.Contains(text, "canary") || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(labLogin))) {
					t.Errorf("%s shows the credentials: %s", verb, text)
				}
			}
		})
	}
}

// reported is what the person sees of an error.
func reported(t *testing.T, err error, code int) string {
	t.Helper()
	if err == nil {
		t.Fatal("enrolled, which must not work")
	}
	var b bytes.Buffer
	if got := ui.Report(&b, explain(err)); got != code {
		t.Errorf("exit code %d, want %d: %s", got, code, &b)
	}
	if !strings.Contains(b.String(), "\nhint: ") {
		t.Errorf("no hint in %q", &b)
	}
	return b.String()
}

// TestTamperingIsFoundAndCostsNothing flips a byte of what goes through. Nothing is accepted, and the token is good for the same box
// afterwards.
func TestTamperingIsFoundAndCostsNothing(t *testing.T) {
	flip := func(path string, at func(n int) int) func(*http.Request, []byte) []byte {
		return func(r *http.Request, b []byte) []byte {
			b = bytes.Clone(b)
			if r.URL.Path == path && len(b) > 0 {
				b[at(len(b))] ^= 1
			}
			return b
		}
	}
	first, middle, last := func(int) int { return 0 }, func(n int) int { return n / 2 }, func(n int) int { return n - 1 }
	for name, c := range map[string]struct {
		setup func(*labProxy)
		code  int
		want  error
		text  string
	}{
		"version of the request":     {func(p *labProxy) { p.request = flip(wire.PathEnroll, first) }, ui.ExitFailed, nil, "damaged or for another coordinator"},
		"key share of the request":   {func(p *labProxy) { p.request = flip(wire.PathEnroll, func(int) int { return 700 }) }, ui.ExitFailed, nil, "damaged or for another coordinator"},
		"end of the request":         {func(p *labProxy) { p.request = flip(wire.PathEnroll, last) }, ui.ExitFailed, nil, "damaged or for another coordinator"},
		"salt of the answer":         {func(p *labProxy) { p.answer = flip(wire.PathEnroll, func(int) int { return 20 }) }, ui.ExitDenied, wire.ErrSealed, "over another line"},
		"middle of the answer":       {func(p *labProxy) { p.answer = flip(wire.PathEnroll, middle) }, ui.ExitDenied, wire.ErrSealed, "over another line"},
		"end of the answer":          {func(p *labProxy) { p.answer = flip(wire.PathEnroll, last) }, ui.ExitDenied, wire.ErrSealed, "over another line"},
		"a key of the identity":      {func(p *labProxy) { p.answer = flipKey }, ui.ExitDenied, wire.ErrIdentity, "pretends to be the coordinator"},
		"an answer cut off":          {func(p *labProxy) { p.answer = cut(wire.PathEnroll) }, ui.ExitDenied, wire.ErrSealed, "over another line"},
		"the coordinator is swapped": {func(p *labProxy) { p.answer = falseIdentity(t) }, ui.ExitDenied, wire.ErrIdentity, "pretends to be the coordinator"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newProxyLab(t, "https")
			p := newLabProxy(t, l)
			p.inspect = true
			c.setup(p)
			box := filepath.Join(t.TempDir(), "box")
			err := enrollIn(t, box, l, proxyOnly(p, p.address()))
			if said := reported(t, err, c.code); !strings.Contains(said, c.text) {
				t.Errorf("said %q, want %q", said, c.text)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if errors.Is(err, wire.ErrIdentity) && len(p.requests) != 0 {
				t.Error("a request was sent to somebody who is not the coordinator")
			}
			p.request, p.answer = nil, nil
			if err := enrollIn(t, box, l, proxyOnly(p, p.address())); err != nil {
				t.Errorf("the same box without tampering: %v", err)
			}
			if n := l.nodes(t); n != 1 {
				t.Errorf("%d nodes came of one token", n)
			}
		})
	}
}

// flipKey changes one bit of the key that requests are sealed to, in a document that is otherwise in order.
func flipKey(r *http.Request, b []byte) []byte {
	var id wire.Identity
	if r.URL.Path != wire.PathIdentity || json.Unmarshal(b, &id) != nil {
		return b
	}
	id.HPKE[600] ^= 1
	b, _ = json.Marshal(id)
	return b
}

func cut(path string) func(*http.Request, []byte) []byte {
	return func(r *http.Request, b []byte) []byte {
		if r.URL.Path == path {
			return b[:len(b)-1]
		}
		return b
	}
}

// falseIdentity answers with keys of somebody else's own.
func falseIdentity(t *testing.T) func(*http.Request, []byte) []byte {
	t.Helper()
	key, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	network, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(wire.Identity{HPKE: key.PublicKey().Bytes(), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	return func(r *http.Request, answer []byte) []byte {
		if r.URL.Path == wire.PathIdentity {
			return b
		}
		return answer
	}
}

// TestAProxyThatTampersIsGoneAround takes the direct way where there is one.
func TestAProxyThatTampersIsGoneAround(t *testing.T) {
	l := newProxyLab(t, "https")
	p := newLabProxy(t, l)
	p.inspect, p.answer = true, falseIdentity(t)
	ways := proxyOnly(p, p.address())
	ways.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == labHost+":443" {
			address = l.origin.Listener.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	if err := enrollIn(t, filepath.Join(t.TempDir(), "box"), l, ways); err != nil {
		t.Fatal(err)
	}
	if len(p.requests) != 0 {
		t.Error("a request was sent to somebody who is not the coordinator")
	}
}

// TestReplaysGiveNothing records an enrolment and plays it again, to the coordinator and to the box.
func TestReplaysGiveNothing(t *testing.T) {
	l := newProxyLab(t, "https")
	p := newLabProxy(t, l)
	p.inspect = true
	key := labKey(t)
	got, err := control.Enroll(t.Context(), proxyOnly(p, p.address()), l.token, key, labFacts())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		status, _, answer := p.ask(http.MethodPost, wire.PathEnroll, p.requests[0])
		if status != http.StatusOK || bytes.Equal(answer, p.answers[0]) {
			t.Errorf("a replay got status %d, and the same answer: %v", status, bytes.Equal(answer, p.answers[0]))
		}
		for _, leak := range leaks(t, l, key, got, answer) {
			t.Errorf("whoever replays can read %s", leak)
		}
	}
	if n := l.nodes(t); n != 1 {
		t.Errorf("%d nodes after replays of one enrolment", n)
	}

	_, err = control.Enroll(t.Context(), proxyOnly(p, p.address()), l.token, labKey(t), labFacts())
	if refusal, ok := errors.AsType[*wire.Refusal](err); !ok || refusal.Code != "denied" {
		t.Errorf("another box with the same token: %v, want it denied", err)
	}

	// The box asks again, and gets an old answer of its own, and then the refusal that another box got.
	for i := range 2 {
		p.answer = func(r *http.Request, b []byte) []byte {
			if r.URL.Path == wire.PathEnroll {
				return p.answers[[]int{0, len(p.answers) - 2}[i]]
			}
			return b
		}
		if _, err := control.Enroll(t.Context(), proxyOnly(p, p.address()), l.token, key, labFacts()); !errors.Is(err, wire.ErrSealed) {
			t.Errorf("an answer to another request: %v, want %v", err, wire.ErrSealed)
		}
	}
}

// TestEnvironmentsProxyIsSecond asks directly first, and never when no proxy is meant for the address.
func TestEnvironmentsProxyIsSecond(t *testing.T) {
	l := newProxyLab(t, "http")
	p := newLabProxy(t, l)
	p.login = labLogin
	var dialed []string
	ways := control.Ways{
		Environment: func(u *url.URL) (*url.URL, error) {
			if u.Hostname() == labHost {
				return url.Parse("http://" + labLoginURL + p.address())
			}
			return nil, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed = append(dialed, address)
			return p.dialOnly(ctx, network, address)
		},
	}
	l.token.URLs = []string{"http://not-for-the-proxy.test", "http://" + labHost}
	if _, err := control.Enroll(t.Context(), ways, l.token, labKey(t), labFacts()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"not-for-the-proxy.test:80", labHost + ":80", p.address()}; !slices.Equal(slices.Compact(dialed), want) {
		t.Errorf("dialed %v, want %v", dialed, want)
	}
}

// TestHTTPSNeedsNoCertificate goes directly to a coordinator behind a certificate of its own.
func TestHTTPSNeedsNoCertificate(t *testing.T) {
	l := newProxyLab(t, "https")
	l.token.URLs = []string{l.origin.URL}
	if _, err := control.Enroll(t.Context(), control.Ways{}, l.token, labKey(t), labFacts()); err != nil {
		t.Fatal(err)
	}
}

// TestCoordinatorBehindATLSTerminator follows a redirect to the same host and path, and no other.
func TestCoordinatorBehindATLSTerminator(t *testing.T) {
	l := newProxyLab(t, "https")
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, l.origin.URL+r.URL.Path, http.StatusMovedPermanently)
	}))
	defer front.Close()
	l.token.URLs = []string{front.URL}
	if _, err := control.Enroll(t.Context(), control.Ways{}, l.token, labKey(t), labFacts()); err != nil {
		t.Fatal(err)
	}
}
