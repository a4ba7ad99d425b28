package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
)

// proxyLab is a real coordinator whose enrolment port can be reached through a labProxy only, or also directly.
type proxyLab struct {
	*provisioningtest.Network

	origin *httptest.Server
	token  wire.Token
}

// newProxyLab starts a coordinator with one site and a token for it that says http:// or https://.
func newProxyLab(t *testing.T, scheme string) *proxyLab {
	t.Helper()
	return newProxyLabAt(t, scheme, nil)
}

// newProxyLabAt gives the coordinator a clock of its own.
func newProxyLabAt(t *testing.T, scheme string, now func() time.Time) *proxyLab {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	l := &proxyLab{Network: provisioningtest.New(t, st, provisioningtest.Options{Now: now})}
	quiet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil // a time of day is in every NetMap too, and proves nothing
		l.Public.ServeHTTP(w, r)
	})
	if scheme == "https" {
		l.origin = httptest.NewTLSServer(quiet)
	} else {
		l.origin = httptest.NewServer(quiet)
	}
	t.Cleanup(l.origin.Close)
	l.Clinic(t, labSite)
	l.token = l.Token(t, labSite)
	// A name that only the proxy knows, as in networks whose name servers know nothing of the internet.
	l.token.URLs = []string{scheme + "://" + labHost}
	return l
}

const (
	labSite = "praxis-nordlicht-zwei"
	labHost = "coordinator.towpath.test"
)

// nodes counts the nodes of the coordinator.
func (l *proxyLab) nodes(t *testing.T) int {
	t.Helper()
	all, err := l.Nodes(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// proxyOnly are ways on which everything but the proxy is unreachable.
func proxyOnly(p *labProxy, address string) control.Ways {
	parsed, err := control.ParseProxy(address)
	if err != nil {
		panic(err)
	}
	return control.Ways{Proxy: parsed, Dial: p.dialOnly}
}

// labProxy is an HTTP proxy that knows one origin, whatever name it is asked for.
type labProxy struct {
	server *httptest.Server
	origin *url.URL

	// What it does, set before it is used.
	noAbsolute int                                // the status with which it refuses absolute-form
	noConnect  int                                // the status with which it refuses CONNECT
	login      string                             // "user:password" that it wants
	challenge  []string                           // what it offers with 407; Basic if empty
	inspect    bool                               // opens TLS inside CONNECT with a CA of its own
	request    func(*http.Request, []byte) []byte // changes the body of a request
	answer     func(*http.Request, []byte) []byte // changes the body of an answer

	ca *authority

	mu       sync.Mutex
	methods  []string
	seen     bytes.Buffer
	requests [][]byte // bodies of enrolment requests
	answers  [][]byte
}

func newLabProxy(t *testing.T, l *proxyLab) *labProxy {
	t.Helper()
	origin, err := url.Parse(l.origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := &labProxy{origin: origin, ca: newAuthority(t)}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *labProxy) address() string { return p.server.Listener.Addr().String() }

func (p *labProxy) dialOnly(ctx context.Context, network, address string) (net.Conn, error) {
	if address != p.address() {
		return nil, fmt.Errorf("dial %s %s: network is unreachable", network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// saw is everything that went through in the clear.
func (p *labProxy) saw() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.seen.Bytes())
}

func (p *labProxy) record(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Write(b)
}

// used lists the methods it was asked with, "abs" before those in absolute-form.
func (p *labProxy) used() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.methods, " ")
}

func (p *labProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if r.Method == http.MethodConnect {
		p.methods = append(p.methods, "CONNECT")
	} else {
		p.methods = append(p.methods, "abs"+r.Method)
	}
	p.mu.Unlock()
	if p.login != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(p.login)) {
		w.Header()["Proxy-Authenticate"] = p.challenge
		if len(p.challenge) == 0 {
			w.Header().Set("Proxy-Authenticate", `Basic realm="clinic, internet"`)
		}
		http.Error(w, "who are you? "+r.Header.Get("Proxy-Authorization"), http.StatusProxyAuthRequired)
		return
	}
	refuse := p.noAbsolute
	if r.Method == http.MethodConnect {
		refuse = p.noConnect
	}
	switch {
	case refuse != 0:
		http.Error(w, "<html><head><title>Access &amp; denied</title></head><body>"+r.Header.Get("Proxy-Authorization")+"</body></html>", refuse)
	case r.Method == http.MethodConnect:
		p.tunnel(w)
	case !r.URL.IsAbs():
		http.Error(w, "absolute-form only", http.StatusBadRequest)
	default:
		p.forward(w, r)
	}
}

// forward does what a proxy does with a request it can read.
func (p *labProxy) forward(w http.ResponseWriter, r *http.Request) {
	head, _ := httputil.DumpRequest(r, false)
	body, _ := io.ReadAll(r.Body)
	p.record(append(head, body...))
	if r.URL.Path == wire.PathEnroll {
		p.mu.Lock()
		p.requests = append(p.requests, bytes.Clone(body))
		p.mu.Unlock()
	}
	if p.request != nil {
		body = p.request(r, body)
	}
	status, header, answer := p.ask(r.Method, r.URL.Path, body)
	p.record(fmt.Appendf(nil, "%d %v\n%s", status, header, answer))
	if r.URL.Path == wire.PathEnroll {
		p.mu.Lock()
		p.answers = append(p.answers, bytes.Clone(answer))
		p.mu.Unlock()
	}
	if p.answer != nil {
		answer = p.answer(r, answer)
	}
	w.Header().Set("Content-Type", header.Get("Content-Type"))
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// ask sends a request to the origin, as the proxy or as somebody who replays.
func (p *labProxy) ask(method, path string, body []byte) (int, http.Header, []byte) {
	req, err := http.NewRequest(method, p.origin.String()+path, bytes.NewReader(body))
	if err != nil {
		return http.StatusBadGateway, http.Header{}, []byte(err.Error())
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return http.StatusBadGateway, http.Header{}, []byte(err.Error())
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer
}

// tunnel answers CONNECT: blindly, or with a certificate of its own and open eyes.
func (p *labProxy) tunnel(w http.ResponseWriter) {
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	if p.inspect {
		p.serveInspected(client)
		return
	}
	origin, err := net.Dial("tcp", p.origin.Host)
	if err != nil {
		return
	}
	defer func() { _ = origin.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(origin, rw)
		_ = origin.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, origin)
	_ = client.Close()
	<-done
}

// serveInspected ends TLS and forwards each request.
func (p *labProxy) serveInspected(client net.Conn) {
	c := tls.Server(client, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return p.ca.issue(h.ServerName) }})
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		rec := httptest.NewRecorder()
		p.forward(rec, req)
		if err := rec.Result().Write(c); err != nil {
			return
		}
	}
}

// authority is a CA that nobody else trusts, as TLS-inspecting proxies have one.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Clinic TLS inspection"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, cert: cert}
}

func (a *authority) issue(name string) (*tls.Certificate, error) {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, err := netip.ParseAddr(name); err != nil {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: a.key}, nil
}
