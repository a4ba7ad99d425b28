package sitecert

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Own is an operator's own certificate and key, in files that may be replaced while the gateway runs. It is safe for concurrent use.
type Own struct {
	certificate, key string

	mu     sync.Mutex
	stamps [2]time.Time
	leaf   *tls.Certificate
}

// NewOwn names the files, in PEM: the certificate, followed by those between it and its authority, and the key.
func NewOwn(certificate, key string) *Own { return &Own{certificate: certificate, key: key} }

// Certificate reads the files if they have changed.
func (o *Own) Certificate() (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var stamps [2]time.Time
	for i, path := range []string{o.certificate, o.key} {
		st, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("the LAN's TLS certificate is to be the operator's own, and %s cannot be read: put it there, "+
				"or take this box's authority with \"towpath tls set SITE --own=false\"", path)
		}
		stamps[i] = st.ModTime()
	}
	if o.leaf != nil && stamps == o.stamps {
		return o.leaf, nil
	}
	c, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		// The error of a key that cannot be read never quotes it.
		return nil, fmt.Errorf("the certificate in %s and the key in %s make no pair: replace both: %w", o.certificate, o.key, err)
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return nil, fmt.Errorf("the certificate in %s: %w", o.certificate, err)
		}
	}
	o.leaf, o.stamps = &c, stamps
	return o.leaf, nil
}
