package provisioning

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Limits of how a Site's LAN is protected: in entries, and in bytes of PEM. Every map of the Site carries it.
const (
	maxLANRules = 256
	maxLANNames = 16
	maxTrust    = 32 << 10
	maxRevoked  = 512
)

// CheckLANTLS checks everything about t that needs no other noun. The error is an *Error with code Invalid. Nil is good.
func CheckLANTLS(t *wire.LANTLS) error {
	if t == nil {
		return nil
	}
	return first(checkLANPorts(t), checkLANLists(t), checkLANNames(t.Names), checkPEM("the authorities to be trusted", t.Trust),
		checkRevoked(t.Revoked), checkLegacy(t.Legacy), checkTLSTargets(t.Targets), checkCleartext(t.Cleartext))
}

func checkLANPorts(t *wire.LANTLS) error {
	if t.DICOMPort != 0 && t.DICOMPort == t.HL7Port {
		return Errorf(Invalid, "DICOM and HL7 cannot share TLS port %d", t.DICOMPort).WithHint("choose another for one of them")
	}
	for name, port := range t.Ports {
		if err := CheckName("service", name); err != nil {
			return err
		}
		if port == 0 {
			return Errorf(Invalid, "TLS port 0 of service %s is none", name).WithHint("choose one from 1 to 65535, or leave the service out")
		}
	}
	return nil
}

func checkLANLists(t *wire.LANTLS) error {
	for what, n := range map[string]int{
		"cleartext rules": len(t.Cleartext), "exceptions": len(t.Legacy), "targets": len(t.Targets), "ports": len(t.Ports),
	} {
		if n > maxLANRules {
			return Errorf(Invalid, "there are %d %s, and %d are the most", n, what, maxLANRules).WithHint("take those away that are over")
		}
	}
	return nil
}

func checkLANNames(names []string) error {
	if len(names) > maxLANNames {
		return Errorf(Invalid, "a certificate has %d more names, and %d are the most", len(names), maxLANNames).WithHint("leave some out")
	}
	for _, n := range names {
		if _, err := netip.ParseAddr(n); err == nil {
			continue
		}
		bad := strings.ContainsFunc(n, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
		})
		if n == "" || len(n) > 253 || bad {
			return Errorf(Invalid, "%q is no host name and no address", n).WithHint("such as gateway.praxis.local or 192.168.1.10")
		}
	}
	return nil
}

// checkPEM takes certificates of authorities and nothing else; empty is good.
func checkPEM(what, text string) error {
	if len(text) > maxTrust {
		return Errorf(Invalid, "%s have %d bytes, and %d are the most", what, len(text), maxTrust).WithHint("leave out those that no device has")
	}
	rest := []byte(text)
	for len(strings.TrimSpace(string(rest))) > 0 {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil || b.Type != "CERTIFICATE" {
			return Errorf(Invalid, "%s are not certificates in PEM alone", what).WithHint("give files that begin with -----BEGIN CERTIFICATE-----, and no keys")
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return Errorf(Invalid, "%s: a certificate cannot be read: %v", what, err).WithHint("export it again from where it comes")
		}
	}
	return nil
}

func checkRevoked(serials []string) error {
	if len(serials) > maxRevoked {
		return Errorf(Invalid, "%d certificates are revoked, and %d are the most", len(serials), maxRevoked).WithHint("take those away that have ended by themselves")
	}
	for _, s := range serials {
		if NormalSerial(s) != s || s == "" || strings.Trim(s, "0123456789abcdef") != "" || len(s) > 40 {
			return Errorf(Invalid, "%q is no serial number of a certificate", s).WithHint("give it in hexadecimal, as \"towpath cert list\" shows it")
		}
	}
	return nil
}

// NormalSerial is a serial number as it is compared: lower-case hexadecimal without colons and leading zeros.
func NormalSerial(s string) string {
	return strings.TrimLeft(strings.ToLower(strings.ReplaceAll(s, ":", "")), "0")
}

func checkLegacy(list []wire.LegacyTLS) error {
	for _, l := range list {
		if err := checkChoice("profile", l.Profile, wire.LegacyTLS12, wire.LegacyTLS10); err != nil {
			return err
		}
		if !l.Device.IsValid() || l.Device != l.Device.Masked() || !l.Device.IsSingleIP() {
			return Errorf(Invalid, "an exception for an older TLS is for the address of one device, not %v", l.Device).WithHint("such as 192.168.1.40")
		}
		if err := checkMoment(l.Until); err != nil {
			return err
		}
	}
	return nil
}

func checkTLSTargets(list []wire.TLSTarget) error {
	seen := map[string]bool{}
	for _, t := range list {
		if err := first(CheckName("service", t.Service), checkChoice("way to verify", t.Verify, wire.VerifySite, wire.VerifyPin, wire.VerifyCA)); err != nil {
			return err
		}
		if seen[t.Service] {
			return Errorf(Invalid, "service %s is there twice", t.Service).WithHint("one is enough")
		}
		seen[t.Service] = true
		b, err := hex.DecodeString(t.Pin)
		switch {
		case t.Verify == wire.VerifyPin && (err != nil || len(b) != 32):
			return Errorf(Invalid, "the pin of %s is no SHA-256 of a certificate", t.Service).WithHint("64 hexadecimal digits: openssl x509 -in cert.pem -outform DER | sha256sum")
		case t.Verify != wire.VerifyPin && t.Pin != "", t.Verify != wire.VerifyCA && t.CA != "":
			return Errorf(Invalid, "service %s has a pin or an authority that is not looked at", t.Service).WithHint("verify by one of pin, ca and site-ca")
		case t.Verify == wire.VerifyCA && t.CA == "":
			return Errorf(Invalid, "service %s has no authority to verify by", t.Service).WithHint("give its certificate in PEM")
		}
		if err := checkPEM("the authorities of "+t.Service, t.CA); err != nil {
			return err
		}
		if t.Name != "" {
			if err := checkLANNames([]string{t.Name}); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCleartext(rules []wire.CleartextRule) error {
	for _, r := range rules {
		if r.Device.IsValid() && r.Device != r.Device.Masked() {
			return Errorf(Invalid, "%v is no prefix: %v would be", r.Device, r.Device.Masked()).WithHint("give the address of the device alone, or the prefix")
		}
		if r.Service != "" {
			if err := CheckName("service", r.Service); err != nil {
				return err
			}
		}
		if err := checkMoment(r.Until); err != nil {
			return err
		}
	}
	return nil
}

// checkMoment keeps out what JSON cannot hold (RFC 3339 §1: years 0 to 9999).
func checkMoment(t time.Time) error {
	if !t.IsZero() && (t.Year() < 2000 || t.Year() > 9999) {
		return Errorf(Invalid, "the year %d makes no sense", t.Year()).WithHint("such as 2027-03-31")
	}
	return nil
}
