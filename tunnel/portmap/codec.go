package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Port is where routers listen for both protocols (RFC 6887 §19.1, RFC 6886 §3.1).
const Port = 5351

const (
	maxPacket  = 1100 // RFC 6887 §7
	protoUDP   = 17
	pcpVersion = 2
	pcpMap     = 1
	pcpAnswer  = 0x80
	pcpLength  = 24 + 36 // header and MAP, RFC 6887 §7.2 and §11.1

	pcpUnsupportedVersion = 1

	pmpAddress = 0
	pmpUDP     = 1
	pmpAnswer  = 128
)

// Errors of an answer. ErrVersion means that the router speaks NAT-PMP, or another version of PCP; errForeign that the answer is not to our question.
var (
	ErrVersion = errors.New("the router does not speak this version")
	errForeign = errors.New("not an answer to the question")
)

// RefusedError is a result code other than success.
type RefusedError struct {
	Protocol string // "PCP" or "NAT-PMP"
	Code     uint16 // RFC 6887 §7.4, or RFC 6886 §3.5
}

func (e *RefusedError) Error() string {
	names := []string{1: "unsupported version", "not authorized", "network failure", "out of resources", "unsupported operation"}
	if e.Protocol == "PCP" {
		names = []string{
			1: "unsupported version", "not authorized", "malformed request", "unsupported operation", "unsupported option", "malformed option", "network failure",
			"no resources", "unsupported protocol", "quota exceeded", "cannot provide the external address", "address mismatch", "excessive remote peers",
		}
	}
	if int(e.Code) < len(names) && names[e.Code] != "" {
		return fmt.Sprintf("the router refuses by %s: %s", e.Protocol, names[e.Code])
	}
	return fmt.Sprintf("the router refuses by %s: code %d", e.Protocol, e.Code)
}

type nonce [12]byte

// answer is what a router has granted.
type answer struct {
	external netip.AddrPort
	lifetime time.Duration
}

// appendPCP appends a MAP request for a UDP port; a lifetime of 0 deletes the mapping (RFC 6887 §15).
func appendPCP(b []byte, client netip.Addr, port uint16, wanted netip.AddrPort, n nonce, lifetime time.Duration) []byte {
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
	from := client.As16()
	b = append(b, from[:]...)
	b = append(b, n[:]...)
	b = append(b, protoUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, wanted.Port())
	to := netip.AddrFrom4([4]byte{}).As16()
	if wanted.IsValid() {
		to = wanted.Addr().As16()
	}
	return append(b, to[:]...)
}

// parsePCP reads the answer to a MAP request. A mapping that is deleted has a lifetime of 0.
func parsePCP(b []byte, port uint16, n nonce) (answer, error) {
	// A router that speaks NAT-PMP answers with its own version and result 1 in 8 bytes (RFC 6886 §3.5, RFC 6887 appendix A).
	if len(b) >= 4 && b[0] != pcpVersion && b[1]&pcpAnswer != 0 {
		return answer{}, ErrVersion
	}
	if len(b) < 24 || len(b) > maxPacket || len(b)%4 != 0 || b[1] != pcpAnswer|pcpMap {
		return answer{}, errForeign
	}
	if b[3] == pcpUnsupportedVersion {
		return answer{}, ErrVersion
	}
	if len(b) < pcpLength || nonce(b[24:36]) != n || b[36] != protoUDP || binary.BigEndian.Uint16(b[40:]) != port {
		return answer{}, errForeign
	}
	if b[3] != 0 {
		return answer{}, &RefusedError{"PCP", uint16(b[3])}
	}
	external := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[44:60])).Unmap(), binary.BigEndian.Uint16(b[42:]))
	return answer{external, time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second}, nil
}

// appendPMP appends a request to map a UDP port; a lifetime of 0 deletes the mapping, and wants port 0 (RFC 6886 §3.4).
func appendPMP(b []byte, port, wanted uint16, lifetime time.Duration) []byte {
	b = append(b, 0, pmpUDP, 0, 0)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, wanted)
	return binary.BigEndian.AppendUint32(b, uint32(lifetime/time.Second))
}

// checkPMP checks what all answers begin with.
func checkPMP(b []byte, op byte, length int) error {
	if len(b) < 8 || len(b) > maxPacket || b[0] != 0 || b[1] != pmpAnswer|op {
		return errForeign
	}
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		return &RefusedError{"NAT-PMP", code}
	}
	if len(b) < length {
		return errForeign
	}
	return nil
}

func parsePMPAddress(b []byte) (netip.Addr, error) {
	if err := checkPMP(b, pmpAddress, 12); err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom4([4]byte(b[8:12])), nil
}

// parsePMP reads the answer to a request to map; the address of its result is not known yet.
func parsePMP(b []byte, port uint16) (external uint16, lifetime time.Duration, err error) {
	if err := checkPMP(b, pmpUDP, 16); err != nil {
		return 0, 0, err
	}
	if binary.BigEndian.Uint16(b[8:]) != port {
		return 0, 0, errForeign
	}
	return binary.BigEndian.Uint16(b[10:]), time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second, nil
}
