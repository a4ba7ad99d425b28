package sitecert_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/towpath/towpath/gateway/sitecert"
	"github.com/towpath/towpath/gateway/state"
)

const day = 24 * time.Hour

// shop is an authority with a clock that a test moves.
type shop struct {
	*sitecert.Authority
	dir *state.Dir
	now time.Time
}

func open(t *testing.T, path string) *shop {
	t.Helper()
	dir, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	s := &shop{dir: dir, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	s.Authority, err = sitecert.Open(sitecert.Options{Dir: dir, Site: "clinic-north", Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) leaf(t *testing.T, at string) *tls.Certificate {
	t.Helper()
	var local netip.Addr
	if at != "" {
		local = netip.MustParseAddr(at)
	}
	c, err := s.Certificate(local)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *shop) verify(t *testing.T, c *x509.Certificate, name string, use x509.ExtKeyUsage) error {
	t.Helper()
	_, err := c.Verify(x509.VerifyOptions{Roots: s.Pool(""), DNSName: name, CurrentTime: s.now, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

func TestCertificateOfTheBox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	s := open(t, path)
	if s.PEM() != "" {
		t.Error("an authority before it is needed")
	}
	c := s.leaf(t, "192.168.1.10")
	if err := s.verify(t, c.Leaf, "192.168.1.10", x509.ExtKeyUsageServerAuth); err != nil {
		t.Error(err)
	}
	if s.leaf(t, "192.168.1.10") != c || s.leaf(t, "") != c {
		t.Error("it changed without need")
	}
	two := s.leaf(t, "10.0.0.10")
	for _, name := range []string{"192.168.1.10", "10.0.0.10", "clinic-north"} {
		if err := s.verify(t, two.Leaf, name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Error(err)
		}
	}
	s.SetNames([]string{"towpath.praxis.local", "203.0.113.7"})
	for _, name := range []string{"towpath.praxis.local", "203.0.113.7", "10.0.0.10"} {
		if err := s.verify(t, s.leaf(t, "").Leaf, name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Error(err)
		}
	}

	// It renews itself, with nobody's help, for as long as the authority lives.
	ca := s.PEM()
	for range 10 {
		before := s.leaf(t, "")
		s.now = before.Leaf.NotAfter.Add(-61 * day)
		if s.leaf(t, "") != before {
			t.Fatal("renewed too early")
		}
		s.now = before.Leaf.NotAfter.Add(-59 * day)
		after := s.leaf(t, "")
		if after == before || s.verify(t, after.Leaf, "10.0.0.10", x509.ExtKeyUsageServerAuth) != nil {
			t.Fatal("not renewed", s.now)
		}
	}
	if s.PEM() != ca {
		t.Error("another authority")
	}
	_ = s.dir.Close()
	again := open(t, path)
	again.now = s.now
	if again.PEM() != ca || !again.leaf(t, "").PrivateKey.(interface{ Equal(crypto.PrivateKey) bool }).Equal(s.leaf(t, "").PrivateKey) {
		t.Error("a restart made other keys")
	}
}

func TestIssue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	s := open(t, path)
	b, err := s.Issue(sitecert.Request{Device: "CT 1", Names: []string{"ct1.local", "192.168.1.40"}, Password: "changeit", OldP12: true})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(b.Certificate), []byte(b.Key))
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(pair.Certificate[0])
	if cert.Subject.CommonName != "CT 1" || cert.SerialNumber.Text(16) != b.Issued.Serial || !cert.NotAfter.Equal(b.Issued.Expires) ||
		!b.Issued.Expires.Equal(s.now.Add(sitecert.DeviceLife)) || cert.IsCA {
		t.Errorf("%+v of %+v", cert.Subject, b.Issued)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if err := s.verify(t, cert, "ct1.local", use); err != nil {
			t.Error(err)
		}
	}
	if s.verify(t, cert, "other.local", x509.ExtKeyUsageServerAuth) == nil {
		t.Error("good for another name")
	}
	key, leaf, cas, err := pkcs12.DecodeChain(b.PKCS12, "changeit")
	if err != nil || !leaf.Equal(cert) || len(cas) != 1 || b.Authority != string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cas[0].Raw})) ||
		!pair.PrivateKey.(interface{ Equal(crypto.PrivateKey) bool }).Equal(key) {
		t.Error("the PKCS#12 file holds something else:", err)
	}
	for name, r := range map[string]sitecert.Request{
		"no name": {}, "a long one": {Device: strings.Repeat("x", 65)}, "a control character": {Device: "CT\n1"},
		"for too long": {Device: "CT", Life: sitecert.MaxDeviceLife + day}, "before today": {Device: "CT", Life: -day}, "an old file without password": {Device: "CT", OldP12: true},
	} {
		if _, err := s.Issue(r); !errors.Is(err, sitecert.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if s.Revoked(b.Issued.Serial) {
		t.Error("revoked from the start")
	}
	if ok, err := s.Revoke("00:" + strings.ToUpper(b.Issued.Serial)); !ok || err != nil || !s.Revoked(b.Issued.Serial) {
		t.Error("not revoked", err)
	}
	if ok, err := s.Revoke("1234"); ok || err != nil {
		t.Error("revoked what was never issued", err)
	}
	_ = s.dir.Close()
	if again := open(t, path); !again.Revoked(b.Issued.Serial) || len(again.List()) != 1 {
		t.Error("forgotten by a restart")
	}
	// Nothing of a key is in the files but what is sealed, and no device's key is anywhere.
	files, _ := filepath.Glob(filepath.Join(path, "*"))
	der, _ := pem.Decode([]byte(b.Key))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && (bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, der.Bytes[100:200])) {
			t.Errorf("%s holds a key", f)
		}
	}
}

