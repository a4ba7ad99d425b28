package dicom_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
)

// tool returns the path of a program that is a real peer of these tests.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	return path
}

// run runs a program of dcmtk to its end and returns what it says.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Env = append(os.Environ(), "TCP_NODELAY=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start runs a server until the test ends, and waits until it answers a C-ECHO.
func start(t *testing.T, aeTitle, port, name string, args ...string) (address string) {
	t.Helper()
	return startIn(t, loopback{}, aeTitle, port, name, args...)
}

// startIn is start with the network in which the server answers.
func startIn(t *testing.T, network proxy.Network, aeTitle, port, name string, args ...string) (address string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Env = append(os.Environ(), "TCP_NODELAY=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", name, out.String())
		}
	})
	address = net.JoinHostPort("127.0.0.1", port)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if _, err := dicom.Echo(ctx, dicom.EchoConfig{Network: network, Target: address, CalledAE: aeTitle}); err == nil {
			tick.Stop()
			return address
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s does not answer", name)
		}
	}
}

// freePort returns a port of the loopback interface that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := loopback{}.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return port(t, l.Addr().String())
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// storescp runs dcmtk's storage server so that it takes everything and keeps every byte.
func storescp(t *testing.T) (address, dir string) {
	t.Helper()
	p := freePort(t)
	dir = t.TempDir()
	return start(t, "ANY", p, "storescp", "+xa", "+B", "+uf", "-od", dir, p), dir
}

