package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// FuzzPacket has a table look at anything, from an address that it knows and one that it does not.
func FuzzPacket(f *testing.F) {
	for _, seed := range []struct {
		kind kind
		size int
	}{{initiation, initiationSize}, {response, responseSize}, {cookie, cookieSize}, {transport, transportMin}, {transport, 1500}, {9, 40}} {
		p := make([]byte, seed.size)
		binary.LittleEndian.PutUint32(p, uint32(seed.kind))
		f.Add(p, true)
		f.Add(p[:len(p)-1], false)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at, unknown := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	f.Fuzz(func(t *testing.T, p []byte, known bool) {
		table := NewTable(Limits{})
		a := Admission{Own: []wgkey.PublicKey{{1}}, Members: []Member{{Key: wgkey.PublicKey{2}}, {Key: wgkey.PublicKey{3}, Unmanaged: true}}, Pairs: [][2]int{{0, 1}}}
		if err := table.Admit(a); err != nil {
			t.Fatal(err)
		}
		table.Locate(now, []Place{{Key: wgkey.PublicKey{2}, At: at, Handshake: now}})
		from := unknown
		if known {
			from = at
		}
		m, ok := classify(p)
		v := table.Packet(now, from, p)
		switch {
		case !ok && v.Action != Own:
			t.Errorf("%x is no message and the verdict is %+v", p, v)
		case ok && (m.kind < initiation || m.kind > transport || len(p) < transportMin):
			t.Errorf("%x is taken for %+v", p, m)
		case v.Action == Forward && (m.kind != initiation || from == at || !newFits(p, wgkey.PublicKey{2})):
			t.Errorf("%x is forwarded to %v", p, v.To)
		}
	})
}

func newFits(p []byte, k wgkey.PublicKey) bool {
	m, err := newMACKey(k)
	return err == nil && m.fits(p)
}
