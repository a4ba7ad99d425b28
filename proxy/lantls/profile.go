package lantls

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"
)

// Profile is what a Server shows and asks for. Its fields are not changed after it was handed over.
type Profile struct {
	// Certificate returns what is shown to who connected to a local address.
	Certificate func(local netip.Addr) (*tls.Certificate, error)
	// Devices vouch for the certificates of devices.
	Devices *x509.CertPool
	// ServerOnly lets devices in that show no certificate. One that is shown is verified all the same.
	ServerOnly bool
	// Revoked reports whether a certificate is not taken any more, by its serial number in hexadecimal. It may be nil.
	Revoked func(serial string) bool
	Legacy  []Legacy
}

// Legacy lets one device use an older TLS than BCP 195 allows.
type Legacy struct {
	Device netip.Prefix
	// TLS10 adds TLS 1.0 and 1.1; without it only suites are added.
	TLS10 bool
	// Until is when the exception ends; zero is never.
	Until time.Time
}

// strict are the suites of BCP 195 (RFC 9325 §4.2) that crypto/tls has. Those of PS3.15 §B.9 and §B.12 are among them but for the ones
// with finite-field DHE, which RFC 9325 advises against.
func strict() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
}

// old are the suites that devices of the profiles AES and Basic TLS have (PS3.15 §B.3 and §B.1, both retired).
func old() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	}
}

// config is for one connection.
func (p *Profile) config(remote, local netip.Addr, now time.Time) *tls.Config {
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: strict(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.Devices,
		Time:         func() time.Time { return now },
		// A session that is resumed would not ask again whether its certificate is still good.
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.Certificate(local) },
	}
	if p.ServerOnly {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) > 0 && p.Revoked != nil && p.Revoked(s.PeerCertificates[0].SerialNumber.Text(16)) {
			return errRevoked
		}
		return nil
	}
	for _, l := range p.Legacy {
		if !l.Device.Contains(remote) || !l.Until.IsZero() && !now.Before(l.Until) {
			continue
		}
		c.CipherSuites = append(strict(), old()...)
		if l.TLS10 {
			c.MinVersion = tls.VersionTLS10 // one device, by an operator's explicit exception
			c.CipherSuites = append(c.CipherSuites, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
			break
		}
	}
	return c
}
