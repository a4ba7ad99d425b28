//go:build lab

package gatewaytest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lockLab is two clinics and a center, with a box that forwards: the worst case.
type lockLab struct {
	n     *Network
	f     *Fleet
	a, b  *Box
	files []string
	p     Patient
}

func newLockLab(t *testing.T) *lockLab {
	up, down := line()
	n := NewNetwork(t, up, down)
	w := &lockLab{n: n, p: NewPatient()}
	n.PACS.Storescp(t, "storescp", "ARCHIVE", 11112)
	for _, ns := range []Namespace{n.Clinic, n.Clinic2, n.Center} {
		ns.Sysctl(t, "net/ipv4/ip_forward", "1")
	}
	Link6(t, n.Clinic, "wan0", n.Internet, "w1")
	Link6(t, n.Modality, "lan0", n.Clinic, "lan0")
	n.Clinic.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	var err error
	if w.files, _, err = w.p.WriteStudy(t.TempDir(), 60, 512); err != nil {
		t.Fatal(err)
	}
	w.f = NewFleet(t, n)
	w.f.Admin(t, "plan", "pool", "fd7a:10::/48", "--force")
	for _, site := range []string{"clinic-a", "clinic-b"} {
		w.f.Admin(t, "site", "add", site, "--kind", "clinic")
	}
	for service, mode := range map[string]string{"archive": "queued", "direct": "pass-through"} {
		w.f.Admin(t, "service", "add", service, "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", mode)
	}
	w.f.Admin(t, "service", "add", "kis-b", "--site", "clinic-b", "--hl7", "--target", "10.10.1.9:2575")
	w.f.Admin(t, "allow", "center", "kis-b", "--port", strconv.Itoa(resultPort))
	for _, site := range []string{"clinic-a", "clinic-b"} {
		w.f.Admin(t, "allow", site, "archive", "--port", strconv.Itoa(archivePort))
		w.f.Admin(t, "allow", site, "direct", "--port", strconv.Itoa(directPort))
	}
	w.a, w.b = w.f.Enroll(t, n.Clinic, "clinic-a"), w.f.Enroll(t, n.Clinic2, "clinic-b")
	w.ready(t)
	w.b.WaitForService(t, directPort)
	return w
}

// ready waits until a C-ECHO comes through from the first clinic.
func (w *lockLab) ready(t *testing.T) {
	t.Helper()
	w.a.WaitForService(t, directPort)
	out := ""
	if !Within(40*time.Second, func() (ok bool) {
		var code int
		out, code = w.n.Modality.Echo(t, ClinicLAN, directPort, "ARCHIVE")
		return code == 0
	}) {
		t.Fatalf("no C-ECHO: %s\n%s", out, w.a.Status(t))
	}
}

// watch captures the clinic's wide-area side while f runs, and returns what was there besides the tunnel.
func (w *lockLab) watch(t *testing.T, f func()) (Traffic, *Capture) {
	t.Helper()
	c := w.n.Clinic.Capture(t, "locks-"+strings.ReplaceAll(strings.ReplaceAll(t.Name(), "/", "-"), ",", ""), "wan0")
	f()
	// A packet that must be seen, so that an empty capture is no proof.
	w.n.Clinic.Run(t, 10*time.Second, nil, "ping", "-c", "1", "-W", "1", "198.18.1.1")
	c.Stop(t)
	traffic, err := ReadCapture(c.File, EnrollPort)
	if err != nil {
		t.Fatal(err)
	}
	if traffic.Neighbors == 0 {
		t.Error("the capture missed a packet that was there")
	}
	return traffic, c
}

// clean fails the test if anything but the tunnel was outside, or the patient.
func (w *lockLab) clean(t *testing.T, traffic Traffic, c *Capture) {
	t.Helper()
	if traffic.OtherCount > 0 {
		t.Errorf("%d packets on the wide-area side have no business there: %v", traffic.OtherCount, traffic.Other)
	}
	hits, err := w.p.Canary().SearchFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hits {
		t.Errorf("on the wide-area side: the %s", h)
	}
}

