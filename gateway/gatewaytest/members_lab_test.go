//go:build lab

package gatewaytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Services that the first clinic may not use: one that nobody may but the second, and one that is down until late.
const (
	secretPort = 11115
	latePort   = 11116
)

// membership is a lab with two clinics, a center and a laptop.
type membership struct {
	whole   *testing.T // programs that are started in a part outlive it
	n       *Network
	f       *Fleet
	tr      *transcript
	a, b    *Box
	thief   *Box
	laptop  Namespace
	archive PACS
	// undelivered is how many objects wait in the second clinic's queue.
	undelivered int
}

// study writes a new one.
func (w *membership) study(t *testing.T, slices, size int) (files []string, objects []Object) {
	t.Helper()
	files, objects, err := NewPatient().WriteStudy(t.TempDir(), slices, size)
	if err != nil {
		t.Fatal(err)
	}
	return files, objects
}

func newMembership(t *testing.T) *membership {
	up, down := line()
	n := NewNetwork(t, up, down)
	w := &membership{whole: t, n: n, tr: newTranscript(), laptop: n.Laptop(t), archive: n.PACS.Storescp(t, "storescp", "ARCHIVE", 11112)}
	w.f = NewFleet(t, n)
	f := w.f
	for _, site := range []string{"clinic-a", "clinic-b"} {
		f.Admin(t, "site", "add", site, "--kind", "clinic")
	}
	for service, mode := range map[string]string{"archive": "queued", "direct": "pass-through", "secret": "pass-through"} {
		f.Admin(t, "service", "add", service, "--site", "center", "--dicom", "--ae-title", "ARCHIVE", "--target", PACSAddr+":11112", "--mode", mode)
	}
	f.Admin(t, "service", "add", "late", "--site", "center", "--dicom", "--ae-title", "LATE", "--target", PACSAddr+":11113", "--mode", "queued")
	for _, g := range []struct {
		site, service string
		port          int
	}{{"clinic-a", "archive", archivePort}, {"clinic-a", "direct", directPort}, {"clinic-b", "direct", directPort}, {"clinic-b", "secret", secretPort}, {"clinic-b", "late", latePort}} {
		f.Admin(t, "allow", g.site, g.service, "--port", fmt.Sprint(g.port))
	}
	w.a, w.b = f.Enroll(t, n.Clinic, "clinic-a"), f.Enroll(t, n.Clinic2, "clinic-b")
	w.a.WaitForService(t, directPort)
	w.b.WaitForService(t, directPort)
	for from, host := range map[Namespace]string{n.Modality: ClinicLAN, n.Clinic2: ClinicLAN} {
		w.echoes(t, from, host, directPort)
	}
	return w
}

// echoes waits until a C-ECHO comes through.
func (w *membership) echoes(t *testing.T, from Namespace, host string, port int) {
	t.Helper()
	out := ""
	if !Within(30*time.Second, func() bool {
		var code int
		out, code = from.Echo(t, host, port, "ARCHIVE")
		return code == 0
	}) {
		t.Fatalf("no C-ECHO from %s to %s port %d:\n%s", from.name, host, port, out)
	}
}

// secretPlace is where the service is on the overlay that only the second clinic may use.
func (w *membership) secretPlace(t *testing.T) string {
	t.Helper()
	var services []struct {
		Name string `json:"name"`
		At   string `json:"at"`
	}
	w.f.decode(t, w.f.Admin(t, "service", "list", "--json"), &services)
	for _, s := range services {
		if s.Name == "secret" {
			return s.At
		}
	}
	t.Fatal("there is no such service")
	return ""
}

// TestLabMembers is the life of members: a person's computer, changes of keys under load, removal, a copied box, a spare, a plain device.
func TestLabMembers(t *testing.T) {
	w := newMembership(t)
	t.Run("workstation", w.workstation)
	t.Run("rotate clinic", func(t *testing.T) { w.rotate(t, "clinic-a") })
	w.steal(t)
	begin := time.Now()
	t.Run("remove", w.remove)
	t.Run("clone", func(t *testing.T) { w.clone(t, begin) })
	t.Run("replace", w.replace)
	t.Run("rotate center", func(t *testing.T) { w.rotate(t, "center") })
	t.Run("plain device", w.plain) // after the center's key was changed: its file has that
	t.Run("removed box knows", func(t *testing.T) {
		Eventually(t, 2*time.Minute, "the removed box says so", func() bool { return w.a.Has(t, "removed") })
	})
	_ = w.tr.w.Flush()
	t.Logf("transcript\n%s", w.tr.b.String())
}

