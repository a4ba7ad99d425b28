package coordinator

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/towpath/towpath/provisioning/wire"
)

const (
	maxDevices   = 200
	maxAuthority = 8 << 10
)

// cleanLANReport copies what may be stored. An authority that is no certificate is left out.
func cleanLANReport(r *wire.LANReport) *wire.LANReport {
	if r == nil {
		return nil
	}
	out := &wire.LANReport{More: max(r.More, 0)}
	if len(r.Authority) <= maxAuthority {
		if b, _ := pem.Decode([]byte(r.Authority)); b != nil && b.Type == "CERTIFICATE" {
			if c, err := x509.ParseCertificate(b.Bytes); err == nil {
				out.Authority = string(pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: c.Raw}))
			}
		}
	}
	for _, d := range r.Devices[:min(len(r.Devices), maxDevices)] {
		if !d.Source.IsValid() || d.Source.Zone() != "" {
			continue
		}
		d.Calling, d.Service, d.Protocol = clean(d.Calling, maxShort), clean(d.Service, maxShort), wire.Protocol(clean(string(d.Protocol), maxShort))
		out.Devices = append(out.Devices, d)
	}
	return out
}
