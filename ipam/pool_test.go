package ipam

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestCheckPool(t *testing.T) {
	for _, tt := range []struct{ pool, meets, says string }{
		{"10.64.0.0/10", "", ""},
		{"10.0.0.0/8", "", ""},
		{"172.16.0.0/16", "", ""},
		{"fd12:3456:789a::/48", "", ""},
		{"fd12:3456:789a:1::/64", "", ""},
		{"100.64.0.0/16", "100.64.0.0/10", "RFC 6598"},
		{"100.0.0.0/8", "100.64.0.0/10", "RFC 6598"},
		{"127.1.0.0/16", "127.0.0.0/8", "loopback"},
		{"169.254.0.0/20", "169.254.0.0/16", "link-local"},
		{"172.17.0.0/16", "172.17.0.0/16", "Docker"},
		{"172.18.0.0/16", "172.18.0.0/15", "Docker"},
		{"172.31.0.0/16", "172.24.0.0/13", "Docker"},
		{"172.16.0.0/12", "172.17.0.0/16", "Docker"},
		{"192.168.178.0/24", "192.168.0.0/16", "routers"},
		{"192.0.2.0/25", "192.0.2.0/24", "documentation"},
		{"198.51.100.0/24", "198.51.100.0/24", "documentation"},
		{"203.0.113.0/24", "203.0.113.0/24", "documentation"},
		{"198.18.0.0/16", "198.18.0.0/15", "benchmarks"},
		{"224.0.0.0/8", "224.0.0.0/4", "multicast"},
		{"240.0.0.0/8", "240.0.0.0/4", "reserved"},
		{"0.0.0.0/16", "0.0.0.0/8", "this network"},
		{"8.8.0.0/16", "", "public"},
		{"11.0.0.0/8", "", "public"},
		{"10.0.0.0/7", "", "public"},
		{"2a00::/16", "", "public"},
		{"2001:db8:1::/48", "2001:db8::/32", "documentation"},
		{"3fff::/32", "3fff::/20", "documentation"},
		{"fe80::/64", "fe80::/10", "link-local"},
		{"fec0::/48", "fec0::/10", "site-local"},
		{"ff02::/16", "ff00::/8", "multicast"},
		{"fc00::/48", "fc00::/8", "RFC 4193"},
		{"fc00::/7", "fc00::/8", "RFC 4193"},
		{"::1/128", "::/8", "loopback"},
		{"64:ff9b::/96", "64:ff9b::/32", "translation"},
		{"2002::/16", "2002::/16", "6to4"},
		{"2001::/32", "2001::/32", "Teredo"},
		{"100::/64", "100::/64", "discarded"},
		{"fd00::/8", "", "random"},
	} {
		t.Run(tt.pool, func(t *testing.T) {
			err := CheckPool(pfx(tt.pool), false)
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*UnsuitableError](err)
			if !ok || e.Prefix != pfx(tt.pool) || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), tt.pool) {
				t.Errorf("got %v, want an UnsuitableError about %q", err, tt.says)
			} else if tt.meets != "" && e.Meets != pfx(tt.meets) || tt.meets == "" && e.Meets.IsValid() {
				t.Errorf("it meets %v, want %q", e.Meets, tt.meets)
			}
			if err := CheckPool(pfx(tt.pool), true); err != nil {
				t.Errorf("forced: %v", err)
			}
		})
	}
	for _, bad := range []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8), pfx("0.0.0.0/0"), pfx("::/0")} {
		if err := CheckPool(bad, true); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v forced: %v, want ErrMalformed", bad, err)
		}
	}
}

func TestRandomULA(t *testing.T) {
	p, err := RandomULA(bytes.NewReader([]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xff}))
	if err != nil || p != pfx("fd12:3456:789a::/48") {
		t.Errorf("got %v, %v", p, err)
	}
	if err := CheckPool(p, false); err != nil {
		t.Error(err)
	}
	if _, err := RandomULA(bytes.NewReader([]byte{1, 2, 3, 4})); err == nil {
		t.Error("too little randomness was enough")
	}
}

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{"10.64.0.0/10": "10.64.0.0/10", " fd00:0::/48\n": "fd00::/48", "10.0.0.1/32": "10.0.0.1/32"} {
		if p, err := ParsePrefix(in); err != nil || p != pfx(want) {
			t.Errorf("ParsePrefix(%q) = %v, %v", in, p, err)
		}
	}
	for in, says := range map[string]string{
		"": "such as", "10.0.0.0": "10.0.0.0/32", "fe80::1%eth0": "fe80::1/128", "10.0.0.1/8": "10.0.0.0/8", "10.0.0.0/33": "such as",
		"10.0.0.0/08": "such as", "::ffff:10.0.0.0/104": "write it as IPv4", "10.64/10": "such as", strings.Repeat("1", 100): "longer",
	} {
		if _, err := ParsePrefix(in); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), says) {
			t.Errorf("ParsePrefix(%q) = %v, want ErrMalformed with %q", in, err, says)
		}
	}
}

// FuzzParsePrefix wants whatever is taken to be written back as the same prefix and to be usable by the rest of the package.
func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"10.64.0.0/10", "fd00::/48", "10.0.0.1/8", "::ffff:1.2.3.4/128", "fe80::1%eth0/64", "", "/", "1/1", "::/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrefix(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%q: %v is not ErrMalformed", s, err)
			}
			return
		}
		if q, err := ParsePrefix(p.String()); err != nil || q != p {
			t.Errorf("%q is %v, which is read back as %v, %v", s, p, q, err)
		}
		if blockOf(p).prefix(FamilyOf(p)) != p {
			t.Errorf("%v is lost on the way through a block", p)
		}
		if p.Bits() == 0 {
			return
		}
		space, err := NewSpace(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := space.Allocate(p.Addr().BitLen()); err != nil || got.Addr() != p.Addr() {
			t.Errorf("the first address of %v is %v, %v", p, got, err)
		}
	})
}