// workstation uses what its site may use from a laptop, without root and with, and reaches nothing else.
func (w *membership) workstation(t *testing.T) {
	token := w.f.Token(t, "token", "new", "--site", "clinic-a", "--kind", "workstation")
	begin := time.Now()
	up := w.f.Up(t, w.laptop, "laptop", "--backend", "netstack", token)
	w.laptop.waitForPort(t, "towpath up", directPort)
	w.echoes(t, w.laptop, "127.0.0.1", directPort)
	w.tr.note("workstation: token to first C-ECHO: %v", time.Since(begin).Round(10*time.Millisecond))
	for line := range strings.Lines(w.laptop.Must(t, 10*time.Second, nil, "ss", "-Hltn")) {
		if local := strings.Fields(line)[3]; !strings.HasPrefix(local, "127.0.0.1:") && !strings.HasPrefix(local, "[::1]:") {
			t.Errorf("it listens for others at %s", local)
		}
	}
	if w.laptop.listens(secretPort) {
		t.Error("it offers a service that its site may not use")
	}
	files, objects := w.study(t, 5, 64)
	if out, code := w.laptop.Store(t, "127.0.0.1", archivePort, "ARCHIVE", files); code != 0 {
		t.Errorf("storescu: %s", tail(out, 2000))
	}
	w.arrive(t, "workstation, queued", objects)
	if !Within(5*time.Second, func() bool {
		return strings.Contains(up.Log(), "HERE AT") && strings.Contains(up.Log(), fmt.Sprintf("direct   127.0.0.1:%d", directPort))
	}) {
		t.Errorf("it shows %s", up.Log())
	}
	if !up.Stop(t) {
		t.Error("it did not end in order")
	}

	// With an interface of its own: only the center's address leads into the tunnel, and the rest of the computer is as before.
	before := w.laptop.Must(t, 10*time.Second, nil, "ip", "route")
	up = w.f.Up(t, w.laptop, "laptop", "--backend", "userspace")
	w.laptop.waitForPort(t, "towpath up", directPort)
	w.echoes(t, w.laptop, "127.0.0.1", directPort)
	center := w.f.Member(t, "center").Address
	routes := w.laptop.Must(t, 10*time.Second, nil, "ip", "route")
	for line := range strings.Lines(routes) {
		f := strings.Fields(line)
		tunnel := strings.Contains(line, " dev tow0")
		if tunnel && strings.Contains(f[0], "/") || f[0] == "default" && tunnel {
			t.Errorf("more than a peer leads into the tunnel: %s", line)
		}
	}
	if !strings.Contains(routes, center+" dev tow0") {
		t.Errorf("the center is not reached through the tunnel:\n%s", routes)
	}
	secret := w.secretPlace(t)
	if err := w.n.Clinic2.Reach(secret); err != nil {
		t.Errorf("the clinic that may use the secret service does not reach it: %v", err)
	}
	for _, address := range []string{secret, center + ":22", w.a.Address + ":" + fmt.Sprint(directPort), w.b.Address + ":104"} {
		if w.laptop.Reach(address) == nil {
			t.Errorf("the workstation reaches %s", address)
		}
	}
	if !up.Stop(t) {
		t.Error("it did not end in order")
	}
	if after := w.laptop.Must(t, 10*time.Second, nil, "ip", "route"); after != before {
		t.Errorf("it leaves routes behind:\n%s\nbefore:\n%s", after, before)
	}
}

// remove takes the first clinic's box out: the center has forgotten its key within two seconds.
func (w *membership) remove(t *testing.T) {
	key := w.f.Member(t, w.a.Node).PublicKey
	if !w.f.CenterKnows(t, key) {
		t.Fatal("the center does not know its key in the first place")
	}
	begin := time.Now()
	w.f.Admin(t, "node", "remove", w.a.Node)
	command := time.Since(begin)
	if !Within(5*time.Second, func() bool { return !w.f.CenterKnows(t, key) }) {
		t.Fatal("the center keeps its key")
	}
	took := time.Since(begin)
	if took > 2*time.Second+command {
		t.Errorf("the center kept the key for %v", took)
	}
	w.tr.note("remove: the center has forgotten the key after %v (%v of it the command)", took.Round(10*time.Millisecond), command.Round(10*time.Millisecond))
	if out, code := w.n.Modality.Echo(t, ClinicLAN, directPort, "ARCHIVE"); code == 0 {
		t.Errorf("it still comes through:\n%s", out)
	}
}

// rotate changes the key of a site's gateway while studies are sent through, and loses no association.
func (w *membership) rotate(t *testing.T, site string) {
	from, box := w.n.Modality, w.n.Clinic
	if site == "center" {
		from, box = w.n.Clinic2, w.n.Clinic2 // the first clinic's box is removed by then
		// All who have the center as a peer are waited for, and a workstation that is off for a day.
		up := w.f.Up(t, w.laptop, "laptop", "--backend", "netstack")
		defer up.Stop(t)
	}
	files, _ := w.study(t, 20, 256)
	var sent, failed atomic.Int32
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			sent.Add(1)
			if out, code := from.Store(t, ClinicLAN, directPort, "ARCHIVE", files); code != 0 {
				failed.Add(1)
				t.Errorf("an association was lost: %s", tail(out, 1500))
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-stopped })
	defer end()
	before := w.f.Member(t, site)
	ping := box.Ping(t, "ping-"+site, w.f.Member(t, "center").Address)
	Within(time.Second, func() bool { return false })
	begin := time.Now()
	w.f.Admin(t, "node", "rotate", before.ID)
	ok := Within(time.Minute, func() bool {
		m := w.f.Member(t, site)
		return m.PublicKey != before.PublicKey && m.Rotate == ""
	})
	took := time.Since(begin)
	Within(2*time.Second, func() bool { return false }) // what comes late
	end()
	gap, answers := ping.Gap(t)
	w.tr.note("rotate %s: %v, %d associations of %d objects, %d lost; longest gap between echoes %v (sent every %v, %d answers)",
		site, took.Round(10*time.Millisecond), sent.Load(), len(files), failed.Load(), gap.Round(time.Millisecond), pingEvery, answers)
	if m := w.f.Member(t, site); !ok {
		t.Fatalf("the key was not changed: %+v", m)
	}
	if answers < 50 {
		t.Errorf("only %d answers: is anything measured?", answers)
	}
	if gap > time.Second {
		t.Errorf("for %v nothing came through", gap)
	}
}

