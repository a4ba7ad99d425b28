//go:build lab

package gatewaytest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

// Both clinics have a second LAN with the same addresses, and on it a device at the same one.
const (
	twinLAN    = "192.168.178.0/24"
	twinBox    = "192.168.178.1"
	twinDevice = "192.168.178.20"
)

// twins is the lab with such devices and a running fleet.
type twins struct {
	n                *Network
	f                *Fleet
	a, b             *Box
	lanA, lanB       Namespace
	deviceA, deviceB PACS
	archive          PACS
	mappedA, mappedB netip.Addr // where the devices appear
	studies          int
}

func newTwins(t *testing.T) *twins {
	up, down := line()
	w := &twins{n: NewNetwork(t, up, down)}
	n := w.n
	for _, c := range []struct {
		lan  *Namespace
		role string
		box  Namespace
	}{{&w.lanA, "twin-a", n.Clinic}, {&w.lanB, "twin-b", n.Clinic2}} {
		*c.lan = NewNamespace(t, c.role, n.Dir)
		connect(t, *c.lan, "lan0", twinDevice, c.box, "lan1", twinBox)
		c.lan.IP(t, "route", "add", "default", "via", twinBox)
	}
	w.deviceA, w.deviceB = w.lanA.Storescp(t, "device-a", "CT", 104), w.lanB.Storescp(t, "device-b", "CT", 104)
	w.archive = n.PACS.Storescp(t, "archive", "ARCHIVE", 11112)

	w.f = NewFleet(t, n)
	f := w.f
	for _, clinic := range []string{"a", "b"} {
		f.Admin(t, "site", "add", "clinic-"+clinic, "--kind", "clinic")
		f.Admin(t, "service", "add", "ct-"+clinic, "--site", "clinic-"+clinic, "--dicom", "--ae-title", "CT", "--target", twinDevice+":104", "--mode", "pass-through")
	}
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", "queued")
	f.Admin(t, "allow", "center", "ct-a", "--port", "10401")
	f.Admin(t, "allow", "center", "ct-b", "--port", "10402")
	f.Admin(t, "allow", "clinic-a", "archive", "--port", fmt.Sprint(archivePort))
	f.Admin(t, "allow", "clinic-b", "archive", "--port", fmt.Sprint(archivePort))
	w.a, w.b = f.Enroll(t, n.Clinic, "clinic-a"), f.Enroll(t, n.Clinic2, "clinic-b")
	w.a.WaitForService(t, archivePort)
	w.b.WaitForService(t, archivePort)
	w.mappedA, w.mappedB = w.mapLAN(t, "clinic-a"), w.mapLAN(t, "clinic-b")
	n.Clinic.waitForAddress(t, w.mappedA)
	n.Clinic2.waitForAddress(t, w.mappedB)
	return w
}

// mapLAN maps the LAN that both have and returns where the device is then.
func (w *twins) mapLAN(t *testing.T, site string) netip.Addr {
	t.Helper()
	var r struct {
		Prefix netip.Prefix `json:"prefix"`
	}
	w.f.decode(t, w.f.Admin(t, "plan", "map", site, twinLAN, "--json"), &r)
	a := r.Prefix.Addr().As4()
	a[3] = 20
	return netip.AddrFrom4(a)
}

// waitForAddress returns when something listens at an address.
func (n Namespace) waitForAddress(t testing.TB, a netip.Addr) {
	t.Helper()
	Eventually(t, 30*time.Second, "something listens at "+a.String(), func() bool {
		return n.Must(t, 10*time.Second, nil, "ss", "-Hltn", "src", a.String()) != ""
	})
}

// study writes one that no other is like.
func (w *twins) study(t *testing.T, slices int) (files []string, objects []Object) {
	t.Helper()
	w.studies++
	p := NewPatient()
	p.StudyUID += fmt.Sprintf(".%d", w.studies)
	files, objects, err := p.WriteStudy(t.TempDir(), slices, 64)
	if err != nil {
		t.Fatal(err)
	}
	return files, objects
}

// dials connects and keeps the connection.
func dials(from Namespace, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return from.Dial(ctx, address)
}

