package tunnel_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func key(t testing.TB) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k wgkey.PrivateKey) wgkey.PublicKey {
	t.Helper()
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func valid(t testing.TB) tunnel.Config {
	return tunnel.Config{
		PrivateKey: key(t),
		ListenPort: 51820,
		Addresses:  prefixes("100.64.0.1/32", "fd00::1/128"),
		Blackhole:  prefixes("100.64.0.0/10", "fd00::/48"),
		Peers: []tunnel.Peer{
			{
				PublicKey: public(t, key(t)), Endpoint: netip.MustParseAddrPort("192.0.2.1:51820"),
				AllowedIPs: prefixes("100.64.1.0/24", "100.64.1.8/32", "fd00::2/128"), PersistentKeepalive: 25 * time.Second,
			},
			{PublicKey: public(t, key(t)), Next: public(t, key(t)), AllowedIPs: prefixes("100.64.2.0/24", "0.0.0.0/32")},
			{PublicKey: public(t, key(t)), Next: public(t, key(t))},
		},
	}
}

func TestValidate(t *testing.T) {
	if err := valid(t).Validate(); err != nil {
		t.Fatalf("a valid config: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(*tunnel.Config)
		want  string
	}{
		"no key":           {func(c *tunnel.Config) { c.PrivateKey = wgkey.PrivateKey{} }, "no private key"},
		"small MTU":        {func(c *tunnel.Config) { c.MTU = 575 }, "MTU 575 is not between"},
		"large MTU":        {func(c *tunnel.Config) { c.MTU = 65536 }, "MTU 65536 is not between"},
		"negative MTU":     {func(c *tunnel.Config) { c.MTU = -1 }, "MTU -1 is not between"},
		"MTU for IPv6":     {func(c *tunnel.Config) { c.MTU = 1279 }, "needs an MTU of at least 1280"},
		"network address":  {func(c *tunnel.Config) { c.Addresses[0] = netip.MustParsePrefix("100.64.0.1/24") }, "not a host prefix"},
		"zero address":     {func(c *tunnel.Config) { c.Addresses[0] = netip.Prefix{} }, "not a host prefix"},
		"mapped address":   {func(c *tunnel.Config) { c.Addresses[0] = netip.MustParsePrefix("::ffff:1.2.3.4/128") }, "cannot belong"},
		"loopback":         {func(c *tunnel.Config) { c.Addresses[0] = netip.MustParsePrefix("127.0.0.1/32") }, "cannot belong"},
		"address twice":    {func(c *tunnel.Config) { c.Addresses = append(c.Addresses, c.Addresses[0]) }, "is there twice"},
		"blackhole":        {func(c *tunnel.Config) { c.Blackhole[0] = netip.MustParsePrefix("10.0.0.1/8") }, "not a masked prefix"},
		"peer twice":       {func(c *tunnel.Config) { c.Peers[1].PublicKey = c.Peers[0].PublicKey }, "is there twice"},
		"peer without key": {func(c *tunnel.Config) { c.Peers[1].PublicKey = wgkey.PublicKey{} }, "no public key"},
		"own key":          {func(c *tunnel.Config) { c.Peers[1].PublicKey = public(t, c.PrivateKey) }, "device's own key"},
		"own key next":     {func(c *tunnel.Config) { c.Peers[0].Next = public(t, c.PrivateKey) }, "change to the device's own key"},
		"same key next":    {func(c *tunnel.Config) { c.Peers[1].Next = c.Peers[1].PublicKey }, "change to the key that it has"},
		"earlier key next": {func(c *tunnel.Config) { c.Peers[1].Next = c.Peers[0].PublicKey }, "which is another peer's key"},
		"later key next":   {func(c *tunnel.Config) { c.Peers[0].Next = c.Peers[1].PublicKey }, "which is another peer's key"},
		"next key twice": {func(c *tunnel.Config) {
			c.Peers[0].Next = public(t, key(t))
			c.Peers[1].Next = c.Peers[0].Next
		}, "to the same key"},
		"port of endpoint": {func(c *tunnel.Config) { c.Peers[0].Endpoint = netip.MustParseAddrPort("192.0.2.1:0") }, "cannot be sent to"},
		"endpoint inside": {
			func(c *tunnel.Config) { c.Peers[0].Endpoint = netip.MustParseAddrPort("100.64.1.1:51820") }, "inside itself",
		},
		"mapped endpoint inside": {
			func(c *tunnel.Config) { c.Peers[0].Endpoint = netip.MustParseAddrPort("[::ffff:100.64.1.1]:51820") }, "inside itself",
		},
		"negative keepalive": {func(c *tunnel.Config) { c.Peers[0].PersistentKeepalive = -1 }, "persistent keepalive"},
		"long keepalive":     {func(c *tunnel.Config) { c.Peers[0].PersistentKeepalive = 65536 * time.Second }, "persistent keepalive"},
		"unmasked":           {func(c *tunnel.Config) { c.Peers[0].AllowedIPs = prefixes("100.64.1.1/24") }, "not a masked prefix"},
		"zero prefix":        {func(c *tunnel.Config) { c.Peers[0].AllowedIPs = []netip.Prefix{{}} }, "not a masked prefix"},
		"mapped prefix":      {func(c *tunnel.Config) { c.Peers[0].AllowedIPs = prefixes("::ffff:10.0.0.0/104") }, "not a masked prefix"},
		"same prefix":        {func(c *tunnel.Config) { c.Peers[1].AllowedIPs = prefixes("100.64.1.8/32") }, "overlaps"},
		"inner prefix":       {func(c *tunnel.Config) { c.Peers[1].AllowedIPs = prefixes("100.64.1.9/32") }, "overlaps"},
		"outer prefix":       {func(c *tunnel.Config) { c.Peers[1].AllowedIPs = prefixes("100.64.0.0/16") }, "overlaps"},
		"everything":         {func(c *tunnel.Config) { c.Peers[1].AllowedIPs = prefixes("::/0") }, "overlaps"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := valid(t)
			c.spoil(&conf)
			err := conf.Validate()
			if !errors.Is(err, tunnel.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), conf.PrivateKey.RevealText()) {
				t.Error("the error shows the private key")
			}
		})
	}
}

