package carrier

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxPacket is the largest packet that is carried, in octets: an inner MTU of 1500 with WireGuard's header, padding and tag has room.
const MaxPacket = 2048

const headerSize = 2

// errFrame means that the other end does not speak the protocol.
var errFrame = errors.New("what came is no frame of WireGuard")

// appendFrame adds a packet of at most MaxPacket octets; an empty one is a sign of life.
func appendFrame(b, packet []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(packet))), packet...)
}

// readFrame reads one frame into p, which has room for MaxPacket octets, and returns the length of the packet; 0 is a sign of life.
func readFrame(r *bufio.Reader, p []byte) (int, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, fmt.Errorf("read a frame: %w", err)
	}
	n := int(binary.BigEndian.Uint16(h[:]))
	if n == 0 {
		return 0, nil
	}
	if n < minPacket || n > MaxPacket {
		return 0, fmt.Errorf("%w: it has %d octets", errFrame, n)
	}
	if _, err := io.ReadFull(r, p[:n]); err != nil {
		return 0, fmt.Errorf("read a frame: %w", err)
	}
	if k := kindOf(p[:n]); k < initiation || k > transport {
		return 0, fmt.Errorf("%w: it is of kind %d", errFrame, k)
	}
	return n, nil
}

// Kinds of messages (WireGuard paper §5.4), and the size of the smallest.
const (
	initiation = 1
	response   = 2
	transport  = 4
	minPacket  = 32
)

// kindOf is the kind of a packet; 0 if it has none.
func kindOf(p []byte) uint32 {
	if len(p) < minPacket {
		return 0
	}
	return binary.LittleEndian.Uint32(p)
}

// sender is the index that the maker of a handshake message has chosen, receiver that of whom a message is for.
func sender(p []byte) uint32 { return binary.LittleEndian.Uint32(p[4:]) }

func receiver(p []byte) uint32 {
	if kindOf(p) == response {
		return binary.LittleEndian.Uint32(p[8:])
	}
	return binary.LittleEndian.Uint32(p[4:])
}

// lane is one of the two connections.
type lane int

const (
	interactive lane = iota
	bulk
	lanes
)

func (l lane) String() string {
	if l == bulk {
		return "bulk"
	}
	return "interactive"
}

// keepalive is the length of transport data with nothing in it (WireGuard paper §5.4.6).
const keepalive = 32

// laneOf keeps all that is in a session in order: a TCP acknowledgment that overtakes data takes an older window for a newer one at some receivers,
// gVisor's among them, which then stand still for good.
func laneOf(p []byte) lane {
	if kindOf(p) == transport && len(p) > keepalive {
		return bulk
	}
	return interactive
}
