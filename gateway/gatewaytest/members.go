//go:build lab

package gatewaytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Laptop is a machine of its own on the internet, far from every site.
func (n *Network) Laptop(t testing.TB) Namespace {
	t.Helper()
	laptop := NewNamespace(t, "laptop", n.Dir)
	connect(t, laptop, "wan0", "198.18.4.2", n.Internet, "w4", "198.18.4.1")
	laptop.IP(t, "route", "add", "default", "via", "198.18.4.1")
	return laptop
}

// Member is what the coordinator says of a node.
type Member struct {
	ID        string `json:"id"`
	Site      string `json:"site"`
	Kind      string `json:"kind"`
	PublicKey string `json:"public_key"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Rotate    string `json:"rotate"`
	Address   string `json:"address"`
	Online    bool   `json:"online"`
}

// Members lists all nodes.
func (f *Fleet) Members(t testing.TB) (list []Member) {
	t.Helper()
	f.decode(t, f.Admin(t, "node", "list", "--json"), &list)
	return list
}

// Member finds a node by its id, or the gateway of a site by that; the zero value if there is none.
func (f *Fleet) Member(t testing.TB, name string) Member {
	t.Helper()
	for _, m := range f.Members(t) {
		if m.ID == name || m.Site == name && m.Kind == "gateway" {
			return m
		}
	}
	return Member{}
}

// GatewayStatus is what the gateway with that state says of itself.
func (f *Fleet) GatewayStatus(t testing.TB, in Namespace, state string) (s struct {
	Tunnel struct {
		Peers []struct {
			Site      string `json:"site"`
			PublicKey string `json:"public_key"`
		} `json:"peers"`
	} `json:"tunnel"`
	Queues []struct {
		Carried int `json:"carried"`
	} `json:"queues"`
	Conditions []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"conditions"`
},
) {
	t.Helper()
	out, _ := in.Run(t, 20*time.Second, []string{"HOME=" + f.n.Dir}, f.n.Binary, "status", "--json", "--state", state)
	f.decode(t, out, &s)
	return s
}

// CenterKnows reports whether the center's gateway has a key.
func (f *Fleet) CenterKnows(t testing.TB, key string) bool {
	t.Helper()
	for _, p := range f.GatewayStatus(t, f.n.Center, filepath.Join(f.dir(), "center")).Tunnel.Peers {
		if p.PublicKey == key {
			return true
		}
	}
	return false
}

// Has reports whether a Condition of a box's holds.
func (b *Box) Has(t testing.TB, code string) bool {
	t.Helper()
	for _, c := range b.f.GatewayStatus(t, b.in, b.state()).Conditions {
		if c.Code == code {
			return true
		}
	}
	return false
}

// Up starts "towpath up" in a namespace.
func (f *Fleet) Up(t testing.TB, in Namespace, name string, args ...string) *Process {
	t.Helper()
	return f.n.start(t, in, name, append([]string{"up", "--state", filepath.Join(f.n.Dir, "state-"+name), "--verbose"}, args...)...)
}

// Pinger measures how long nothing comes through a tunnel.
type Pinger struct{ p *Process }

// pingEvery is how finely a gap is measured.
const pingEvery = 20 * time.Millisecond

// Ping sends an echo request every 20 ms until Gap.
func (n Namespace) Ping(t testing.TB, name, address string) Pinger {
	t.Helper()
	return Pinger{n.Start(t, name, nil, "ping", "-D", "-n", "-i", fmt.Sprint(pingEvery.Seconds()), address)}
}

var pingLine = regexp.MustCompile(`^\[([0-9.]+)\] .*icmp_seq=`)

// Gap ends it, and returns the longest time between two answers and how many there were.
func (p Pinger) Gap(t testing.TB) (gap time.Duration, answers int) {
	t.Helper()
	p.p.Stop(t)
	var last float64
	lines := bufio.NewScanner(strings.NewReader(p.p.Log()))
	for lines.Scan() {
		m := pingLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		at, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		if answers++; answers > 1 {
			gap = max(gap, time.Duration((at-last)*float64(time.Second)))
		}
		last = at
	}
	return gap, answers
}

// Reach tries to connect from a namespace, for two seconds. A connection that is closed at once was turned away, see Kept.
func (n Namespace) Reach(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := n.Dial(ctx, address)
	if err != nil {
		return err
	}
	return Kept(c)
}

// Kept closes a connection to a DICOM service and says if the other end had done so: one that serves waits for the first word
// (PS3.8 §9.1.4: five seconds and more), one that turns away does not.
func Kept(c net.Conn) error {
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("turned away: %w", err)
	}
	return nil
}

// copyDir copies a directory with what is in it, but for sockets.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		a, b := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			copyDir(t, a, b)
			continue
		}
		if !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
