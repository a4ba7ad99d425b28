package filter_test

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/tunnel/filter"
)

var update = flag.Bool("update", false, "write the golden files")

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func places(list ...string) (as []netip.AddrPort) {
	for _, s := range list {
		as = append(as, netip.MustParseAddrPort(s))
	}
	return as
}

// clinic is a box between a LAN and a router; office one with a single cable; conflict one whose LAN the plan has, too.
func clinic() filter.Ruleset {
	return filter.Ruleset{
		Tunnel: "tow0", Overlay: prefixes("10.201.0.0/16", "10.201.4.0/24", "fd7a:10::/48"), Ports: []uint16{104, 2575, 2762, 11112, 104},
		Listen: []uint16{8080}, LAN: []string{"lan0", "docker0"}, Open: places("10.201.4.1:104", "[fd7a:10::4:1]:2575"),
	}
}

func office() filter.Ruleset {
	r := clinic()
	r.LAN, r.Shared, r.Site, r.Also = nil, []string{"eth0"}, prefixes("10.0.0.0/8", "192.168.0.0/16", "fc00::/7"), prefixes("141.2.0.0/16", "2001:db8:5::/48")
	return r
}

func conflict() filter.Ruleset {
	r := clinic()
	r.Keep, r.Open = prefixes("10.201.77.0/24"), nil
	return r
}

func TestRender(t *testing.T) {
	for name, r := range map[string]filter.Ruleset{"clinic": clinic(), "office": office(), "conflict": conflict()} {
		t.Run(name, func(t *testing.T) {
			got, err := filter.Render(r)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	if err := clinic().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*filter.Ruleset){
		"no tunnel":         func(r *filter.Ruleset) { r.Tunnel = "" },
		"injected name":     func(r *filter.Ruleset) { r.LAN = []string{`a" accept`} },
		"wildcard":          func(r *filter.Ruleset) { r.LAN = []string{"eth*"} },
		"long name":         func(r *filter.Ruleset) { r.Shared = []string{"sixteen-letters-"} },
		"the tunnel is LAN": func(r *filter.Ruleset) { r.LAN = []string{"tow0"} },
		"everything":        func(r *filter.Ruleset) { r.Overlay = prefixes("0.0.0.0/0") },
		"not masked":        func(r *filter.Ruleset) { r.Overlay = prefixes("10.201.0.1/16") },
		"mapped":            func(r *filter.Ruleset) { r.Overlay = prefixes("::ffff:10.201.0.0/112") },
		"port 0":            func(r *filter.Ruleset) { r.Ports = []uint16{0} },
		"place without":     func(r *filter.Ruleset) { r.Open = places("10.201.0.1:0") },
		"too much":          func(r *filter.Ruleset) { r.Ports = make([]uint16, 5000) },
	} {
		r := clinic()
		spoil(&r)
		if err := r.Validate(); !errors.Is(err, filter.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := filter.Render(r); !errors.Is(err, filter.ErrInvalid) {
			t.Errorf("%s is rendered: %v", name, err)
		}
	}
}

func TestEqual(t *testing.T) {
	a, b := clinic(), clinic()
	b.LAN = []string{"docker0", "lan0"}
	b.Overlay = prefixes("fd7a:10::/48", "10.201.0.0/17", "10.201.128.0/17")
	if !a.Equal(b) {
		t.Error("order and nesting make a difference")
	}
	b.Open = b.Open[1:]
	if a.Equal(b) {
		t.Error("another place makes none")
	}
}

// TestTight: while one plan follows another, nothing is let through that not both let through.
func TestTight(t *testing.T) {
	old, next := clinic(), clinic()
	next.Overlay = prefixes("10.202.0.0/16")
	next.Ports = []uint16{104, 999}
	next.LAN = []string{"lan0", "lan1"}
	next.Open = places("10.201.4.1:104", "10.202.0.1:104")
	got := filter.Tight(old, next)
	want := clinic()
	want.Overlay = append(want.Overlay, next.Overlay...)
	want.Ports = append(want.Ports, 999)
	want.LAN = []string{"lan0"}
	want.Open = places("10.201.4.1:104")
	if !got.Equal(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	first := filter.Tight(filter.Ruleset{}, next)
	if len(first.Open) != 0 || len(first.LAN) != 0 || len(first.Overlay) != 1 || len(first.Ports) != 2 {
		t.Errorf("at first: %+v", first)
	}
	if err := first.Validate(); err != nil {
		t.Error(err)
	}
	if text, err := filter.Render(first); err != nil || strings.Contains(text, "10.202.0.1 .") {
		t.Errorf("%v: %s", err, text)
	}
}

// large is a plan of a thousand prefixes that do not touch, and a center with thousands of places.
func large(t *testing.T) filter.Ruleset {
	t.Helper()
	r := clinic()
	for i := range 2000 {
		b := [4]byte{10, byte(i / 250), byte(i % 250), 0}
		r.Overlay = append(r.Overlay, netip.PrefixFrom(netip.AddrFrom4(b), 25))
		for port := range uint16(3) {
			r.Open = append(r.Open, netip.AddrPortFrom(netip.AddrFrom4(b).Next(), 104+port))
		}
	}
	return r
}
