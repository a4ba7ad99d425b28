package tunneltest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Configs generates valid configurations out of a small world, so that consecutive ones have much in common: the same few keys,
// endpoints and prefixes, which move from peer to peer.
func Configs() *rapid.Generator[tunnel.Config] {
	return rapid.Custom(func(t *rapid.T) tunnel.Config {
		c := tunnel.Config{
			PrivateKey: privateKey(rapid.SampledFrom([]string{"own", "own", "own", "other"}).Draw(t, "private key")),
			ListenPort: rapid.SampledFrom([]uint16{0, 0, 51820, 51821}).Draw(t, "port"),
		}
		names := rapid.Permutation([]string{"a", "b", "c", "d", "e"}).Draw(t, "peers")
		for _, name := range names[:rapid.IntRange(0, len(names)).Draw(t, "number of peers")] {
			key, err := privateKey(name).Public()
			if err != nil {
				t.Fatal(err)
			}
			p := tunnel.Peer{
				PublicKey: key,
				Endpoint: rapid.SampledFrom([]netip.AddrPort{
					{}, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:2"),
				}).Draw(t, "endpoint"),
				PersistentKeepalive: rapid.SampledFrom([]time.Duration{
					0, 300 * time.Millisecond, 25 * time.Second, 25400 * time.Millisecond, tunnel.MaxKeepalive,
				}).Draw(t, "keepalive"),
			}
			if s := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "preshared key"); s != "" {
				p.PresharedKey = presharedKey(s)
			}
			c.Peers = append(c.Peers, p)
		}
		for _, s := range []string{
			"100.64.0.1/32", "100.64.0.2/32", "100.64.0.0/30", "10.0.0.0/8", "10.1.0.0/16", "fd00::/64", "fd00::1/128", "2001:db8:1::/48",
		} {
			add(t, &c, netip.MustParsePrefix(s))
		}
		return c
	})
}

// add gives the prefix to some peer, or none, unless another one has a part of it.
func add(t *rapid.T, c *tunnel.Config, prefix netip.Prefix) {
	i := rapid.IntRange(-1, len(c.Peers)-1).Draw(t, "owner of "+prefix.String())
	if i < 0 {
		return
	}
	for j, p := range c.Peers {
		for _, a := range p.AllowedIPs {
			if i != j && a.Overlaps(prefix) {
				return
			}
		}
	}
	c.Peers[i].AllowedIPs = append(c.Peers[i].AllowedIPs, prefix)
}

func privateKey(name string) wgkey.PrivateKey {
	sum := sha256.Sum256([]byte("private key of " + name))
	sum[0] &= 248
	sum[31] = sum[31]&127 | 64
	k, err := wgkey.ParsePrivateKeyHex(hex.EncodeToString(sum[:]))
	if err != nil {
		panic(err) // 32 bytes always parse
	}
	return k
}

func presharedKey(name string) wgkey.PresharedKey {
	sum := sha256.Sum256([]byte("preshared key " + name))
	k, err := wgkey.ParsePresharedKeyHex(hex.EncodeToString(sum[:]))
	if err != nil {
		panic(err)
	}
	return k
}