// TestLabSameLANTwice has the center reach two devices that have one address, at two clinics that have one LAN: from a machine on its LAN
// through its gateway, and from the gateway's own machine at the mapped address. Each object arrives at the right clinic, and the clinics
// reach nothing of each other.
func TestLabSameLANTwice(t *testing.T) {
	w := newTwins(t)
	n := w.n
	capture := n.Clinic2.Capture(t, "wan-b", "wan0")
	n.Center.waitForPort(t, "the center's way to clinic A", 10401)
	n.Center.waitForPort(t, "the center's way to clinic B", 10402)

	var wantA, wantB []Object
	for _, s := range []struct {
		what string
		from Namespace
		to   string
		port int
		want *[]Object
	}{
		{"to A by the center's LAN", n.PACS, CenterLAN, 10401, &wantA},
		{"to B by the center's LAN", n.PACS, CenterLAN, 10402, &wantB},
		{"to A at its mapped address", n.Center, w.mappedA.String(), 104, &wantA},
		{"to B at its mapped address", n.Center, w.mappedB.String(), 104, &wantB},
	} {
		files, objects := w.study(t, 3)
		if out, code := s.from.Store(t, s.to, s.port, "CT", files); code != 0 {
			t.Fatalf("%s: storescu: exit code %d:\n%s\n%s", s.what, code, tail(out, 2000), w.a.Status(t))
		}
		*s.want = append(*s.want, objects...)
		for clinic, c := range map[string]struct {
			device PACS
			want   []Object
		}{"A": {w.deviceA, wantA}, "B": {w.deviceB, wantB}} {
			if _, missing, extra := Compare(c.want, c.device.Objects()); missing != nil || extra != nil {
				t.Fatalf("after sending %s, the device of clinic %s lacks %v and has too much %v", s.what, clinic, missing, extra)
			}
		}
	}
	boxA := w.a.Address
	for _, d := range []struct {
		why, to string
		from    Namespace
	}{
		{"B's box to A's device", w.mappedA.String() + ":104", n.Clinic2},
		{"B's LAN to A's device", w.mappedA.String() + ":104", w.lanB},
		{"B's box to A's box", boxA + ":22", n.Clinic2},
		{"A's box to B's device", w.mappedB.String() + ":104", n.Clinic},
		{"A's LAN to B's device", w.mappedB.String() + ":104", w.lanA},
		{"A's own LAN to its mapped address", w.mappedA.String() + ":104", w.lanA},
		{"the center's LAN past its gateway", w.mappedA.String() + ":104", n.PACS},
		{"the center to a machine that is no service", w.mappedA.Next().String() + ":104", n.Center},
		{"the center to another port", w.mappedA.String() + ":22", n.Center},
		{"the center to a LAN", twinDevice + ":104", n.Center},
	} {
		if c, err := dials(d.from, d.to); err == nil {
			_ = c.Close()
			t.Errorf("%s: %s is reached", d.why, d.to)
		}
	}
	capture.Stop(t)
	traffic, err := ReadCapture(capture.File, EnrollPort)
	if err != nil {
		t.Fatal(err)
	}
	if traffic.OtherCount > 0 || traffic.WireGuard[4] == 0 {
		t.Errorf("on clinic B's line: %d packets that have no business there, %d of WireGuard's: %v", traffic.OtherCount, traffic.WireGuard[4], traffic.Other)
	}
}

