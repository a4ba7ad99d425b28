package wire

import (
	"net/netip"
	"time"
)

// Usual ports of TLS on the LAN. 2762 is IANA's dicom-tls (PS3.15 §B.1 recommends it). IANA has none for HL7 over TLS: 2576, next to 2575,
// belongs to something else, and 12575 is what other archives use.
const (
	DICOMTLSPort uint16 = 2762
	HL7TLSPort   uint16 = 12575
)

// The tags "nullable" below are for the description of the admin API, which shows these types as they are.

// LANTLS is how the devices of a Site and its gateway protect what they say to each other on the LAN. A NetMap without one has cleartext
// only, with no end.
type LANTLS struct {
	// DICOMPort and HL7Port are where the gateway takes the Uses of a protocol over TLS, all on one port; 0 means nowhere.
	DICOMPort uint16 `json:"dicom_port,omitempty"`
	HL7Port   uint16 `json:"hl7_port,omitempty"`
	// Ports are other ports for single Services, by name.
	Ports map[string]uint16 `json:"ports,omitempty"`
	// ServerOnly lets devices in that show no certificate.
	ServerOnly bool `json:"server_only,omitempty"`
	// Own means that the gateway shows the certificate that was put on it instead of one of its own authority.
	Own bool `json:"own,omitempty"`
	// Names are host names and addresses that the gateway's certificate has besides the addresses it is reached at.
	Names []string `json:"names,omitempty" nullable:"false"`
	// Trust are certificates of authorities, in PEM, that vouch for devices besides the gateway's own.
	Trust string `json:"trust,omitempty"`
	// Revoked are serial numbers, in hexadecimal without leading zeros, of certificates that are not taken any more.
	Revoked []string `json:"revoked,omitempty" nullable:"false"`
	// Cleartext says how long cleartext is taken. Where none fits, it is, with no end.
	Cleartext []CleartextRule `json:"cleartext,omitempty" nullable:"false"`
	// Legacy are the devices that may use an older TLS.
	Legacy []LegacyTLS `json:"legacy,omitempty" nullable:"false"`
	// Targets are the Services of the Site that the gateway reaches over TLS.
	Targets []TLSTarget `json:"targets,omitempty" nullable:"false"`
}

// CleartextRule says until when cleartext is taken from a device, for a Service. Of those that fit, the one with the narrowest Device
// counts, and of two with the same, the one that names the Service.
type CleartextRule struct {
	// Device is where it comes from; the zero Prefix is everywhere.
	Device netip.Prefix `json:"device,omitzero"`
	// Service is empty for all.
	Service string `json:"service,omitempty"`
	// Until is the first moment at which it is refused; zero is never.
	Until time.Time `json:"until,omitzero"`
}

// LegacyProfile is an older TLS than BCP 195 allows.
type LegacyProfile string

// The profiles.
const (
	// LegacyTLS12 adds RSA key exchange and CBC suites to TLS 1.2.
	LegacyTLS12 LegacyProfile = "tls12-cbc"
	// LegacyTLS10 adds TLS 1.0 and 1.1, with what their devices have.
	LegacyTLS10 LegacyProfile = "tls10"
)

// LegacyTLS lets one device use an older TLS.
type LegacyTLS struct {
	Device  netip.Prefix  `json:"device"`
	Profile LegacyProfile `json:"profile"`
	// Until is when the exception ends; zero is never.
	Until time.Time `json:"until,omitzero"`
}

// TLSVerify is how the certificate of a target is judged.
type TLSVerify string

// The ways.
const (
	// VerifySite takes what the Site's own authority has issued.
	VerifySite TLSVerify = "site-ca"
	// VerifyPin takes one certificate and no other.
	VerifyPin TLSVerify = "pin"
	// VerifyCA takes what the authorities of TLSTarget.CA have issued.
	VerifyCA TLSVerify = "ca"
)

// TLSTarget is how the gateway reaches the Target of an Offer over TLS. It shows its own certificate if it is asked for one.
type TLSTarget struct {
	Service string    `json:"service"`
	Verify  TLSVerify `json:"verify"`
	// Pin is the SHA-256 of the certificate (DER), in hexadecimal.
	Pin string `json:"pin,omitempty"`
	// CA are certificates of authorities in PEM.
	CA string `json:"ca,omitempty"`
	// Name must be in the certificate; empty means the host of the Target. With a pin it is not looked at.
	Name string `json:"name,omitempty"`
}

// Port is where a Use is taken over TLS; 0 is nowhere.
func (t *LANTLS) Port(p Protocol, service string) uint16 {
	if t == nil {
		return 0
	}
	if port, ok := t.Ports[service]; ok {
		return port
	}
	switch p {
	case DICOM:
		return t.DICOMPort
	case HL7:
		return t.HL7Port
	}
	return 0
}

// Target returns how a Service is reached over TLS; the zero value means in cleartext.
func (t *LANTLS) Target(service string) TLSTarget {
	if t != nil {
		for _, x := range t.Targets {
			if x.Service == service {
				return x
			}
		}
	}
	return TLSTarget{}
}

// LANReport is what a box tells of how its LAN is protected. It holds names of devices and no patient data.
type LANReport struct {
	// Authority is the certificate of the Site's own authority in PEM; empty before there is one.
	Authority string      `json:"authority,omitempty"`
	Devices   []LANDevice `json:"devices,omitempty" nullable:"false"`
	// More is how many devices are not told of, being too many.
	More int `json:"more,omitempty"`
}

// LANDevice is what speaks to the box: one source address with one AE title, or HL7 application and facility.
type LANDevice struct {
	Source   netip.Addr `json:"source"`
	Calling  string     `json:"calling,omitempty"`
	Protocol Protocol   `json:"protocol"`
	Service  string     `json:"service"`
	// Cleartext, TLS and Refused count associations or messages, and say when the last was. Refused are those in cleartext after its end.
	Cleartext     uint64    `json:"cleartext,omitempty"`
	LastCleartext time.Time `json:"last_cleartext,omitzero"`
	TLS           uint64    `json:"tls,omitempty"`
	LastTLS       time.Time `json:"last_tls,omitzero"`
	Refused       uint64    `json:"refused,omitempty"`
	LastRefused   time.Time `json:"last_refused,omitzero"`
	// Until is when cleartext ends for it; zero is never.
	Until time.Time `json:"until,omitzero"`
}
