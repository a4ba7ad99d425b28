package sitecert

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/state"
)

// Lifetimes. Devices trust the authority and not the box's certificate, so that a new one of the box concerns nobody.
const (
	authorityLife = 15 * 365 * 24 * time.Hour
	serverLife    = 398 * 24 * time.Hour
	// renewBefore is when the box renews its own.
	renewBefore = 60 * 24 * time.Hour
	// DeviceLife is what a device's certificate has if nothing else is asked for, MaxDeviceLife the most it may have.
	DeviceLife    = 2 * 365 * 24 * time.Hour
	MaxDeviceLife = 5 * 365 * 24 * time.Hour
	// early makes a certificate good for devices whose clock is behind.
	early = 24 * time.Hour
)

// RSA is what old devices can do; RFC 9325 §4.5 asks for 2048 bits.
const (
	authorityBits = 3072
	leafBits      = 2048
)

// maxNames bounds the addresses that the box's certificate collects.
const maxNames = 32

const documentFile = "lan-certs.json"

// Options are what an Authority is made of. Dir and Site are required.
type Options struct {
	Dir  *state.Dir
	Site string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authority is the Site's own. It is safe for concurrent use.
type Authority struct {
	opt Options

	mu     sync.Mutex
	ca     *x509.Certificate // nil before it was made or read
	key    *rsa.PrivateKey
	server *rsa.PrivateKey
	leaf   *tls.Certificate
	names  []string // of the leaf
	extra  []string // asked for by the plan
	doc    document
}

// document is what is kept besides keys.
type document struct {
	Format    int      `json:"format"`
	Authority []byte   `json:"authority"` // certificate, DER
	Issued    []Issued `json:"issued"`
}

// Open reads what is there. It makes no keys: Ensure does.
func Open(opt Options) (*Authority, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	a := &Authority{opt: opt}
	b, err := os.ReadFile(opt.Dir.Path(documentFile))
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the site's certificates: %w", err)
	}
	if err := json.Unmarshal(b, &a.doc); err != nil || a.doc.Format != 1 {
		return nil, fmt.Errorf("the file %s is damaged, or of a newer build: restore it from the backup", opt.Dir.Path(documentFile))
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) load() error {
	ca, err := x509.ParseCertificate(a.doc.Authority)
	if err != nil {
		return fmt.Errorf("the site's authority is damaged: restore it with \"towpath cert restore\": %w", err)
	}
	if a.key, err = a.secret(state.LANAuthority); err != nil {
		return err
	}
	if !a.key.PublicKey.Equal(ca.PublicKey) {
		return errors.New("the key of the site's authority is not that of its certificate: restore both with \"towpath cert restore\"")
	}
	a.ca = ca
	a.server, err = a.secret(state.LANServer)
	if errors.Is(err, state.ErrNoSecret) {
		err = nil // it is made with the first certificate
	}
	return err
}

func (a *Authority) secret(name string) (*rsa.PrivateKey, error) {
	der, err := a.opt.Dir.Secret(name)
	if err != nil {
		return nil, fmt.Errorf("read a key of the site's certificates: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("a key of the site's certificates in %s is damaged: restore it from the backup", name)
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of the site's certificates in %s is %T", name, k)
	}
	return key, nil
}

func (a *Authority) saveSecret(name string, key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	if err := a.opt.Dir.SaveSecret(name, der); err != nil {
		return fmt.Errorf("store a key of the site's certificates: %w", err)
	}
	return nil
}

// Ensure makes the authority if there is none. That takes seconds on a small box.
func (a *Authority) Ensure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ensureLocked()
}

func (a *Authority) ensureLocked() error {
	if a.ca != nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, authorityBits)
	if err != nil {
		return fmt.Errorf("make the key of the site's authority: %w", err)
	}
	now := a.opt.Now()
	ca, err := sign(&x509.Certificate{
		SerialNumber: serial(), NotBefore: now.Add(-early), NotAfter: now.Add(authorityLife),
		Subject:               pkix.Name{CommonName: "Towpath LAN authority of " + a.opt.Site, Organization: []string{a.opt.Site}},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, &key.PublicKey, key)
	if err != nil {
		return err
	}
	return a.adoptLocked(ca, key)
}

// adoptLocked makes ca the authority. The key is written first: a certificate without its key would be an authority nobody can use.
func (a *Authority) adoptLocked(ca *x509.Certificate, key *rsa.PrivateKey) error {
	if err := a.saveSecret(state.LANAuthority, key); err != nil {
		return err
	}
	doc := a.doc
	doc.Format, doc.Authority = 1, ca.Raw
	if err := a.opt.Dir.SaveDocument(documentFile, doc); err != nil {
		return fmt.Errorf("store the site's certificates: %w", err)
	}
	a.ca, a.key, a.doc, a.leaf = ca, key, doc, nil
	return nil
}

// SetNames are host names and addresses that the box's certificate has besides those it is reached at.
func (a *Authority) SetNames(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(names, a.extra) {
		a.extra, a.leaf = slices.Clone(names), nil
	}
}

// Certificate is the box's own, for who reached it at a local address. It is renewed when its time is near, and when it does not have
// the address yet.
func (a *Authority) Certificate(local netip.Addr) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ensureLocked(); err != nil {
		return nil, err
	}
	known := !local.IsValid() || slices.Contains(a.names, local.String()) || len(a.names) >= maxNames
	if a.leaf != nil && known && a.opt.Now().Before(a.leaf.Leaf.NotAfter.Add(-renewBefore)) {
		return a.leaf, nil
	}
	if !known {
		a.names = append(a.names, local.String())
	}
	if err := a.renewLocked(); err != nil {
		return nil, err
	}
	return a.leaf, nil
}

