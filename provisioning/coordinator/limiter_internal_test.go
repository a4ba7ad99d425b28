package coordinator

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiterIsBounded(t *testing.T) {
	var l limiter
	now := time.Unix(1e9, 0)
	guesser := remoteOf("203.0.113.1:1")
	for range 3 * failureBurst {
		l.fail(guesser, now)
	}
	if w := l.wait(guesser, now); w != failureRefill {
		t.Errorf("after many failures: wait %s, want %s", w, failureRefill)
	}
	for i := range 3 * maxRemotes {
		now = now.Add(time.Millisecond)
		l.fail(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), now)
		if len(l.remotes) > maxRemotes {
			t.Fatalf("the table has %d entries", len(l.remotes))
		}
	}
	now = now.Add(failureForgets)
	if w := l.wait(guesser, now); w != 0 {
		t.Errorf("after all is forgotten: wait %s", w)
	}
	l.fail(remoteOf("203.0.113.2:1"), now)
	if len(l.remotes) > 2 {
		t.Errorf("forgotten entries stay: %d", len(l.remotes))
	}
}

func TestRemoteOf(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7:4000":          "198.51.100.7/32",
		"198.51.100.7":               "198.51.100.7/32",
		"[::ffff:198.51.100.7]:4000": "198.51.100.7/32",
		"[2001:db8:1:2:3:4:5:6]:1":   "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":           "fe80::/64",
		"@":                          "invalid Prefix",
		"":                           "invalid Prefix",
	} {
		if got := remoteOf(in).String(); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}