func TestEndings(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "box"))
	for device, life := range map[string]time.Duration{"A31": 31 * day, "B30": 30 * day, "C7": 7*day + time.Hour, "D1": day - time.Hour} {
		if _, err := s.Issue(sitecert.Request{Device: device, Life: life}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for _, e := range s.Endings() {
		got[e.Device] = e.Days
	}
	if len(got) != 3 || got["B30"] != 30 || got["C7"] != 7 || got["D1"] != 0 {
		t.Errorf("%v", got)
	}
	s.now = s.now.Add(time.Hour)
	if _, err := s.Issue(sitecert.Request{Device: "D1"}); err != nil { // renewed
		t.Fatal(err)
	}
	s.now = s.now.Add(8 * day)
	got = map[string]int{}
	for _, e := range s.Endings() {
		got[e.Device] = e.Days
	}
	if len(got) != 3 || got["C7"] != -1 || got["A31"] != 22 {
		t.Errorf("%v", got)
	}
}

// A box that takes the place of another is trusted by the same devices.
func TestBackup(t *testing.T) {
	old, spare := open(t, filepath.Join(t.TempDir(), "old")), open(t, filepath.Join(t.TempDir(), "spare"))
	device, err := old.Issue(sitecert.Request{Device: "CT1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Backup("short"); !errors.Is(err, sitecert.ErrRequest) {
		t.Error("a short passphrase:", err)
	}
	file, err := old.Backup("a long passphrase")
	if err != nil {
		t.Fatal(err)
	}
	if err := spare.Ensure(); err != nil {
		t.Fatal(err)
	}
	if err := spare.Restore(file, "another passphrase"); !errors.Is(err, sitecert.ErrRequest) {
		t.Error("another passphrase:", err)
	}
	if err := spare.Restore(device.PKCS12, "x"); !errors.Is(err, sitecert.ErrRequest) {
		t.Error("no backup:", err)
	}
	if err := spare.Restore(file, "a long passphrase"); err != nil {
		t.Fatal(err)
	}
	if spare.PEM() != old.PEM() {
		t.Error("another authority")
	}
	block, _ := pem.Decode([]byte(device.Certificate))
	c, _ := x509.ParseCertificate(block.Bytes)
	if err := spare.verify(t, c, "", x509.ExtKeyUsageClientAuth); err != nil {
		t.Error("the device is not trusted:", err)
	}
	if err := old.verify(t, spare.leaf(t, "10.1.1.1").Leaf, "10.1.1.1", x509.ExtKeyUsageServerAuth); err != nil {
		t.Error("the spare is not trusted:", err)
	}
}

func TestOwn(t *testing.T) {
	s, dir := open(t, filepath.Join(t.TempDir(), "box")), t.TempDir()
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	own := sitecert.NewOwn(cert, key)
	if _, err := own.Certificate(); err == nil || !strings.Contains(err.Error(), cert) {
		t.Error("nothing is there:", err)
	}
	write := func(at time.Time) sitecert.Bundle {
		b, err := s.Issue(sitecert.Request{Device: "gateway.local"})
		if err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{cert: b.Certificate + b.Authority, key: b.Key} {
			if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	for i := range 2 {
		b := write(time.Unix(int64(i), 0))
		c, err := own.Certificate()
		if err != nil || c.Leaf.SerialNumber.Text(16) != b.Issued.Serial || len(c.Certificate) != 2 {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := errors.Join(os.WriteFile(key, []byte("no key"), 0o600), os.Chtimes(key, time.Unix(9, 0), time.Unix(9, 0))); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Certificate(); err == nil || strings.Contains(err.Error(), "no key\n") {
		t.Error("a broken key:", err)
	}
}
