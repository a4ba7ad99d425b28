package relay_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/blake2s"

	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// keyOf is a public key as far as a relay looks.
func keyOf(i int) wgkey.PublicKey { return wgkey.PublicKey{0: byte(i), 1: byte(i >> 8), 31: 0x42} }

// stamp puts mac1 under a key into a handshake message (WireGuard paper §5.4.4).
func stamp(p []byte, k wgkey.PublicKey) []byte {
	key := blake2s.Sum256(append([]byte("mac1----"), k[:]...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		panic(err)
	}
	h.Write(p[:len(p)-32])
	copy(p[len(p)-32:], h.Sum(nil))
	return p
}

func header(size int, kind, first, second uint32) []byte {
	p := make([]byte, size)
	binary.LittleEndian.PutUint32(p, kind)
	binary.LittleEndian.PutUint32(p[4:], first)
	binary.LittleEndian.PutUint32(p[8:], second)
	return p
}

func initiation(to wgkey.PublicKey, sender uint32) []byte {
	return stamp(header(148, 1, sender, 7), to)
}

func response(to wgkey.PublicKey, sender, receiver uint32) []byte {
	return stamp(header(92, 2, sender, receiver), to)
}
func cookie(receiver uint32) []byte         { return header(64, 3, receiver, 0) }
func data(receiver uint32, size int) []byte { return header(size, 4, receiver, 0) }

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// The world of the unit tests: a center and two clinics that have sessions with the device, and a plain device that has none.
const (
	device = iota
	center
	north
	south
	plain
)

var (
	start    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	atCenter = addr("192.0.2.1:51820")
	atNorth  = addr("198.51.100.1:40000")
	atSouth  = addr("198.51.100.2:40000")
	atPlain  = addr("203.0.113.1:1024")
)

func admission() relay.Admission {
	return relay.Admission{
		Own:     []wgkey.PublicKey{keyOf(device)},
		Members: []relay.Member{{Key: keyOf(center)}, {Key: keyOf(north)}, {Key: keyOf(south)}, {Key: keyOf(plain), Unmanaged: true}},
		Pairs:   [][2]int{{0, 1}, {0, 2}, {3, 0}},
	}
}

// bench is a Table and its clock.
type bench struct {
	*testing.T
	table *relay.Table
	now   time.Time
}

func newBench(t *testing.T, l relay.Limits) *bench {
	t.Helper()
	b := &bench{T: t, table: relay.NewTable(l), now: start}
	if err := b.table.Admit(admission()); err != nil {
		t.Fatal(err)
	}
	b.locate(center, atCenter)
	b.locate(north, atNorth)
	b.locate(south, atSouth)
	return b
}

func (b *bench) locate(member int, at netip.AddrPort) {
	b.table.Locate(b.now, []relay.Place{{Key: keyOf(member), At: at, Handshake: b.now}})
}

// goes wants a packet forwarded.
func (b *bench) goes(from, to netip.AddrPort, p []byte) {
	b.Helper()
	if v := b.table.Packet(b.now, from, p); v.Action != relay.Forward || v.To != to {
		b.Fatalf("%v from %v: %+v, want it to go to %v", p[0], from, v, to)
	}
}

// ends wants a packet dropped for a reason.
func (b *bench) ends(from netip.AddrPort, p []byte, why relay.Reason) {
	b.Helper()
	before := b.table.Counters().Dropped[why]
	v := b.table.Packet(b.now, from, p)
	if v.Action == relay.Hold && v.Look {
		b.table.GiveUp(v.Why)
		v.Action = relay.Drop
	}
	if v.Action != relay.Drop || b.table.Counters().Dropped[why] != before+1 {
		b.Fatalf("%v from %v: %+v, want it dropped as %s; dropped are %v", p[0], from, v, why, b.table.Counters().Dropped)
	}
}

// stays wants a packet left to the device.
func (b *bench) stays(from netip.AddrPort, p []byte) {
	b.Helper()
	if v := b.table.Packet(b.now, from, p); v.Action != relay.Own {
		b.Fatalf("%v from %v: %+v, want it to stay", p[0], from, v)
	}
}

// meet has two members shake hands: from has the index i, to has j.
func (b *bench) meet(from, to int, at, with netip.AddrPort, i, j uint32) {
	b.Helper()
	b.goes(at, with, initiation(keyOf(to), i))
	b.goes(with, at, response(keyOf(from), j, i))
	b.goes(at, with, data(j, 32))
}
