package uapi_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func publicKey(t testing.TB, b byte) wgkey.PublicKey {
	t.Helper()
	k, err := wgkey.ParsePublicKeyHex(strings.Repeat(string([]byte{b}), 64))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRender(t *testing.T) {
	private, err := wgkey.ParsePrivateKeyHex(strings.Repeat("8", 64))
	if err != nil {
		t.Fatal(err)
	}
	shared, err := wgkey.ParsePresharedKeyHex(strings.Repeat("7", 64))
	if err != nil {
		t.Fatal(err)
	}
	moving := netip.MustParsePrefix("100.64.9.0/24")
	got := string(uapi.Render(tunnel.Change{
		PrivateKey: &private,
		ListenPort: new(uint16(51820)),
		Removed:    []wgkey.PublicKey{publicKey(t, '1')},
		Updated: []tunnel.PeerChange{
			{PublicKey: publicKey(t, '2'), AddedIPs: []netip.Prefix{moving}, Endpoint: new(netip.MustParseAddrPort("[2001:db8::1]:7"))},
			{PublicKey: publicKey(t, '3'), RemovedIPs: []netip.Prefix{moving}},
			{PublicKey: publicKey(t, '4'), PresharedKey: new(wgkey.PresharedKey), PersistentKeepalive: new(time.Duration(0))},
		},
		Added: []tunnel.Peer{{
			PublicKey: publicKey(t, '5'), PresharedKey: shared, Endpoint: netip.MustParseAddrPort("192.0.2.1:9"),
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("100.64.5.0/24")}, PersistentKeepalive: 25 * time.Second,
		}, {PublicKey: publicKey(t, '6')}},
	}))
	rep := func(s string) string { return strings.Repeat(s, 64) }
	want := strings.Join([]string{
		"private_key=" + rep("8"), "listen_port=51820",
		"public_key=" + rep("1"), "remove=true",
		"public_key=" + rep("3"), "update_only=true", "allowed_ip=-100.64.9.0/24",
		"public_key=" + rep("2"), "update_only=true", "endpoint=[2001:db8::1]:7", "allowed_ip=100.64.9.0/24",
		"public_key=" + rep("4"), "update_only=true", "preshared_key=" + rep("0"), "persistent_keepalive_interval=0",
		"public_key=" + rep("5"), "preshared_key=" + rep("7"), "endpoint=192.0.2.1:9", "replace_allowed_ips=true",
		"allowed_ip=100.64.5.0/24", "persistent_keepalive_interval=25",
		"public_key=" + rep("6"), "replace_allowed_ips=true", "",
	}, "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if b := uapi.Render(tunnel.Change{}); len(b) != 0 {
		t.Errorf("nothing to do is rendered as %q", b)
	}
}

// A real device, configured by differences only, always reports the last configuration.
func TestRenderOnARealDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := device.NewDevice(tuntest.NewChannelTUN().TUN(), tunneltest.NewNetwork().Bind(netip.MustParseAddr("192.0.2.9")),
			device.NewLogger(device.LogLevelSilent, ""))
		defer d.Close()
		var old tunnel.Config
		for _, next := range rapid.SliceOfN(tunneltest.Configs(), 1, 6).Draw(t, "configs") {
			if err := d.IpcSetOperation(bytes.NewReader(uapi.Render(tunnel.Diff(old, next)))); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := d.IpcGetOperation(&b); err != nil {
				t.Fatal(err)
			}
			s, err := uapi.Parse(&b)
			if err != nil {
				t.Fatal(err)
			}
			if !s.PrivateKey.Equal(next.PrivateKey) || (next.ListenPort != 0 && s.ListenPort != next.ListenPort) {
				t.Fatalf("key or port %d differ from the config", s.ListenPort)
			}
			got := make([]tunnel.Peer, len(s.Peers))
			for i, p := range s.Peers {
				got[i] = tunnel.Peer{
					PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, Endpoint: p.Endpoint, AllowedIPs: p.AllowedIPs,
					PersistentKeepalive: p.PersistentKeepalive,
				}
			}
			if d := cmp.Diff(reported(old, next), got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("peers (-want +got):\n%s", d)
			}
			old = next
			old.ListenPort = s.ListenPort
			for i, p := range old.Peers { // what the device still has counts as configured here
				j := slices.IndexFunc(got, func(g tunnel.Peer) bool { return g.PublicKey == p.PublicKey })
				old.Peers[i].Endpoint = got[j].Endpoint
			}
		}
	})
}

