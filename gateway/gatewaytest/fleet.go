//go:build lab

package gatewaytest

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Fleet runs the towpath program in the lab: the coordinator with the center's gateway in the center, gateways in the clinics.
type Fleet struct {
	n      *Network
	server *Process
}

// NewFleet builds the program, makes a network with it and starts the usual small set-up: coordinator and center gateway in one process.
func NewFleet(t testing.TB, n *Network) *Fleet {
	t.Helper()
	n.Binary = build(t, n.Dir)
	f := &Fleet{n: n}
	n.towpath(t, n.Center, "coordinator", "init", "--dir", f.dir(), "--host", CenterWAN, "--with-center", "center",
		"--center-lan", CenterLAN, "--center-backend", "userspace")
	f.Serve(t)
	return f
}

func (f *Fleet) dir() string { return filepath.Join(f.n.Dir, "coordinator") }

// Serve starts the coordinator and the center's gateway.
func (f *Fleet) Serve(t testing.TB) {
	t.Helper()
	f.server = f.n.start(t, f.n.Center, "coordinator", "coordinator", "serve", "--dir", f.dir())
	f.n.Center.waitForPort(t, "the coordinator", EnrollPort)
}

// Admin runs an operator's command at the coordinator.
func (f *Fleet) Admin(t testing.TB, args ...string) string {
	t.Helper()
	return f.n.towpath(t, f.n.Center, append(args, "--dir", f.dir())...)
}

// Box is an enrolled gateway.
type Box struct {
	f       *Fleet
	in      Namespace
	name    string
	Address string // on the overlay
	Node    string
	*Process
}

// Enroll makes a namespace the gateway of a site and starts it.
func (f *Fleet) Enroll(t testing.TB, in Namespace, site string) *Box {
	t.Helper()
	b := f.Join(t, in, site, f.Token(t, "token", "new", "--site", site))
	b.Run(t)
	return b
}

// Token runs a command that makes a token and returns its text.
func (f *Fleet) Token(t testing.TB, command ...string) string {
	t.Helper()
	var token struct {
		Text string `json:"text"`
	}
	f.decode(t, f.Admin(t, append(command, "--json")...), &token)
	return token.Text
}

// Join enrolls a box, with state of its own under that name, and does not start it.
func (f *Fleet) Join(t testing.TB, in Namespace, name, token string) *Box {
	t.Helper()
	b := &Box{f: f, in: in, name: name}
	var enrolled struct {
		Address string `json:"address"`
		Node    string `json:"node"`
	}
	f.decode(t, f.n.towpath(t, in, "enroll", "--state", b.state(), "--json", token), &enrolled)
	b.Address, b.Node = enrolled.Address, enrolled.Node
	return b
}

func (b *Box) state() string { return filepath.Join(b.f.n.Dir, "state-"+b.name) }

// Run starts the gateway, or starts it again. Further flags come last.
func (b *Box) Run(t testing.TB, flags ...string) {
	t.Helper()
	b.Process = b.f.n.start(t, b.in, "gateway-"+b.name,
		append([]string{"gateway", "--state", b.state(), "--backend", "userspace", "--lan", ClinicLAN}, flags...)...)
}

// Status is what the gateway says of itself.
func (b *Box) Status(t testing.TB) string {
	t.Helper()
	out, _ := b.in.Run(t, 20*time.Second, []string{"HOME=" + b.f.n.Dir}, b.f.n.Binary, "status", "--state", b.state())
	return out
}

// Doctor is what "towpath doctor" says on the box, and its exit code.
func (b *Box) Doctor(t testing.TB) (string, int) {
	t.Helper()
	return b.in.Run(t, time.Minute, []string{"HOME=" + b.f.n.Dir}, b.f.n.Binary, "doctor", "--state", b.state())
}

// WaitForService returns when the gateway listens on a LAN port.
func (b *Box) WaitForService(t testing.TB, port int) {
	t.Helper()
	if !Within(40*time.Second, func() bool { return b.in.listens(port) }) {
		t.Fatalf("%s does not offer port %s on its LAN; it says:\n%s", b.name, strconv.Itoa(port), b.Status(t))
	}
}

func (f *Fleet) decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("read the program's answer: %v", err)
	}
}