func (a *Authority) renewLocked() error {
	if a.server == nil {
		key, err := rsa.GenerateKey(rand.Reader, leafBits)
		if err != nil {
			return fmt.Errorf("make the key of this box's certificate: %w", err)
		}
		if err := a.saveSecret(state.LANServer, key); err != nil {
			return err
		}
		a.server = key
	}
	now := a.opt.Now()
	c := template("towpath "+a.opt.Site, slices.Concat([]string{a.opt.Site}, a.names, a.extra), now, a.until(now, serverLife))
	leaf, err := sign(c, a.ca, &a.server.PublicKey, a.key)
	if err != nil {
		return err
	}
	a.leaf = &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.ca.Raw}, PrivateKey: a.server, Leaf: leaf}
	return nil
}

// until bounds a life by the authority's own.
func (a *Authority) until(now time.Time, life time.Duration) time.Time {
	if end := now.Add(life); end.Before(a.ca.NotAfter) {
		return end
	}
	return a.ca.NotAfter
}

// Pool holds the authority, and those of further PEM certificates.
func (a *Authority) Pool(further string) *x509.CertPool {
	p := x509.NewCertPool()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ca != nil {
		p.AddCert(a.ca)
	}
	p.AppendCertsFromPEM([]byte(further))
	return p
}

// PEM is the authority's certificate; empty before there is one.
func (a *Authority) PEM() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ca == nil {
		return ""
	}
	return string(encode("CERTIFICATE", a.ca.Raw))
}

// template is a certificate for one end of a connection.
func template(common string, names []string, now, end time.Time) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: serial(), NotBefore: now.Add(-early), NotAfter: end, Subject: pkix.Name{CommonName: common},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			continue
		}
		if ip, err := netip.ParseAddr(n); err == nil {
			c.IPAddresses = append(c.IPAddresses, ip.Unmap().AsSlice())
			continue
		}
		c.DNSNames = append(c.DNSNames, n)
	}
	return c
}

// sign makes a certificate; a nil parent means that it signs itself.
func sign(c, parent *x509.Certificate, public *rsa.PublicKey, key *rsa.PrivateKey) (*x509.Certificate, error) {
	if parent == nil {
		parent = c
	}
	id := sha256.Sum256(x509.MarshalPKCS1PublicKey(public))
	c.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read a certificate that was just signed: %w", err)
	}
	return out, nil
}

// serial is random, positive and of 127 bits at most (RFC 5280 §4.1.2.2 allows 20 octets).
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