// reported is what a device must say after going from old to next: sorted, whole seconds, endpoints that were cleared still there.
func reported(old, next tunnel.Config) []tunnel.Peer {
	peers := slices.Clone(next.Peers)
	for i, p := range peers {
		peers[i].PersistentKeepalive = tunnel.WholeSeconds(p.PersistentKeepalive)
		peers[i].AllowedIPs = slices.SortedFunc(slices.Values(p.AllowedIPs), netip.Prefix.Compare)
		j := slices.IndexFunc(old.Peers, func(o tunnel.Peer) bool { return o.PublicKey == p.PublicKey })
		if j >= 0 && !p.Endpoint.IsValid() {
			peers[i].Endpoint = old.Peers[j].Endpoint
		}
	}
	slices.SortFunc(peers, func(a, b tunnel.Peer) int { return bytes.Compare(a.PublicKey[:], b.PublicKey[:]) })
	return peers
}

const answer = `private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
listen_port=12912
fwmark=0x20
something_new=1
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33]:51820
last_handshake_time_sec=0
last_handshake_time_nsec=0
protocol_version=1
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
tx_bytes=38333
rx_bytes=2224
allowed_ip=192.168.4.6/32
allowed_ip=10.0.0.0/8
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
errno=0

ignored=after the end
`

func TestParse(t *testing.T) {
	d, err := uapi.Parse(strings.NewReader(answer))
	if err != nil {
		t.Fatal(err)
	}
	if d.ListenPort != 12912 || d.Fwmark != 0x20 || d.PrivateKey.RevealHex()[:4] != "e84b" || len(d.Peers) != 2 {
		t.Fatalf("%+v", d)
	}
	p := d.Peers[0]
	if p.PublicKey.Hex()[:4] != "5840" || p.TxBytes != 38333 || p.RxBytes != 2224 || p.PersistentKeepalive != 111*time.Second ||
		!p.LastHandshake.Equal(time.Unix(1700000000, 5)) || p.Endpoint.String() != "182.122.22.19:3233" || len(p.AllowedIPs) != 2 ||
		p.AllowedIPs[0].String() != "10.0.0.0/8" || !p.PresharedKey.IsZero() {
		t.Errorf("first peer: %+v", p)
	}
	if p := d.Peers[1]; !p.LastHandshake.IsZero() || p.PresharedKey.RevealHex()[:4] != "1885" || p.Endpoint.Addr().String() != "abcd:23::33" {
		t.Errorf("second peer: %+v", p)
	}
}

func TestParseRefuses(t *testing.T) {
	peer := "public_key=" + strings.Repeat("1", 64) + "\n"
	for name, text := range map[string]string{
		"no equals sign": "secretsecret\n",
		"port":           "listen_port=65536\n",
		"private key":    "private_key=secretsecret\n",
		"public key":     "public_key=secretsecret\n",
		"twice":          peer + peer,
		"endpoint":       peer + "endpoint=secretsecret\n",
		"endpoint port":  peer + "endpoint=1.2.3.4:secretsecret\n",
		"allowed IP":     peer + "allowed_ip=secretsecret/32\n",
		"bytes":          peer + "rx_bytes=secretsecret\n",
		"negative":       peer + "tx_bytes=-1\n",
		"handshake":      peer + "last_handshake_time_sec=secretsecret\n",
		"keepalive":      peer + "persistent_keepalive_interval=65536\n",
		"preshared key":  peer + "preshared_key=secretsecret\n",
		"device's error": "errno=-98\n",
	} {
		_, err := uapi.Parse(strings.NewReader(text))
		if !errors.Is(err, uapi.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the value: %v", name, err)
		}
	}
	if _, err := uapi.Parse(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("a line without end is accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer)
	f.Add("public_key=" + strings.Repeat("1", 64) + "\nallowed_ip=::/0\nlast_handshake_time_nsec=9\n")
	f.Add("errno=0\n\n")
	f.Add("listen_port=0x10\n=\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := uapi.Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(d.Peers) > len(text)/64 {
			t.Errorf("%d peers out of %d bytes", len(d.Peers), len(text))
		}
		for i, p := range d.Peers {
			if i > 0 && bytes.Compare(d.Peers[i-1].PublicKey[:], p.PublicKey[:]) >= 0 {
				t.Error("peers are not sorted or not unique")
			}
			for _, a := range p.AllowedIPs {
				if a != a.Masked() {
					t.Errorf("%v is not masked", a)
				}
			}
		}
	})
}