func TestValidateBoundsItsErrors(t *testing.T) {
	c := valid(t)
	for range 10000 {
		c.Peers = append(c.Peers, tunnel.Peer{})
	}
	if n := strings.Count(c.Validate().Error(), "\n"); n > 30 {
		t.Errorf("%d lines of errors", n)
	}
}

// The limit counts the keys to come: until a peer has changed, each of its keys is a peer of the device.
func TestValidateCountsNextKeys(t *testing.T) {
	c := tunnel.Config{PrivateKey: key(t)}
	for i := range tunnel.MaxPeers/2 + 1 {
		c.Peers = append(c.Peers, tunnel.Peer{PublicKey: wgkey.PublicKey{1, byte(i), byte(i >> 8)}, Next: wgkey.PublicKey{2, byte(i), byte(i >> 8)}})
	}
	if err := c.Validate(); !errors.Is(err, tunnel.ErrInvalid) || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("more keys than a device takes: %v", err)
	}
	c.Peers = c.Peers[1:]
	if err := c.Validate(); err != nil {
		t.Errorf("as many keys as a device takes: %v", err)
	}
}

// The overlap check against comparing every pair.
func TestOverlapsAgainstPairs(t *testing.T) {
	keys := []wgkey.PublicKey{public(t, key(t)), public(t, key(t)), public(t, key(t))}
	own := key(t)
	rapid.Check(t, func(t *rapid.T) {
		c := tunnel.Config{PrivateKey: own}
		for _, k := range keys {
			p := tunnel.Peer{PublicKey: k}
			for range rapid.IntRange(0, 4).Draw(t, "prefixes") {
				bits := rapid.IntRange(0, 6).Draw(t, "bits")
				a := netip.AddrFrom4([4]byte{byte(rapid.IntRange(0, 15).Draw(t, "address") << 4)})
				if rapid.Bool().Draw(t, "IPv6") {
					a = netip.AddrFrom16([16]byte{a.As4()[0]})
				}
				p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(a, bits).Masked())
			}
			c.Peers = append(c.Peers, p)
		}
		want := false
		for i, p := range c.Peers {
			for _, o := range c.Peers[i+1:] {
				for _, a := range p.AllowedIPs {
					for _, b := range o.AllowedIPs {
						want = want || a.Overlaps(b)
					}
				}
			}
		}
		if err := c.Validate(); (err != nil) != want {
			t.Fatalf("overlap %v, but Validate says %v", want, err)
		}
	})
}
