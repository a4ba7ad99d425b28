//go:build lab

package gatewaytest

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// The lab's addresses. Both clinics have the same LAN on purpose.
const (
	ModalityAddr = "10.10.1.2"
	ClinicLAN    = "10.10.1.1"
	ClinicWAN    = "198.18.1.2"
	Clinic2WAN   = "198.18.3.2"
	CenterWAN    = "198.18.2.2"
	CenterLAN    = "10.20.1.1"
	PACSAddr     = "10.20.1.2"
)

// EnrollPort is the coordinator's HTTP port.
const EnrollPort = 8080

// Network is the whole lab.
type Network struct {
	Modality, Clinic, Clinic2, Internet, Center, PACS Namespace
	// WAN stands on the line between the first clinic and the center.
	WAN *wan.Emulator
	// Dir holds logs, captures and state; it is kept if LAB_KEEP names a folder for it.
	Dir string
	// Binary is the towpath program, built for this run by NewFleet.
	Binary string
}

// NewNetwork builds the lab. It needs root.
func NewNetwork(t testing.TB, up, down wan.Link) *Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	Sweep(t)
	n := &Network{Dir: t.TempDir()}
	if keep := os.Getenv("LAB_KEEP"); keep != "" {
		dir, err := os.MkdirTemp(keep, "run-") //nolint:usetesting // kept on purpose
		if err != nil {
			t.Fatal(err)
		}
		n.Dir = dir
	}
	for _, m := range []struct {
		ns   *Namespace
		role string
	}{{&n.Modality, "mod"}, {&n.Clinic, "clinic"}, {&n.Clinic2, "clinic2"}, {&n.Internet, "net"}, {&n.Center, "center"}, {&n.PACS, "pacs"}} {
		*m.ns = NewNamespace(t, m.role, n.Dir)
	}
	connect(t, n.Modality, "lan0", ModalityAddr, n.Clinic, "lan0", ClinicLAN)
	connect(t, n.Clinic, "wan0", ClinicWAN, n.Internet, "w1", "198.18.1.1")
	connect(t, n.Clinic2, "wan0", Clinic2WAN, n.Internet, "w3", "198.18.3.1")
	connect(t, n.Center, "wan0", CenterWAN, n.Internet, "w2", "198.18.2.1")
	connect(t, n.Center, "lan0", CenterLAN, n.PACS, "lan0", PACSAddr)
	n.Clinic2.IP(t, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0p")
	n.Clinic2.IP(t, "address", "add", ClinicLAN+"/24", "dev", "lan0")
	n.Clinic2.IP(t, "link", "set", "lan0p", "up")
	n.Clinic2.IP(t, "link", "set", "lan0", "up")

	// Modality and PACS route everything to the gateways: what leaks, leaks in plain sight. The gateways do not forward.
	n.Modality.IP(t, "route", "add", "default", "via", ClinicLAN)
	n.PACS.IP(t, "route", "add", "default", "via", CenterLAN)
	n.Clinic.IP(t, "route", "add", "default", "via", "198.18.1.1")
	n.Clinic2.IP(t, "route", "add", "default", "via", "198.18.3.1")
	n.Center.IP(t, "route", "add", "default", "via", "198.18.2.1")
	n.Internet.Sysctl(t, "net/ipv4/ip_forward", "1")

	line, err := wan.Open(wan.Config{
		Namespace: n.Internet.Path(), Device: "line",
		// The LANs belong to the sides too, for what leaks.
		Left:  wan.Side{Device: "w1", Prefixes: prefixes("198.18.1.0/24", "10.10.1.0/24")},
		Right: wan.Side{Device: "w2", Prefixes: prefixes("198.18.2.0/24", "10.20.1.0/24")},
		Up:    up, Down: down,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.WAN = line
	t.Cleanup(func() { _ = line.Close() })
	return n
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// connect joins two namespaces with a cable. Offloads of the wide-area side are off, so that a packet is what a line carries.
func connect(t testing.TB, a Namespace, devA, addrA string, b Namespace, devB, addrB string) {
	t.Helper()
	mustRun(t, "ip", "link", "add", devA, "netns", a.name, "type", "veth", "peer", "name", devB, "netns", b.name)
	for _, end := range []struct {
		ns        Namespace
		dev, addr string
	}{{a, devA, addrA}, {b, devB, addrB}} {
		end.ns.IP(t, "address", "add", end.addr+"/24", "dev", end.dev)
		end.ns.IP(t, "link", "set", end.dev, "up")
		if end.dev != "lan0" {
			end.ns.Must(t, 10*time.Second, nil, "ethtool", "-K", end.dev, "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
		}
	}
}

// build compiles the program once, without cgo as the Makefile does.
func build(t testing.TB, dir string) string {
	t.Helper()
	root := moduleRoot(t)
	binary := filepath.Join(dir, "towpath")
	t.Setenv("CGO_ENABLED", "0")
	mustRun(t, "go", "build", "-C", root, "-buildvcs=false", "-o", binary, "./cmd/towpath")
	return binary
}

// moduleRoot walks up from the folder of the test to the one with go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// Samples are the paths of the DICOM sample files, or none.
func Samples(t testing.TB) []string {
	t.Helper()
	dir := os.Getenv("TOWPATH_SAMPLES")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "..", "shared", "samples")
	}
	files, err := filepath.Glob(filepath.Join(dir, "dicom", "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// towpath runs a command of the program that has to succeed, and returns what it printed.
func (n *Network) towpath(t testing.TB, in Namespace, args ...string) string {
	t.Helper()
	return strings.TrimSpace(in.Must(t, time.Minute, []string{"HOME=" + n.Dir}, append([]string{n.Binary}, args...)...))
}

// start starts the program as if the namespace were a machine of its own: with its own folder for WireGuard's sockets.
func (n *Network) start(t testing.TB, in Namespace, name string, args ...string) *Process {
	t.Helper()
	shell := `mkdir -p /run/wireguard && mount -t tmpfs none /run/wireguard && exec "$0" "$@"`
	return in.Start(t, name, []string{"HOME=" + n.Dir}, append([]string{"sh", "-c", shell, n.Binary}, args...)...)
}
