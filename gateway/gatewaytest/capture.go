//go:build lab

package gatewaytest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Capture is a running tcpdump.
type Capture struct {
	File string
	p    *Process
}

// Capture starts to write every packet of a device to a file.
func (n Namespace) Capture(t testing.TB, name, device string) *Capture {
	t.Helper()
	c := &Capture{File: filepath.Join(n.dir, name+".pcap")}
	c.p = n.Start(t, "tcpdump-"+name, nil,
		"tcpdump", "-i", device, "-w", c.File, "-U", "--immediate-mode", "-s", "262144", "-B", "65536", "-Z", "root", "-n")
	Eventually(t, 10*time.Second, "tcpdump listens on "+device, func() bool { return strings.Contains(c.p.Log(), "listening on") })
	return c
}

var droppedPackets = regexp.MustCompile(`(\d+) packets? dropped by kernel`)

// Stop ends the capture. A capture with a gap proves nothing, so one that dropped packets fails the test.
func (c *Capture) Stop(t testing.TB) {
	t.Helper()
	c.p.Stop(t)
	m := droppedPackets.FindStringSubmatch(c.p.Log())
	if m == nil || m[1] != "0" {
		t.Errorf("the capture %s has gaps: %s", filepath.Base(c.File), c.p.Log())
	}
	if info, err := os.Stat(c.File); err != nil || info.Size() <= 24 {
		t.Errorf("the capture %s is empty", filepath.Base(c.File))
	}
}
