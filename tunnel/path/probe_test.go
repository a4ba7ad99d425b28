package path_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func pair(t testing.TB) (a, b *path.Channel) {
	t.Helper()
	var keys [2]wgkey.PrivateKey
	var public [2]wgkey.PublicKey
	for i := range keys {
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		if public[i], err = keys[i].Public(); err != nil {
			t.Fatal(err)
		}
	}
	a, err := path.NewChannel(keys[0], public[1])
	if err != nil {
		t.Fatal(err)
	}
	b, err = path.NewChannel(keys[1], public[0])
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func at(d time.Duration) uint64 { return uint64(start.Add(d).UnixMicro()) }

func TestProbe(t *testing.T) {
	a, b := pair(t)
	p := path.Probe{Kind: path.Ping, Sequence: at(0), Echo: 7}
	sealed := a.Seal(p)
	if got, ok := b.Open(sealed, start); !ok || got != p {
		t.Fatalf("opened %+v %v", got, ok)
	}
	if _, ok := b.Open(sealed, start); ok {
		t.Error("a replay is taken")
	}
	if _, ok := a.Open(a.Seal(p), start); ok {
		t.Error("a probe that was sent back is taken")
	}
	_, stranger := pair(t)
	if _, ok := stranger.Open(a.Seal(p), start); ok {
		t.Error("a stranger's probe is taken")
	}
	for i := range sealed {
		forged := a.Seal(path.Probe{Kind: path.Ping, Sequence: at(time.Second)})
		forged[i] ^= 0x40
		if _, ok := b.Open(forged, start); ok {
			t.Errorf("taken with byte %d changed", i)
		}
	}
	for _, kind := range []path.Kind{0, 3} {
		if _, ok := b.Open(a.Seal(path.Probe{Kind: kind, Sequence: at(2 * time.Second)}), start); ok {
			t.Errorf("kind %d is taken", kind)
		}
	}
	for d, want := range map[time.Duration]bool{
		-path.Window - time.Second: false, path.Window + time.Second: false, -path.Window + time.Second: true, path.Window - time.Second: true,
	} {
		if _, ok := b.Open(a.Seal(path.Probe{Kind: path.Pong, Sequence: at(d)}), start); ok != want {
			t.Errorf("a clock that differs by %v: %v", d, ok)
		}
	}
}

// What overtakes is taken once, what is older than the memory never.
func TestProbeReplay(t *testing.T) {
	a, b := pair(t)
	old := a.Seal(path.Probe{Kind: path.Ping, Sequence: at(0)})
	if _, ok := b.Open(old, start); !ok {
		t.Fatal("refused")
	}
	for i := 400; i > 0; i-- {
		// Pairs overtake each other.
		n := at(time.Duration((402-i)^1) * time.Millisecond)
		if _, ok := b.Open(a.Seal(path.Probe{Kind: path.Ping, Sequence: n}), start); !ok {
			t.Fatalf("%d is refused", i)
		}
	}
	if _, ok := b.Open(old, start); ok {
		t.Error("a replay is taken once it is forgotten")
	}
}

// No WireGuard message is a probe, whatever its length.
func TestProbeIsNoWireGuard(t *testing.T) {
	a, _ := pair(t)
	if !path.IsProbe(a.Seal(path.Probe{Kind: path.Ping})) {
		t.Error("a probe is none")
	}
	if kind := binary.LittleEndian.Uint32(a.Seal(path.Probe{Kind: path.Ping})); kind <= 4 {
		t.Errorf("type %d is WireGuard's", kind)
	}
	for kind := range byte(5) {
		for _, n := range []int{0, 3, 4, 32, path.ProbeSize, 64, 92, 148} {
			p := make([]byte, n)
			if n > 0 {
				p[0] = kind
			}
			if path.IsProbe(p) {
				t.Errorf("type %d of %d bytes is taken for a probe", kind, n)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	a, b := pair(f)
	f.Add(a.Seal(path.Probe{Kind: path.Ping, Sequence: at(0)}))
	f.Add([]byte("twp\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, stranger := pair(t)
		before := bytes.Clone(p)
		if _, ok := stranger.Open(p, start); ok {
			t.Error("taken without the key")
		}
		_, _ = b.Open(p, start)
		if !bytes.Equal(p, before) {
			t.Error("the packet was changed")
		}
	})
}
