package dicom_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/lantls"
	"github.com/towpath/towpath/proxy/spool"
)

// provider is a running peer that others call.
type provider struct {
	address, ae string
	secure      bool // it speaks TLS
	// kept returns the data sets that it has, and empty makes it forget them; nil if it keeps none.
	kept  func(t *testing.T) map[[32]byte]int
	empty func(t *testing.T)
	// renew, if not nil, gives it a new way that remembers nothing.
	renew func(t *testing.T)
}

// inFolder is a provider that keeps its objects as files.
func inFolder(address, ae, dir string) *provider {
	return &provider{
		address: address, ae: ae,
		kept: func(t *testing.T) map[[32]byte]int {
			t.Helper()
			out := map[[32]byte]int{}
			inFiles(t, dir, func(path string) {
				sum, _, err := dicom.DigestDataset(path)
				if err != nil {
					t.Error(err)
				}
				out[sum]++
			})
			return out
		},
		empty: func(t *testing.T) {
			t.Helper()
			inFiles(t, dir, func(path string) {
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			})
		},
	}
}

// inFiles calls f for every file below a folder.
func inFiles(t *testing.T, dir string, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			f(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// door is where a user calls.
type door struct {
	port, ae string
	mode     matrixMode
	secure   bool // it speaks TLS
}

// matrixLab has what all rows of a peer need.
type matrixLab struct {
	t               *testing.T // that of the peer
	key, cert, root string     // files
	pair            tls.Certificate
	pool            *x509.CertPool
	files           []string
	study           string
	sums            map[[32]byte]int
	mu              sync.Mutex
	spools          []*spool.Spool
}

func newMatrixLab(t *testing.T) *matrixLab {
	t.Helper()
	l := &matrixLab{t: t, sums: map[[32]byte]int{}}
	l.certify(t)
	dir := t.TempDir()
	for i, o := range study(t, 3, 256) {
		f, err := o.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.dcm", i))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l.add(t, path)
		l.files = append(l.files, path)
	}
	out, err := run(t, "dcmdump", "+P", "0020,000d", l.files[0])
	_, uid, ok := strings.Cut(out, "[")
	if uid, _, _ = strings.Cut(uid, "]"); err != nil || !ok {
		t.Fatalf("dcmdump: %v\n%s", err, out)
	}
	l.study = strings.TrimRight(uid, "\x00 ")
	return l
}

// add counts a file among those whose data sets must arrive.
func (l *matrixLab) add(t *testing.T, path string) {
	t.Helper()
	sum, _, err := dicom.DigestDataset(path)
	if err != nil {
		t.Fatal(err)
	}
	l.sums[sum]++
}

// certify makes a certificate of an authority of its own for everybody on loopback.
func (l *matrixLab) certify(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "matrix"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l.root = write("root.pem", "CERTIFICATE", rootDER)
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	l.pool = x509.NewCertPool()
	l.pool.AddCert(root)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, &own.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l.cert = write("cert.pem", "CERTIFICATE", der)
	b, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	l.key = write("key.pem", "PRIVATE KEY", b)
	l.pair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
}

// way builds the way to a provider: the center's gateway in front of it, and the clinic's with both of its listeners.
func (l *matrixLab) way(t *testing.T, to *provider, mode matrixMode, store bool) door {
	t.Helper()
	if !mode.through() {
		return door{port(t, to.address), to.ae, mode, to.secure}
	}
	book := lantls.NewBook(time.Now)
	network := proxy.Network(loopback{})
	if to.secure {
		network = lantls.NewClient(network, lantls.ClientConfig{
			Roots: l.pool, Book: book, Certificate: func() (*tls.Certificate, error) { return &l.pair, nil },
		})
	}
	clinic := l.gateways(t, to, network, store)
	listeners := map[bool]proxy.Handler{
		false: lantls.NewCleartext(clinic, book),
		true: lantls.NewServer(lantls.ServerConfig{
			Handler: clinic, Book: book, Reject: lantls.DICOMReject(), Profile: l.profile,
		}),
	}
	d := door{ae: to.ae, mode: mode, secure: mode.secure()}
	for secure, h := range listeners {
		address, _ := serve(t, loopback{}, h)
		if secure == d.secure {
			d.port = port(t, address)
		}
	}
	return d
}

func (l *matrixLab) profile() *lantls.Profile {
	return &lantls.Profile{
		Certificate: func(netip.Addr) (*tls.Certificate, error) { return &l.pair, nil }, Devices: l.pool,
	}
}

// gateways are the center's and the clinic's, which is returned.
func (l *matrixLab) gateways(t *testing.T, to *provider, network proxy.Network, store bool) proxy.Handler {
	t.Helper()
	center, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{
		{Service: "pacs", Mode: dicom.PassThrough, Network: network, Target: to.address},
	}})
	if err != nil {
		t.Fatal(err)
	}
	middle, _ := serve(t, loopback{}, center)
	if !store {
		clinic, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{
			{Service: "pacs", AETitle: to.ae, Mode: dicom.PassThrough, Network: loopback{}, Target: middle},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return clinic
	}
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	clinic, err := dicom.NewRouter(dicom.RouterConfig{Queue: q, Routes: []dicom.Route{
		{Service: "pacs", AETitle: to.ae, Mode: dicom.Queued, QueueName: "q"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.deliver(t, q, middle, to.ae)
	return clinic
}

// deliver empties a queue to a peer until the test ends.
func (l *matrixLab) deliver(t *testing.T, q *spool.Spool, target, ae string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- spool.Deliver(ctx, spool.DeliverConfig{
			Queue: q, Name: "q", Sink: dicom.NewSink(dicom.SinkConfig{Network: loopback{}, Target: target, CalledAE: ae}),
			IdleAfter: 20 * time.Millisecond,
		})
	}()
	l.mu.Lock()
	l.spools = append(l.spools, q)
	l.mu.Unlock()
	t.Cleanup(func() {
		l.mu.Lock()
		l.spools = slices.DeleteFunc(l.spools, func(s *spool.Spool) bool { return s == q })
		l.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// settled waits until the queues are empty. Its error is that something is parked.
func (l *matrixLab) settled(t *testing.T) (err error) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.spools {
		eventually(t, "the queue is empty", func() bool {
			waiting := 0
			for _, s := range q.Stats() {
				waiting += s.Queued
				if s.Parked > 0 {
					err = fmt.Errorf("%d objects are parked", s.Parked)
				}
			}
			return waiting == 0
		})
	}
	return err
}

// digestText is the same for the same objects.
func digestText(m map[[32]byte]int) string {
	var out []string
	for sum, n := range m {
		out = append(out, fmt.Sprintf("%x×%d", sum[:8], n))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
