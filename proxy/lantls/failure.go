package lantls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
)

// Failure is why a connection came to nothing before its protocol began.
type Failure string

// The failures.
const (
	FailCleartext     Failure = "cleartext on the TLS port"
	FailTLSOnClear    Failure = "TLS on the cleartext port"
	FailNoCertificate Failure = "no certificate"
	FailUnknownCA     Failure = "certificate of an unknown authority"
	FailExpired       Failure = "certificate expired"
	FailCertificate   Failure = "certificate not valid"
	FailRevoked       Failure = "certificate revoked"
	FailVersion       Failure = "TLS too old"
	FailSuites        Failure = "no common cipher suite"
	FailDistrust      Failure = "the device does not trust this box"
	FailSlow          Failure = "handshake too slow"
	FailCrowded       Failure = "too many handshakes"
	FailOurs          Failure = "this box has no certificate"
	FailBroken        Failure = "handshake broken off"
)

// Advice says what was wrong and who must change what, in one sentence.
func (f Failure) Advice() string {
	switch f {
	case FailCleartext:
		return "the device spoke cleartext to the TLS port: switch TLS on in its settings, or let it use the cleartext port"
	case FailTLSOnClear:
		return "the device spoke TLS to the cleartext port: give it the TLS port, or switch TLS off in its settings"
	case FailNoCertificate:
		return "the device showed no certificate: install the one that \"towpath cert issue\" made for it, and switch client authentication on"
	case FailUnknownCA:
		return "the device's certificate is of an authority that is not trusted here: install the one that \"towpath cert issue\" made for it, " +
			"or add its authority with \"towpath tls set --trust\""
	case FailExpired:
		return "the device's certificate has expired, or its time has not come: issue a new one with \"towpath cert issue\", and check both clocks"
	case FailCertificate:
		return "the device's certificate may not be used for this: issue one with \"towpath cert issue\""
	case FailRevoked:
		return "the device's certificate was revoked: issue a new one with \"towpath cert issue\" if the device may come back"
	case FailVersion:
		return "the device speaks no TLS newer than 1.1: update it, or allow it an exception with \"towpath tls legacy\""
	case FailSuites:
		return "the device offers no cipher suite of BCP 195: choose the profile BCP 195 or AES-GCM in its settings, or allow it an exception with \"towpath tls legacy\""
	case FailDistrust:
		return "the device does not trust this box's certificate: install the authority that \"towpath cert ca\" shows on it, and let it call the box by a name or address in the certificate"
	case FailSlow:
		return "the device began TLS and did not go on: check its network connection and its settings"
	case FailCrowded:
		return "too many connections from there are in the middle of their handshake: look for a device that connects over and over"
	case FailOurs:
		return "this box has no certificate to show: \"towpath status\" says why"
	case FailBroken:
	}
	return "the device broke off while TLS was negotiated: its own log says why"
}

var errRevoked = errors.New("the certificate was revoked")

// judge names the error of a server's handshake. For some of them crypto/tls has texts only.
func judge(err error) Failure {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return FailCleartext
	}
	if errors.Is(err, errRevoked) {
		return FailRevoked
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return FailSlow
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return FailUnknownCA
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return FailExpired
		}
		return FailCertificate
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return judgeAlert(op.Error())
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "didn't provide a certificate"):
		return FailNoCertificate
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "unsupported SSLv2"):
		return FailVersion
	case strings.Contains(text, "no cipher suite supported"), strings.Contains(text, "handshake failure"):
		return FailSuites
	case errors.Is(err, io.EOF):
		return FailBroken
	}
	return FailBroken
}

// judgeAlert names an alert that the device sent (RFC 8446 §6.2).
func judgeAlert(text string) Failure {
	switch {
	case strings.Contains(text, "certificate"): // bad, unknown, expired, unknown authority
		return FailDistrust
	case strings.Contains(text, "protocol version"):
		return FailVersion
	case strings.Contains(text, "handshake failure"):
		return FailSuites
	}
	return FailBroken
}
