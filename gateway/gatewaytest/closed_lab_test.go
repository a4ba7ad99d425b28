//go:build lab

package gatewaytest

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestLabFailsClosed knocks at addresses of the plan from the clinic's box and LAN, with the gateway running, killed, running again
// and stopped. Nothing addressed to the plan may show on the wide-area side, whatever state the gateway is in.
func TestLabFailsClosed(t *testing.T) {
	up, down := line()
	n := NewNetwork(t, up, down)
	n.Clinic.Sysctl(t, "net/ipv4/ip_forward", "1") // the worst case: the box forwards
	f := NewFleet(t, n)
	f.Admin(t, "site", "add", "clinic-a", "--kind", "clinic")
	f.Admin(t, "service", "add", "archive", "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112")
	f.Admin(t, "allow", "clinic-a", "archive")
	a := f.Enroll(t, n.Clinic, "clinic-a")
	a.WaitForService(t, archivePort)

	knock := func(t *testing.T) {
		t.Helper()
		capture := n.Clinic.Capture(t, "closed-"+strings.ReplaceAll(t.Name(), "/", "-"), "wan0")
		for _, from := range []Namespace{n.Clinic, n.Modality} {
			// The first is nobody's, the second the center's, where a listener waits.
			for _, address := range []string{"10.201.77.77:104", "10.201.0.17:11112"} {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				c, err := from.Dial(ctx, address)
				if err == nil {
					_ = c.Close()
				}
				cancel()
				t.Logf("from %s to %s: %v", from.name, address, err)
			}
			from.Run(t, 10*time.Second, nil, "ping", "-c", "1", "-W", "1", "10.201.77.77")
		}
		// A packet that must be seen, so that an empty capture is no proof.
		n.Clinic.Run(t, 10*time.Second, nil, "ping", "-c", "1", "-W", "1", "198.18.1.1")
		capture.Stop(t)
		traffic, err := ReadCapture(capture.File, EnrollPort)
		if err != nil {
			t.Fatal(err)
		}
		if traffic.OtherCount > 0 || traffic.Neighbors == 0 {
			t.Errorf("on the wide-area side: %d packets that have no business there: %v; the box routes:\n%s", traffic.OtherCount, traffic.Other,
				n.Clinic.Must(t, 10*time.Second, nil, "ip", "route", "show", "table", "all"))
		}
	}
	t.Run("running", knock)
	a.Kill()
	t.Run("killed", knock)
	a.Run(t)
	a.WaitForService(t, archivePort)
	t.Run("running again", knock)
	if !a.Stop(t) {
		t.Error("the gateway did not end in order")
	}
	t.Run("stopped", knock)
}
