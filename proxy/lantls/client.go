package lantls

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/towpath/towpath/proxy"
)

// ClientConfig is how an application on the LAN is reached over TLS.
type ClientConfig struct {
	// Pin is the SHA-256 of its certificate (DER). If it is not zero, nothing else is looked at.
	Pin [sha256.Size]byte
	// Roots vouch for its certificate.
	Roots *x509.CertPool
	// Name must be in the certificate; empty means the host that is dialed.
	Name string
	// Certificate is shown if the application asks for one; nil for none.
	Certificate func() (*tls.Certificate, error)
	Book        *Book
}

// Client is a proxy.Network that dials with TLS through another.
type Client struct {
	inner proxy.Network
	cfg   ClientConfig
}

// NewClient returns a Client.
func NewClient(inner proxy.Network, cfg ClientConfig) *Client { return &Client{inner, cfg} }

var errOtherCertificate = errors.New("its certificate is another than the pinned one")

// DialContext connects and shakes hands.
func (n *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.inner.DialContext(ctx, network, address)
	if err != nil {
		return nil, err //nolint:wrapcheck // it is the network's to say
	}
	hs, cancel := context.WithTimeout(ctx, DefaultHandshake)
	defer cancel()
	t := tls.Client(c, n.config(address))
	if err := t.HandshakeContext(hs); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return t, nil
}

// Listen listens without TLS.
func (n *Client) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return n.inner.Listen(ctx, network, address) //nolint:wrapcheck // as above
}

func (n *Client) config(address string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: strict(), RootCAs: n.cfg.Roots, ServerName: n.cfg.Name, Time: n.cfg.Book.now}
	if c.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			c.ServerName = host
		}
	}
	if n.cfg.Pin != [sha256.Size]byte{} {
		c.InsecureSkipVerify = true // the pin below is more than any authority's word
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || sha256.Sum256(s.PeerCertificates[0].Raw) != n.cfg.Pin {
				return errOtherCertificate
			}
			return nil
		}
	}
	if n.cfg.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return n.cfg.Certificate() }
	}
	return c
}