// digests returns how often each data set is in a directory.
func digests(t *testing.T, dir string) map[[32]byte]int {
	t.Helper()
	out := map[[32]byte]int{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		sum, _, err := dicom.DigestDataset(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
		out[sum]++
	}
	return out
}

// samples returns the DICOM files of the sample collection, and the slices of a phantom in any case.
func samples(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i, o := range study(t, 3, 256) {
		f, err := o.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("phantom%d.dcm", i))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	more, err := filepath.Glob(filepath.Join(sampleDir(t), "dicom", "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d samples beside the phantom", len(more))
	return append(files, more...)
}

// sampleDir is where the sample collection is, if there is one.
func sampleDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("TOWPATH_SAMPLES"); dir != "" {
		return dir
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for root != filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	return filepath.Join(filepath.Dir(root), "shared", "samples")
}

func TestDcmtkEcho(t *testing.T) {
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: &memoryQueue{}, Routes: []dicom.Route{{AETitle: "TOWPATH", Mode: dicom.Queued, QueueName: "q"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	address, results := serve(t, loopback{}, r)
	if out, err := run(t, "echoscu", "-v", "-aet", "CT1", "-aec", "TOWPATH", "127.0.0.1", port(t, address)); err != nil {
		t.Errorf("echoscu: %v\n%s", err, out)
	}
	if res := <-results; res.Outcome != proxy.OutcomeDone || res.Calling != "CT1" {
		t.Errorf("result %+v", res)
	}
	out, err := run(t, "echoscu", "-v", "-aec", "Towpath", "127.0.0.1", port(t, address))
	if err == nil || !strings.Contains(out, "Called AE Title Not Recognized") {
		t.Errorf("a wrong AE title: %v\n%s", err, out)
	}
	if out, err := run(t, "echoscu", "--abort", "-aec", "TOWPATH", "127.0.0.1", port(t, address)); err != nil {
		t.Errorf("echoscu --abort: %v\n%s", err, out)
	}
	<-results
	if res := <-results; res.Outcome != proxy.OutcomeAborted {
		t.Errorf("result of an abort %+v", res)
	}
}

// TestDcmtkSendsToArchive has dcmsend send all samples to our Archive and to dcmtk's own server, and compares what arrives: dcmsend
// encodes data sets again, so that its own server's bytes, not those of the files, are the measure.
func TestDcmtkSendsToArchive(t *testing.T) {
	files := samples(t)
	reference, referenceDir := storescp(t)
	dir := t.TempDir()
	archive, _ := newArchive(t, dicom.ArchiveConfig{Dir: dir})
	address, _ := serve(t, loopback{}, archive)
	refused := 0
	for _, to := range []string{reference, address} {
		// The exit code only says that some samples are broken.
		out, _ := run(t, "dcmsend", append([]string{"-v", "-nh", "--decompress-never", "127.0.0.1", port(t, to)}, files...)...)
		i := strings.Index(out, "Status Summary")
		t.Logf("dcmsend: %s", out[max(i, 0):])
		refused = statusCount(out, "REFUSED") + statusCount(out, "unknown status")
	}
	want, got := digests(t, referenceDir), digests(t, dir)
	missing := 0
	for sum := range want {
		if got[sum] == 0 {
			missing++
		}
	}
	// We refuse what contradicts itself: an invalid UID, or a SOP class other than the one of its presentation context.
	if missing > refused {
		t.Errorf("%d data sets are missing or changed, and only %d were refused", missing, refused)
	}
	if len(want) < 3 || len(got) < len(want)-refused {
		t.Errorf("%d data sets arrived here and %d at dcmtk's server", len(got), len(want))
	}
	t.Logf("%d different data sets arrived here, %d at dcmtk's server", len(got), len(want))
}

// statusCount finds a line of dcmsend's summary, such as "*with status REFUSED  : 2".
func statusCount(out, status string) int {
	m := regexp.MustCompile(status + ` *: (\d+)`).FindStringSubmatch(out)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// TestDcmtkReceives has Store send all samples to storescp, which keeps them bit by bit.
func TestDcmtkReceives(t *testing.T) {
	files := samples(t)
	address, dir := storescp(t)
	var objects []dicom.Object
	for _, f := range files {
		objects = append(objects, dicom.FileObject(f))
	}
	want := map[[32]byte]int{}
	failed := 0
	report, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: loopback{}, Target: address, CalledAE: "ANY"}, objects,
		func(e dicom.StoreEvent) {
			if e.Err != nil {
				failed++
				return
			}
			sum, size, err := dicom.DigestDataset(e.Name)
			if err != nil || size != e.Bytes {
				t.Errorf("%s: %d bytes sent of %d, %v", filepath.Base(e.Name), e.Bytes, size, err)
			}
			want[sum]++
		})
	t.Logf("report %+v, %v", report, err)
	if report.Sent < 3 || report.Sent+report.Failed != len(files) || report.Failed != failed {
		t.Errorf("%d sent, %d failed of %d", report.Sent, report.Failed, len(files))
	}
	got := digests(t, dir)
	for sum, n := range want {
		if got[sum] != n {
			t.Errorf("a data set sent %d times arrived %d times", n, got[sum])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d different data sets arrived instead of %d", len(got), len(want))
	}
}

// TestDcmtkThroughQueue sends from storescu through Router, queue and Sink to storescp.
func TestDcmtkThroughQueue(t *testing.T) {
	files := samples(t)[:3]
	target, dir := storescp(t)
	q := &memoryQueue{}
	r, err := dicom.NewRouter(dicom.RouterConfig{Queue: q, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}}})
	if err != nil {
		t.Fatal(err)
	}
	address, results := serve(t, loopback{}, r)
	args := append([]string{"-v", "-aet", "CT1", "-aec", "PACS", "127.0.0.1", port(t, address)}, files...)
	if out, err := run(t, "storescu", args...); err != nil {
		t.Fatalf("storescu: %v\n%s", err, out)
	}
	if res := <-results; res.Outcome != proxy.OutcomeDone || res.Items != 3 {
		t.Errorf("result %+v", res)
	}
	sink := dicom.NewSink(dicom.SinkConfig{Network: loopback{}, Target: target, CalledAE: "ANY"})
	items, _ := q.state()
	for _, it := range items {
		if receipt, err := sink.Deliver(t.Context(), it.Item, bytes.NewReader(it.payload)); err != nil || receipt.Code != "0000" {
			t.Errorf("%+v, %v", receipt, err)
		}
	}
	sink.Idle()
	got := digests(t, dir)
	for _, it := range items {
		if got[it.SHA256] != 1 {
			t.Error("a data set did not arrive as it was queued")
		}
	}
	if len(got) != 3 {
		t.Errorf("%d data sets arrived", len(got))
	}
}

// TestDcmtkQueriesThroughUs runs a storage, a query and a retrieval through a pass-through route to dcmtk's archive.
func TestDcmtkQueriesThroughUs(t *testing.T) {
	work, p := t.TempDir(), freePort(t)
	store := filepath.Join(work, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(work, "dcmqrscp.cfg")
	text := fmt.Sprintf("MaxPDUSize = 16384\nMaxAssociations = 16\nHostTable BEGIN\nHostTable END\n"+
		"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\nQRPACS %s RW (200, 1024mb) ANY\nAETable END\n", store)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	target := start(t, "QRPACS", p, "dcmqrscp", "-c", config, p)
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: []dicom.Route{
		{Service: "archive", AETitle: "QRPACS", Mode: dicom.PassThrough, Network: loopback{}, Target: target},
	}})
	if err != nil {
		t.Fatal(err)
	}
	address, results := serve(t, loopback{}, r)
	cfg := dicom.StoreConfig{Network: loopback{}, Target: address, CalledAE: "QRPACS"}
	if _, err := dicom.Store(t.Context(), cfg, study(t, 3, 64), nil); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "findscu", "-v", "-S", "-aec", "QRPACS", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID",
		"-k", "PatientName", "127.0.0.1", port(t, address))
	if err != nil || !strings.Contains(out, "PHANTOM^TOWPATH") {
		t.Errorf("findscu: %v\n%s", err, out)
	}
	_, uid, _ := strings.Cut(out, "(0020,000d) UI [")
	uid, _, _ = strings.Cut(uid, "]")
	got := t.TempDir()
	out, err = run(t, "getscu", "-v", "-S", "-B", "-aec", "QRPACS", "-k", "QueryRetrieveLevel=STUDY",
		"-k", "StudyInstanceUID="+uid, "-od", got, "127.0.0.1", port(t, address))
	if err != nil || len(digests(t, got)) != 3 {
		t.Errorf("getscu: %v, %d objects\n%s", err, len(digests(t, got)), out)
	}
	for range 3 {
		if res := <-results; res.Outcome != proxy.OutcomeDone {
			t.Errorf("result %+v", res)
		}
	}
}