// TestLabRenumbering gives a clinic new addresses while its queue delivers and a connection to the old address is open, and ends the old
// ones. Nothing is lost, nothing comes twice, and the connection lives as long as its address.
func TestLabRenumbering(t *testing.T) {
	w := newTwins(t)
	n, f := w.n, w.f
	var want []Object
	send := func(slices int) {
		t.Helper()
		files, objects := w.study(t, slices)
		if out, code := n.Modality.Store(t, ClinicLAN, archivePort, "ARCHIVE", files); code != 0 {
			t.Fatalf("storescu: exit code %d:\n%s", code, tail(out, 2000))
		}
		want = append(want, objects...)
	}
	send(10)
	ports := n.Clinic.Must(t, 10*time.Second, nil, "ss", "-Hltn", "src", w.a.Address)
	port := ""
	for line := range strings.Lines(ports) {
		local := strings.Fields(line)[3] // address%device:port
		if p := local[strings.LastIndex(local, ":"):]; p != fmt.Sprintf(":%d", wire.TransferPort) {
			port = p
		}
	}
	long, err := dials(n.Center, w.a.Address+port)
	if err != nil {
		t.Fatalf("the center cannot reach clinic A at %s%s: %v", w.a.Address, port, err)
	}
	defer func() { _ = long.Close() }()
	// Half of an association request, so that the other side waits for the rest.
	if _, err := long.Write([]byte{1, 0, 0, 0, 0, 68}); err != nil {
		t.Fatal(err)
	}
	open := func() bool {
		if err := long.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := long.Read(make([]byte, 1))
		timeout, ok := err.(net.Error) //nolint:errorlint // a net.Conn returns it as it is
		return ok && timeout.Timeout()
	}

	send(30)
	var moved struct {
		Nodes []struct {
			Old, New netip.Addr
		} `json:"nodes"`
	}
	f.decode(t, f.Admin(t, "plan", "renumber", "clinic-a", "--yes", "--json", "--keep", "1h"), &moved)
	if len(moved.Nodes) != 1 || moved.Nodes[0].Old.String() != w.a.Address {
		t.Fatalf("moved: %+v", moved)
	}
	send(30)
	next := moved.Nodes[0].New
	n.Clinic.waitForAddress(t, next)
	if !open() {
		t.Error("a connection to the former address was cut although that still holds")
	}
	Eventually(t, 20*time.Second, "the center reaches the new address", func() bool {
		c, err := dials(n.Center, next.String()+port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if c, err := dials(n.Center, w.a.Address+port); err != nil {
		t.Errorf("the former address does not answer: %v", err)
	} else {
		_ = c.Close()
	}
	if out := n.Clinic.Must(t, 10*time.Second, nil, "ip", "route", "get", "10.201.0.1"); !strings.Contains(out, "src "+next.String()) {
		t.Errorf("programs on the box still send from another address: %s", out)
	}
	send(10)

	f.Admin(t, "plan", "renumber", "clinic-a", "--end", "--yes")
	Eventually(t, 20*time.Second, "the former address is gone", func() bool {
		return n.Clinic.Must(t, 10*time.Second, nil, "ss", "-Hltn", "src", w.a.Address) == ""
	})
	if left := n.Clinic.Must(t, 10*time.Second, nil, "ss", "-Htn", "state", "established", "src", w.a.Address); left != "" {
		t.Errorf("connections to an address that is gone go on: %s", left)
	}
	send(10)
	complete := func() bool { _, missing, _ := Compare(want, w.archive.Objects()); return missing == nil }
	if !Within(time.Minute, complete) {
		t.Errorf("not complete; the clinic says:\n%s", w.a.Status(t))
	}
	if _, missing, extra := Compare(want, w.archive.Objects()); missing != nil || extra != nil {
		t.Errorf("of %d objects the archive lacks %v and has too much %v", len(want), missing, extra)
	}
	files, objects := w.study(t, 3)
	if out, code := n.PACS.Store(t, CenterLAN, 10401, "CT", files); code != 0 {
		t.Errorf("the device of the renumbered clinic is not reached: %s", tail(out, 2000))
	}
	if _, missing, extra := Compare(objects, w.deviceA.Objects()); missing != nil || extra != nil {
		t.Errorf("the device lacks %v and has too much %v", missing, extra)
	}
}

// TestLabLANInPlan gives a running box a network that the plan uses. It says so by itself within a minute, and no more when it is gone.
func TestLabLANInPlan(t *testing.T) {
	up, down := line()
	n := NewNetwork(t, up, down)
	f := NewFleet(t, n)
	f.Admin(t, "site", "add", "clinic-a", "--kind", "clinic")
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112")
	f.Admin(t, "allow", "clinic-a", "archive")
	a := f.Enroll(t, n.Clinic, "clinic-a")
	a.WaitForService(t, archivePort)
	says := func() bool { return strings.Contains(a.Status(t), "10.201.99.0/24 of this box overlaps") }
	if says() {
		t.Error("it complains of a network that it does not have")
	}
	n.Clinic.IP(t, "address", "add", "10.201.99.1/24", "dev", "lan0")
	if !Within(time.Minute, says) {
		t.Errorf("it says nothing of a LAN in the plan:\n%s", a.Status(t))
	}
	n.Clinic.IP(t, "address", "del", "10.201.99.1/24", "dev", "lan0")
	if !Within(time.Minute, func() bool { return !says() }) {
		t.Errorf("it goes on about a LAN that is gone:\n%s", a.Status(t))
	}
}
