package reconcile_test

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom/phantom"
	"github.com/towpath/towpath/proxy/hl7/mllp"
)

// peer runs a real program to its end and returns what it says.
func peer(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "TCP_NODELAY=1")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// dcmtk and openssl as devices, with certificates of the box.
func TestRealDevices(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs other programs")
	}
	c := newClinic(t)
	c.apply(t)
	files, _ := c.issue(t, "CT1")
	with := func(port uint16, more ...string) []string {
		return append([]string{"-aet", "CT1", "-aec", "PACS", "127.0.0.1", strconv.Itoa(int(port)), "+tls", files[0], files[1], "+cf", files[2]}, more...)
	}
	secure := c.m.LANTLS.DICOMPort
	for _, profile := range []string{"+py", "+px", ""} {
		args := with(secure)
		if profile != "" {
			args = append(args, profile)
		}
		if out, err := peer(t, "", "echoscu", args...); err != nil {
			t.Errorf("echoscu %s: %v\n%s", profile, err, out)
		}
	}
	study := t.TempDir()
	var names []string
	for s, err := range phantom.Study(phantom.Options{Slices: 20, Size: 256}) {
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(study, s.Name)
		if err := os.WriteFile(path, s.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, path)
	}
	timed := func(args ...string) time.Duration {
		began := time.Now()
		if out, err := peer(t, "", "storescu", append(args, names...)...); err != nil {
			t.Errorf("storescu: %v\n%s", err, out)
		}
		return time.Since(began)
	}
	clear := timed("-aet", "CT1", "-aec", "PACS", "127.0.0.1", strconv.Itoa(int(c.m.Uses[0].LANPort)))
	over := timed(with(secure)...)
	t.Logf("%d objects: %v in cleartext, %v over TLS", len(names), clear, over)
	if st := c.queue.Stats(); len(st) == 0 || st[0].Queued+int(st[0].Delivered) != 2*len(names) {
		t.Errorf("the queue has %+v", st)
	}

	if out, err := peer(t, "", "echoscu", "-aet", "CT1", "-aec", "PACS", "127.0.0.1", strconv.Itoa(int(secure))); err == nil || !strings.Contains(out, "Rejected") {
		t.Errorf("cleartext to the TLS port: %v\n%s", err, out)
	}
	if out, err := peer(t, "", "echoscu", with(c.m.Uses[0].LANPort)...); err == nil {
		t.Errorf("TLS to the cleartext port: %s", out)
	}
	c.cleartextUntil(t, time.Now())
	out, err := peer(t, "", "echoscu", "-v", "-aet", "CT1", "-aec", "PACS", "127.0.0.1", strconv.Itoa(int(c.m.Uses[0].LANPort)))
	if err == nil || !strings.Contains(out, "Rejected Permanent") {
		t.Errorf("cleartext after its end: %v\n%s", err, out)
	}
}

func TestOpenSSLSendsHL7(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs another program")
	}
	c := newClinic(t)
	c.apply(t)
	files, _ := c.issue(t, "LAB")
	frame, err := mllp.Append(nil, []byte("MSH|^~\\&|LAB|NORTH|HIS|CENTER|20261122||ORU^R01|17|P|2.5\rPID|1\r"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, "s_client", "-quiet", "-verify_return_error", "-verify_ip", "127.0.0.1", "-connect", lanAt(c.m.LANTLS.HL7Port),
		"-key", files[0], "-cert", files[1], "-CAfile", files[2])
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	if _, err := in.Write(frame); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := answer.Read(buf)
	if err != nil || !bytes.Contains(buf[:n], []byte("MSA|AA|17")) {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// The two ways of a device that has an older TLS only.
func TestLegacyDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs another program")
	}
	c := newClinic(t)
	c.apply(t)
	files, _ := c.issue(t, "OLD")
	try := func() string {
		out, _ := peer(t, "", "openssl", "s_client", "-connect", lanAt(c.m.LANTLS.DICOMPort), "-key", files[0], "-cert", files[1], "-CAfile", files[2],
			"-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0")
		return out
	}
	if out := try(); strings.Contains(out, "Cipher is AES128-SHA") {
		t.Errorf("without an exception:\n%s", out)
	}
	p := *c.m.LANTLS
	p.Legacy = []wire.LegacyTLS{{Device: netip.MustParsePrefix("127.0.0.1/32"), Profile: wire.LegacyTLS12}}
	c.m.LANTLS = &p
	c.apply(t)
	if out := try(); !strings.Contains(out, "Cipher is AES128-SHA") {
		t.Errorf("with it:\n%s", out)
	}
}