// steal starts a copy of the second clinic's box, with its queue, far away.
func (w *membership) steal(t *testing.T) {
	files, objects := w.study(t, 7, 64)
	w.undelivered = len(objects)
	if out, code := w.n.Clinic2.Store(t, ClinicLAN, latePort, "LATE", files); code != 0 {
		t.Fatalf("storescu: %s", tail(out, 2000))
	}
	// Files that change their state while they are copied would be missing in the copy.
	Eventually(t, time.Minute, "the center has them, and the clinic knows", func() bool {
		carried := 0
		for _, q := range w.f.GatewayStatus(t, w.n.Clinic2, w.b.state()).Queues {
			carried += q.Carried
		}
		return carried == len(objects)
	})
	w.thief = &Box{f: w.f, in: w.laptop, name: "thief"}
	copyDir(t, w.b.state(), w.thief.state())
	w.thief.Process = w.n.start(t, w.laptop, "gateway-thief", "gateway", "--state", w.thief.state(), "--backend", "netstack", "--lan", "127.0.0.1")
}

// clone waits until the key that is in two places is shut out, both boxes with it, and it is said which.
func (w *membership) clone(t *testing.T, begin time.Time) {
	Eventually(t, 4*time.Minute, "the key is in quarantine", func() bool { return w.f.Member(t, w.b.Node).State == "quarantined" })
	m := w.f.Member(t, w.b.Node)
	w.tr.note("clone: in quarantine after %v: %s", time.Since(begin).Round(time.Second), m.Reason)
	if !strings.Contains(m.Reason, "two places") || !strings.Contains(m.Reason, Clinic2WAN) || !strings.Contains(m.Reason, "198.18.4.2") {
		t.Errorf("the reason does not name both places: %q", m.Reason)
	}
	Eventually(t, 5*time.Second, "the center has forgotten the key", func() bool { return !w.f.CenterKnows(t, m.PublicKey) })
	w.thief.Stop(t)
}

// replace puts a spare in the place of the second clinic's box, with the queue of that one's disk: what was undelivered arrives, once.
func (w *membership) replace(t *testing.T) {
	w.b.Stop(t)
	spare := w.f.Join(t, w.n.Clinic2, "spare", w.f.Token(t, "node", "replace", w.b.Node))
	if spare.Node != w.b.Node || spare.Address != w.b.Address {
		t.Errorf("the spare is %s at %s, and the old box was %s at %s", spare.Node, spare.Address, w.b.Node, w.b.Address)
	}
	copyDir(t, filepath.Join(w.b.state(), "spool"), filepath.Join(spare.state(), "spool"))
	key, err := os.ReadFile(filepath.Join(w.b.state(), "spool-key.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(spare.state(), "spool-key.json"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	spare.Run(w.whole)
	spare.WaitForService(t, directPort)
	late := w.n.PACS.Storescp(t, "late", "LATE", 11113)
	// The gateway of the center has tried them in vain before. Its pauses while nobody answers are 30 s at most, and the first that
	// gets through ends the others; a dial that began before may take its time.
	if !Within(90*time.Second, func() bool { return late.Count() >= w.undelivered }) {
		t.Errorf("%d of %d arrived; the spare says:\n%s", late.Count(), w.undelivered, spare.Status(t))
	}
	took := time.Since(begin)
	Within(3*time.Second, func() bool { return false }) // what would come twice
	if late.Count() != w.undelivered {
		t.Errorf("%d objects arrived and %d were undelivered", late.Count(), w.undelivered)
	}
	w.tr.note("replace: %d undelivered objects of the old box's disk arrived, %d in all, %v after the spare was started",
		w.undelivered, late.Count(), took.Round(100*time.Millisecond))
	w.echoes(t, w.n.Clinic2, ClinicLAN, directPort)
	w.b = spare
}

// arrive waits until objects that nobody has sent before are in the archive.
func (w *membership) arrive(t *testing.T, what string, objects []Object) {
	t.Helper()
	begin := time.Now()
	missing := []string{"all"}
	if !Within(time.Minute, func() bool {
		_, missing, _ = Compare(objects, w.archive.Objects())
		return len(missing) == 0
	}) {
		t.Errorf("%s: did not arrive: %v", what, missing)
	}
	w.tr.row(what, len(objects), len(objects)-len(missing), len(objects)-len(missing), time.Since(begin))
}