// study sends a study straight through, lets something happen in the middle of it, and looks at the line.
func (w *lockLab) study(t *testing.T, name string, port int, happen func()) {
	t.Helper()
	traffic, c := w.watch(t, func() {
		before, _ := w.n.WAN.Stats()
		args := []string{"storescu", "-R", "-to", "5", "-ta", "5", "-td", "5", "-aet", "MODALITY", "-aec", "ARCHIVE", ClinicLAN, strconv.Itoa(port)}
		p := w.n.Modality.Start(t, "storescu-"+name, noDelay(), append(args, w.files...)...)
		Eventually(t, 30*time.Second, "the study is on its way", func() bool {
			now, _ := w.n.WAN.Stats()
			return now.Bytes-before.Bytes > 2<<20
		})
		happen()
		Within(5*time.Second, func() bool { return p.ended() }) // what it tries now must not get out
		p.Stop(t)
	})
	w.clean(t, traffic, c)
	if traffic.WireGuard[4] < 500 {
		t.Errorf("the study was not on its way: %+v", traffic)
	}
}

// TestLabLocks tries every lock alone, everything that can happen to the tunnel in the middle of a study, and the way from one clinic to
// another.
func TestLabLocks(t *testing.T) {
	w := newLockLab(t)
	whole := t
	t.Run("clinics apart", w.clinicsApart)
	t.Run("capture", w.capture)
	t.Run("device removed", func(t *testing.T) {
		w.study(t, "removed", directPort, func() { w.n.Clinic.IP(t, "link", "delete", "tow0") })
		if got := w.n.Clinic.Locks(t); len(got) != 2 {
			t.Errorf("locks %v", got)
		}
		w.ready(t) // the gateway makes it anew
	})
	t.Run("killed", func(t *testing.T) {
		w.study(t, "killed", directPort, w.a.Kill)
		w.held(t, 2)
	})
	t.Run("plan lost", func(t *testing.T) {
		plan := filepath.Join(w.a.state(), "netmap.json")
		saved, err := os.ReadFile(plan)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(plan); err != nil {
			t.Fatal(err)
		}
		w.a.Run(whole)
		Eventually(t, 20*time.Second, "a gateway without a plan gives up", w.a.ended)
		w.held(t, 2)
		if err := os.WriteFile(plan, saved, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("firewall alone", w.firewallAlone)
	t.Run("blackhole alone", w.blackholeAlone)
	t.Run("none", w.none)
	t.Run("network alone", func(t *testing.T) { w.networkAlone(t, whole) })
	t.Run("netstack", func(t *testing.T) { w.netstack(t, whole) })
	t.Run("stopped and given back", func(t *testing.T) { w.giveBack(t, whole) })
}

// held knocks at the plan with as many of the machine's own locks as there should be. The programs that knock are bound to nothing: they are
// what a proxy would be without the first lock.
func (w *lockLab) held(t *testing.T, locks int) {
	t.Helper()
	if got := w.n.Clinic.Locks(t); len(got) != locks {
		t.Errorf("locks %v, want %d", got, locks)
	}
	traffic, c := w.watch(t, func() {
		for _, from := range []Namespace{w.n.Clinic, w.n.Modality} {
			from.Knock(t, nobody4, w.f.Member(t, "center").Address, nobody6)
		}
	})
	w.clean(t, traffic, c)
}

// ports calls the clinical ports of somebody on the internet, and an ordinary one from an address of the overlay.
func (w *lockLab) ports(t *testing.T) {
	t.Helper()
	for _, port := range []string{"104", "11112", "2575", "2762"} {
		if w.n.Clinic.try("tcp", "198.18.1.1:"+port, "") {
			t.Errorf("port %s of the internet answers", port)
		}
		w.n.Clinic.try("tcp", "[fe80::b%wan0]:"+port, "")
	}
	w.n.Clinic.IP(t, "address", "add", w.a.Address+"/32", "dev", "lo")
	w.n.Clinic.try("tcp", "198.18.1.1:80", w.a.Address)
	w.n.Clinic.IP(t, "address", "delete", w.a.Address+"/32", "dev", "lo")
}

func (w *lockLab) firewallAlone(t *testing.T) {
	w.n.Clinic.Unlock(t, "blackhole")
	w.held(t, 1)
	traffic, c := w.watch(t, func() { w.ports(t) })
	w.clean(t, traffic, c)
	w.a.Run(t)
	w.ready(t)
	w.a.Kill() // both are back
}

func (w *lockLab) blackholeAlone(t *testing.T) {
	w.n.Clinic.Unlock(t, "firewall")
	w.held(t, 1)
}

// none shows that the lab would see it: without any lock all of it is on the line.
func (w *lockLab) none(t *testing.T) {
	w.n.Clinic.Unlock(t, "blackhole", "firewall")
	traffic, _ := w.watch(t, func() {
		for _, from := range []Namespace{w.n.Clinic, w.n.Modality} {
			from.Knock(t, nobody4, nobody6)
		}
		w.ports(t)
	})
	// For each of the two that knock: four ports of TCP, UDP and a ping, in two families; and then five for the ports.
	if traffic.OtherCount < 2*6*2+5 {
		t.Errorf("without a lock only %d packets are seen: %v", traffic.OtherCount, traffic.Other)
	}
}

// networkAlone: the proxy's own door, without the other two locks, while its device goes in the middle of a study, and the queue tries on.
func (w *lockLab) networkAlone(t, whole *testing.T) {
	w.a.Run(whole, "--no-firewall")
	w.ready(t)
	w.n.Clinic.Unlock(t, "blackhole")
	w.study(t, "network", directPort, func() {
		w.n.Clinic.IP(t, "link", "delete", "tow0")
		w.n.Modality.Run(t, 20*time.Second, noDelay(), "storescu", "-R", "-to", "5", "-aet", "MODALITY", "-aec", "ARCHIVE", ClinicLAN,
			strconv.Itoa(archivePort), w.files[0])
		// The gateway makes the device anew, and the routes with it; they go again, while the queue tries on.
		Within(12*time.Second, func() bool {
			w.n.Clinic.Run(t, 10*time.Second, nil, "ip", "link", "delete", "tow0")
			w.n.Clinic.reachable(t)
			return false
		})
	})
	w.a.Kill()
	w.n.Clinic.Unlock(t, "blackhole")
}

// netstack: the tunnel is inside of the process, and the machine has no lock of ours.
func (w *lockLab) netstack(t, whole *testing.T) {
	w.a.Run(whole, "--backend", "netstack")
	w.ready(t)
	if got := w.n.Clinic.Locks(t); len(got) != 0 {
		t.Errorf("locks %v", got)
	}
	if s := w.a.Status(t); !strings.Contains(s, "Firewall none (not needed") {
		t.Errorf("the status says nothing of it:\n%s", s)
	}
	w.study(t, "netstack", directPort, w.a.Kill)
	w.a.Run(whole, "--backend", "netstack")
	w.ready(t)
	if w.n.Clinic.try("tcp", w.a.Address+":22", "") || w.n.Modality.try("tcp", w.b.Address+":2575", "") {
		t.Error("the overlay is reached from outside of the process")
	}
	w.a.Kill()
}

// clinicsApart: with everything working, the first clinic reaches nothing of the second, from the box and from its LAN.
func (w *lockLab) clinicsApart(t *testing.T) {
	Eventually(t, 30*time.Second, "the center reaches what clinic B offers it", func() bool {
		out := w.n.Clinic2.Must(t, 10*time.Second, nil, "ss", "-Hltn", "src", w.b.Address)
		f := strings.Fields(out)
		return len(f) > 3 && w.n.Center.try("tcp", w.b.Address+f[3][strings.LastIndex(f[3], ":"):], "")
	})
	inside := w.n.Clinic2.Capture(t, "inside-b", "tow0")
	traffic, c := w.watch(t, func() {
		for _, from := range []Namespace{w.n.Clinic, w.n.Modality} {
			from.Knock(t, w.b.Address, nobody6)
		}
	})
	w.clean(t, traffic, c)
	w.n.Center.Run(t, 10*time.Second, nil, "ping", "-n", "-c", "1", "-W", "2", w.b.Address) // must be seen
	inside.Stop(t)
	out := w.n.Center.Must(t, 10*time.Second, nil, "tcpdump", "-n", "-r", inside.File)
	if strings.Contains(out, w.a.Address+".") || strings.Contains(out, w.a.Address+" ") || !strings.Contains(out, "ICMP echo") {
		t.Errorf("inside of clinic B's tunnel:\n%s", out)
	}
	// What the box of clinic B has open for its own network is not open in the tunnel.
	l := w.n.Clinic2.Listen(t, ":2022")
	defer l.Close()
	if w.n.Center.try("tcp", w.b.Address+":2022", "") {
		t.Error("the center reaches a program on clinic B's box that nobody offered")
	}
}

// capture looks into the tunnel with the program's own command while a study passes: there is every packet, and nothing of the patient.
func (w *lockLab) capture(t *testing.T) {
	file := filepath.Join(w.n.Dir, "inside.pcap")
	p := w.n.Clinic.Start(t, "capture", nil, w.n.Binary, "capture", "--state", w.a.state(), "--peer", "center", "--for", "15s", "-o", file)
	Eventually(t, 10*time.Second, "the capture has begun", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() >= 24
	})
	if out, code := w.n.Modality.Store(t, ClinicLAN, directPort, "ARCHIVE", w.files[:20]); code != 0 {
		t.Fatalf("storescu: %s", out)
	}
	Eventually(t, 20*time.Second, "the capture ends by itself", p.ended)
	if !strings.Contains(p.Log(), " packets\n") || strings.Contains(p.Log(), "missing") {
		t.Errorf("it says %q", p.Log())
	}
	hits, err := w.p.Canary().SearchFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hits {
		t.Errorf("in the capture: the %s", h)
	}
	out := w.n.Clinic.Must(t, 20*time.Second, nil, "tcpdump", "-n", "-r", file)
	lines, full := strings.Count(out, "\n"), strings.Count(out, "length 1228") // an MTU of 1280 less headers with timestamps
	if lines < 20*512*1024/1228 || full < 5000 || strings.Count(out, w.a.Address) < lines {
		t.Errorf("%d packets, %d of them full; the first of them:\n%s", lines, full, out[:min(len(out), 2000)])
	}
	if info, err := os.Stat(file); err != nil || info.Size() > int64(lines)*(16+80) || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes for %d packets, and mode %v", info.Size(), lines, info.Mode())
	}
}

// giveBack: the locks stay when the gateway ends in order, say what they dropped, and go when somebody wants them gone.
func (w *lockLab) giveBack(t *testing.T, whole *testing.T) {
	w.a.Run(whole)
	w.ready(t)
	w.n.Clinic.Knock(t, nobody4, nobody6)
	w.ports(t)
	shown := w.n.towpath(t, w.n.Clinic, "firewall", "show", "--state", w.a.state())
	for _, want := range []string{"table inet towpath {", "10.201.0.0/16", "fd7a:10::/48", `"lan0"`, "Firewall on", "a clinical port on another interface"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in what is shown:\n%s", want, shown)
		}
	}
	w.n.Clinic.Must(t, 10*time.Second, nil, "nft", "flush", "ruleset") // as other firewalls do when they start
	Eventually(t, 15*time.Second, "the gateway puts its table back", func() bool { return len(w.n.Clinic.Locks(t)) == 2 })
	if !w.a.Stop(t) {
		t.Error("the gateway did not end in order")
	}
	w.held(t, 2)
	if out := w.n.towpath(t, w.n.Clinic, "firewall", "show", "--state", w.a.state()); !strings.Contains(out, "still in force") {
		t.Errorf("with the gateway stopped: %s", out)
	}
	w.n.towpath(t, w.n.Clinic, "firewall", "remove")
	if got := w.n.Clinic.Locks(t); len(got) != 1 {
		t.Errorf("after removal: %v", got)
	}
}
