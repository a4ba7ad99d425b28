package sitecert

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Issued is a certificate of a device. It holds no key.
type Issued struct {
	// Serial is in hexadecimal, without leading zeros.
	Serial string `json:"serial"`
	// Device is what the operator calls it: an AE title or a host name.
	Device  string    `json:"device"`
	Names   []string  `json:"names,omitempty"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Revoked is zero unless it was.
	Revoked time.Time `json:"revoked,omitzero"`
}

// Request asks for a certificate.
type Request struct {
	// Device becomes the common name: 1 to 64 printable characters.
	Device string `json:"device"`
	// Names are host names and addresses at which the device is a server itself; a device that only sends needs none.
	Names []string `json:"names,omitempty"`
	// Life is how long it is good; 0 means DeviceLife.
	Life time.Duration `json:"life_ns,omitempty"`
	// Password protects the PKCS#12 file; without one there is none.
	Password string `json:"password,omitempty"`
	// OldP12 makes the PKCS#12 file with the algorithms that old devices read (3DES, SHA-1).
	OldP12 bool `json:"old_p12,omitempty"`
}

// Bundle is what a device needs. It is handed over once.
type Bundle struct {
	Issued Issued `json:"issued"`
	// Key, Certificate and Authority are in PEM.
	Key         string `json:"key"`
	Certificate string `json:"certificate"`
	Authority   string `json:"authority"`
	PKCS12      []byte `json:"pkcs12,omitempty"`
}

// maxIssued bounds the list; those that ended long ago go first.
const maxIssued = 1000

// ErrRequest means that a request makes no sense; its text says why.
var ErrRequest = errors.New("no certificate was issued")

func (r *Request) check() error {
	switch {
	case r.Device == "" || len(r.Device) > 64 || strings.ContainsFunc(r.Device, func(c rune) bool { return c < ' ' || c > '~' }):
		return fmt.Errorf("%w: a device's name has 1 to 64 printable ASCII characters", ErrRequest)
	case len(r.Names) > maxNames:
		return fmt.Errorf("%w: a certificate has %d names at most", ErrRequest, maxNames)
	case r.Life < 0 || r.Life > MaxDeviceLife:
		return fmt.Errorf("%w: it may be good for %d days at most", ErrRequest, int(MaxDeviceLife.Hours()/24))
	case r.OldP12 && r.Password == "":
		return fmt.Errorf("%w: a PKCS#12 file needs a password", ErrRequest)
	}
	if r.Life == 0 {
		r.Life = DeviceLife
	}
	return nil
}

// Issue makes a key and a certificate for a device. An earlier one of the same name stays good until it ends or is revoked, so that a
// device can be changed over in peace.
func (a *Authority) Issue(r Request) (Bundle, error) {
	if err := r.check(); err != nil {
		return Bundle{}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, leafBits)
	if err != nil {
		return Bundle{}, fmt.Errorf("make a device's key: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ensureLocked(); err != nil {
		return Bundle{}, err
	}
	now := a.opt.Now().UTC().Truncate(time.Second)
	c, err := sign(template(r.Device, r.Names, now, a.until(now, r.Life)), a.ca, &key.PublicKey, a.key)
	if err != nil {
		return Bundle{}, err
	}
	b := Bundle{
		Issued:      Issued{Serial: c.SerialNumber.Text(16), Device: r.Device, Names: r.Names, Issued: now, Expires: c.NotAfter.UTC()},
		Certificate: string(encode("CERTIFICATE", c.Raw)), Authority: string(encode("CERTIFICATE", a.ca.Raw)),
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Bundle{}, fmt.Errorf("encode a device's key: %w", err)
	}
	b.Key = string(encode("PRIVATE KEY", der))
	if r.Password != "" {
		enc := pkcs12.Modern2023
		if r.OldP12 {
			enc = pkcs12.LegacyDES
		}
		if b.PKCS12, err = enc.Encode(key, c, []*x509.Certificate{a.ca}, r.Password); err != nil {
			return Bundle{}, fmt.Errorf("make the PKCS#12 file: %w", err)
		}
	}
	if err := a.noteLocked(append(slices.Clone(a.doc.Issued), b.Issued)); err != nil {
		return Bundle{}, err
	}
	return b, nil
}

func (a *Authority) noteLocked(issued []Issued) error {
	if len(issued) > maxIssued {
		slices.SortStableFunc(issued, func(x, y Issued) int { return x.Expires.Compare(y.Expires) })
		issued = issued[len(issued)-maxIssued:]
	}
	doc := a.doc
	doc.Issued = issued
	if err := a.opt.Dir.SaveDocument(documentFile, doc); err != nil {
		return fmt.Errorf("store the site's certificates: %w", err)
	}
	a.doc = doc
	return nil
}

// List returns all that were issued, by device, the newest of each first.
func (a *Authority) List() []Issued {
	a.mu.Lock()
	out := slices.Clone(a.doc.Issued)
	a.mu.Unlock()
	slices.SortStableFunc(out, func(x, y Issued) int {
		if c := strings.Compare(x.Device, y.Device); c != 0 {
			return c
		}
		return y.Issued.Compare(x.Issued)
	})
	return out
}

// Revoke ends a certificate at once. It returns false if none has the serial number.
func (a *Authority) Revoke(serial string) (bool, error) {
	serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(serial, ":", "")), "0")
	a.mu.Lock()
	defer a.mu.Unlock()
	issued := slices.Clone(a.doc.Issued)
	i := slices.IndexFunc(issued, func(x Issued) bool { return x.Serial == serial })
	if i < 0 {
		return false, nil
	}
	if issued[i].Revoked.IsZero() {
		issued[i].Revoked = a.opt.Now().UTC()
	}
	return true, a.noteLocked(issued)
}

// Revoked reports whether a serial number was revoked here.
func (a *Authority) Revoked(serial string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.doc.Issued, func(x Issued) bool { return x.Serial == serial && !x.Revoked.IsZero() })
}

// Ending is a device whose newest certificate ends soon, or has.
type Ending struct {
	Issued
	// Days are the whole days that are left; less than zero when it has ended.
	Days int
}

// Endings are those that end within 30 days. A device that has a newer certificate, or whose newest one was revoked or ended more than
// 30 days ago, is not among them.
func (a *Authority) Endings() []Ending {
	now := a.opt.Now()
	var out []Ending
	last := ""
	for _, x := range a.List() {
		if x.Device == last && last != "" {
			continue
		}
		last = x.Device
		left := x.Expires.Sub(now)
		if !x.Revoked.IsZero() || left > 30*24*time.Hour || left < -30*24*time.Hour {
			continue
		}
		days := int(left / (24 * time.Hour))
		if left < 0 {
			days = -1
		}
		out = append(out, Ending{x, days})
	}
	return out
}

// Backup returns the authority and its key as a PKCS#12 file under a passphrase of 12 characters at least.
func (a *Authority) Backup(passphrase string) ([]byte, error) {
	if len(passphrase) < 12 {
		return nil, fmt.Errorf("%w: a passphrase of 12 characters at least is needed", ErrRequest)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ensureLocked(); err != nil {
		return nil, err
	}
	b, err := pkcs12.Modern2023.Encode(a.key, a.ca, nil, passphrase)
	if err != nil {
		return nil, fmt.Errorf("make the backup: %w", err)
	}
	return b, nil
}

// Restore makes the authority of a Backup this Site's, so that a box that took the place of another is trusted by the same devices. What
// the authority of before has issued is not taken any more.
func (a *Authority) Restore(backup []byte, passphrase string) error {
	k, ca, err := pkcs12.Decode(backup, passphrase)
	if err != nil {
		return fmt.Errorf("%w: the backup cannot be read, or the passphrase is another", ErrRequest)
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok || !ca.IsCA || !key.PublicKey.Equal(ca.PublicKey) {
		return fmt.Errorf("%w: the file is no backup of a site's authority", ErrRequest)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.adoptLocked(ca, key)
}
