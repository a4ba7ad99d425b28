//go:build lab

package gatewaytest

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest/wan"
)

// TestLabBlackHole has a clinic behind a line that carries packets of 1280 bytes, drops larger ones and says nothing: small messages get through
// and images would hang. The box finds out, makes smaller packets, and says so; and images arrive.
func TestLabBlackHole(t *testing.T) {
	n := NewNetwork(t, wan.Link{Delay: 10 * time.Millisecond}, wan.Link{Delay: 10 * time.Millisecond})
	f := NewFleet(t, n)
	for _, rule := range []string{
		"add table inet hole", "add chain inet hole pre { type filter hook prerouting priority -300 ; }",
		"add rule inet hole pre meta l4proto udp meta length > 1280 drop",
	} {
		n.Internet.Must(t, 10*time.Second, nil, append([]string{"nft"}, strings.Fields(rule)...)...)
	}
	archive := n.PACS.Storescp(t, "pacs", "ARCHIVE", 11112)
	f.Admin(t, "site", "add", "clinic-a", "--kind", "clinic")
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", "pass-through")
	f.Admin(t, "allow", "clinic-a", "archive", "--port", "11112")
	a := f.Enroll(t, n.Clinic, "clinic-a")
	began := time.Now()
	if !Within(2*time.Minute, func() bool { return strings.Contains(a.Status(t), "get lost on the way") }) {
		t.Fatalf("the box does not notice:\n%s", a.Status(t))
	}
	t.Logf("noticed after %v", time.Since(began).Round(100*time.Millisecond))
	a.WaitForService(t, 11112)
	Eventually(t, time.Minute, "the box is connected", func() bool { return f.Member(t, "clinic-a").Online })
	if s := a.Status(t); !strings.Contains(s, "MTU 1200") || !strings.Contains(s, "packets of 1280 bytes get lost") {
		t.Errorf("the box says:\n%s", s)
	}
	files, objects, err := NewPatient().WriteStudy(t.TempDir(), 20, 256)
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	if out, code := n.Modality.Store(t, ClinicLAN, 11112, "ARCHIVE", files); code != 0 || archive.Count() != len(objects) {
		t.Errorf("storescu: exit code %d, %d of %d objects arrived:\n%s\n%s", code, archive.Count(), len(objects), tail(out, 3000), a.Status(t))
	}
	t.Logf("%d objects took %v", len(objects), time.Since(sent).Round(time.Millisecond))
}
