//go:build lab

package gatewaytest

import (
	"strings"
	"testing"
	"time"
)

// TestLabUDPBlocked has a clinic whose network lets nothing out by UDP: its box enrolls, comes up carried over TLS on 443, and an image gets
// through to the center, whose gateway it could otherwise call by UDP only. Then UDP is let out, and the box returns to it.
func TestLabUDPBlocked(t *testing.T) {
	up, down := line()
	n := NewNetwork(t, up, down)
	n.Binary = build(t, n.Dir)
	f := &Fleet{n: n}
	n.towpath(t, n.Center, "coordinator", "init", "--dir", f.dir(), "--host", CenterWAN, "--https-port", "443", "--with-center", "center",
		"--center-lan", CenterLAN, "--center-backend", "userspace")
	f.Serve(t)
	for _, rule := range []string{
		"add table inet noudp", "add chain inet noudp out { type filter hook output priority 10 ; }", "add chain inet noudp in { type filter hook input priority 10 ; }",
		"add rule inet noudp out oifname wan0 meta l4proto udp drop", "add rule inet noudp in iifname wan0 meta l4proto udp drop",
		"add rule inet noudp out oifname wan0 tcp dport 8080 drop", // 443 alone
	} {
		n.Clinic.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}
	archive := n.PACS.Storescp(t, "pacs", "ARCHIVE", 11112)
	f.Admin(t, "site", "add", "clinic-a", "--kind", "clinic")
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", "pass-through")
	f.Admin(t, "allow", "clinic-a", "archive", "--port", "11112")
	a := f.Enroll(t, n.Clinic, "clinic-a")
	a.WaitForService(t, 11112)
	began := time.Now()
	echo := func(when string) {
		t.Helper()
		out := ""
		if !Within(90*time.Second, func() bool {
			var code int
			out, code = n.Modality.Echo(t, ClinicLAN, 11112, "ARCHIVE")
			return code == 0
		}) {
			t.Fatalf("%s, the archive is not reached:\n%s\n%s", when, out, a.Status(t))
		}
		t.Logf("%s, the archive was reached after %v", when, time.Since(began).Round(10*time.Millisecond))
	}
	echo("with UDP blocked")
	if s := a.Status(t); !strings.Contains(s, "UDP is blocked here: carried over TLS on "+CenterWAN+":443 since") {
		t.Errorf("the box says:\n%s", s)
	}
	if out, code := a.Doctor(t); code != 3 || !strings.Contains(out, "warning  coordinator: UDP is dropped on the way; the tunnel is up over TLS on ") {
		t.Errorf("exit code %d; the doctor says:\n%s", code, out)
	}
	files, objects, err := NewPatient().WriteStudy(t.TempDir(), 20, 256)
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if out, code := n.Modality.Store(t, ClinicLAN, 11112, "ARCHIVE", files); code != 0 || archive.Count() != len(objects) {
		t.Errorf("storescu: exit code %d, %d of %d objects arrived:\n%s", code, archive.Count(), len(objects), tail(out, 3000))
	}
	t.Logf("%d objects took %v; the box says:\n%s", len(objects), time.Since(began).Round(time.Millisecond), a.Status(t))
	n.Clinic.Must(t, 10*time.Second, nil, "nft", "delete", "table", "inet", "noudp")
	began = time.Now()
	Eventually(t, 3*time.Minute, "the box returned to UDP", func() bool { return !strings.Contains(a.Status(t), "carried over") })
	echo("with UDP again")
}
