package dicom_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/phantom"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

// recorder collects what an Archive reports.
type recorder struct {
	mu  sync.Mutex
	all []dicom.StoredObject
}

func (r *recorder) add(o dicom.StoredObject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, o)
}

func (r *recorder) stored() []dicom.StoredObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// newArchive returns an Archive in a directory of its own and what it will have stored.
func newArchive(t *testing.T, cfg dicom.ArchiveConfig) (*dicom.Archive, *recorder) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	r := &recorder{}
	cfg.OnStored = r.add
	a, err := dicom.NewArchive(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, r
}

// study makes the objects of a phantom.
func study(t *testing.T, slices, size int) []dicom.Object {
	t.Helper()
	var out []dicom.Object
	for s, err := range phantom.Study(phantom.Options{Slices: slices, Size: size, Seed: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, dicom.BytesObject(s.Name, s.Bytes))
	}
	return out
}

// file makes a DICOM file of any data set bytes.
func file(instance, data string) []byte {
	m := dicom.Part10Meta{TransferSyntax: explicit, SOPClass: ctStorage, SOPInstance: instance}
	return append(m.AppendPart10(nil), data...)
}

func TestArchiveStoresWhatItGets(t *testing.T) {
	dir, n := t.TempDir(), proxytest.NewNetwork()
	archive, rec := newArchive(t, dicom.ArchiveConfig{Dir: dir})
	address, results := serve(t, n, archive)
	objects := study(t, 4, 64)
	var events []dicom.StoreEvent
	report, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: n, Target: address, CalledAE: "ANY"}, objects,
		func(e dicom.StoreEvent) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	if report.Sent != 4 || report.Failed != 0 || report.Bytes < 4*64*64*2 ||
		len(events) != 4 || events[3].Index != 3 || events[3].Total != 4 {
		t.Errorf("report %+v, events %+v", report, events)
	}
	if res := <-results; res.Outcome != proxy.OutcomeDone || res.Items != 4 {
		t.Errorf("result %+v", res)
	}
	stored := rec.stored()
	for i, o := range objects {
		f, err := o.Open()
		if err != nil {
			t.Fatal(err)
		}
		meta, data, err := dicom.ReadPart10(f)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if _, err := want.ReadFrom(data); err != nil {
			t.Fatal(err)
		}
		s := stored[i]
		sum, size, err := dicom.DigestDataset(filepath.Join(dir, s.Path))
		if err != nil || sum != sha256.Sum256(want.Bytes()) || sum != s.SHA256 || size != int64(want.Len()) || size != s.Size {
			t.Errorf("object %d: %d bytes, %v", i, size, err)
		}
		if s.SOPInstance != meta.SOPInstance || s.Path != meta.SOPInstance+".dcm" || s.Again {
			t.Errorf("object %d: %+v", i, s)
		}
		b, err := os.Open(filepath.Join(dir, s.Path))
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := dicom.ReadPart10(b)
		_ = b.Close()
		meta.SourceAE = dicom.DefaultCallingAE
		if err != nil || back != meta {
			t.Errorf("object %d: file head %+v, %v", i, back, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".incoming*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestArchiveNeverOverwrites sends the same instance three times, with two contents, and over several associations at once.
func TestArchiveNeverOverwrites(t *testing.T) {
	dir, n := t.TempDir(), proxytest.NewNetwork()
	archive, rec := newArchive(t, dicom.ArchiveConfig{Dir: dir})
	address, _ := serve(t, n, archive)
	cfg := dicom.StoreConfig{Network: n, Target: address, CalledAE: "ANY"}
	for _, content := range []string{"one", "two", "one", "two"} {
		if _, err := dicom.Store(t.Context(), cfg, []dicom.Object{dicom.BytesObject("x", file("1.2.3", content))}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			o := dicom.BytesObject("x", file("1.2.4", fmt.Sprint("content ", i%2)))
			if _, err := dicom.Store(t.Context(), cfg, []dicom.Object{o}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Errorf("files %v, %v", files, err)
	}
	contents := map[[32]byte]int{}
	for _, f := range files {
		sum, _, err := dicom.DigestDataset(f)
		if err != nil {
			t.Error(err)
		}
		contents[sum]++
	}
	for _, c := range []string{"one", "two", "content 0", "content 1"} {
		if contents[sha256.Sum256([]byte(c))] != 1 {
			t.Errorf("%q is there %d times", c, contents[sha256.Sum256([]byte(c))])
		}
	}
	again := 0
	for _, o := range rec.stored() {
		if o.Again {
			again++
		}
	}
	if again != 2+6 {
		t.Errorf("%d objects were there already, instead of 8", again)
	}
}

func TestArchiveAETitle(t *testing.T) {
	n := proxytest.NewNetwork()
	archive, _ := newArchive(t, dicom.ArchiveConfig{AETitle: "ARCHIVE"})
	address, results := serve(t, n, archive)
	_, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: n, Target: address, CalledAE: "Archive"})
	if !errors.As(err, new(*ul.RejectedError)) || !strings.Contains(err.Error(), "correct it here") {
		t.Errorf("got %v", err)
	}
	if res := <-results; res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, "upper and lower case") {
		t.Errorf("result %+v", res)
	}
}

// TestArchiveCleansUp opens a directory in which a crash has left half an object.
func TestArchiveCleansUp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".incoming-ABC", "1.2.3.dcm"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newArchive(t, dicom.ArchiveConfig{Dir: dir})
	if _, err := os.Stat(filepath.Join(dir, ".incoming-ABC")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half an object is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "1.2.3.dcm")); err != nil {
		t.Error(err)
	}
}

// TestStoreTellsWhatFailed mixes good files with bad ones.
func TestStoreTellsWhatFailed(t *testing.T) {
	n := proxytest.NewNetwork()
	archive, rec := newArchive(t, dicom.ArchiveConfig{})
	address, _ := serve(t, n, archive)
	other := dicom.Part10Meta{TransferSyntax: explicit, SOPClass: findStudy, SOPInstance: "1.2.3"}
	objects := []dicom.Object{
		dicom.BytesObject("good", file("1.2.1", "data")),
		dicom.BytesObject("text", []byte("this is no DICOM file")),
		dicom.FileObject(filepath.Join(t.TempDir(), "missing")),
		dicom.BytesObject("no storage", append(other.AppendPart10(nil), "data"...)),
		dicom.BytesObject("good too", file("1.2.2", "data")),
	}
	failed := map[string]error{}
	report, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: n, Target: address, CalledAE: "ANY"}, objects,
		func(e dicom.StoreEvent) { failed[e.Name] = e.Err })
	if err == nil || !strings.Contains(err.Error(), "3 of 5 objects were not sent") || report.Sent != 2 || report.Failed != 3 {
		t.Errorf("%+v, %v", report, err)
	}
	if failed["good"] != nil || failed["good too"] != nil || !errors.Is(failed["text"], dicom.ErrNotPart10) ||
		!strings.Contains(fmt.Sprint(failed["no storage"]), "does not accept objects of SOP class") {
		t.Errorf("%v", failed)
	}
	if len(rec.stored()) != 2 {
		t.Errorf("%d objects stored", len(rec.stored()))
	}
	n.SetDown(address, errors.New("no route to host"))
	report, err = dicom.Store(t.Context(), dicom.StoreConfig{Network: n, Target: address, CalledAE: "ANY"}, objects, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot connect") || report.Failed != 5 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestStoreManyKinds needs more presentation contexts than one association has.
func TestStoreManyKinds(t *testing.T) {
	n := proxytest.NewNetwork()
	archive, rec := newArchive(t, dicom.ArchiveConfig{})
	address, results := serve(t, n, archive)
	var objects []dicom.Object
	for i := range 300 {
		m := dicom.Part10Meta{
			TransferSyntax: explicit, SOPClass: fmt.Sprintf("%s.%d", ctStorage, i), SOPInstance: fmt.Sprintf("1.2.%d", i),
		}
		objects = append(objects, dicom.BytesObject("x", append(m.AppendPart10(nil), "data"...)))
	}
	report, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: n, Target: address, CalledAE: "ANY"}, objects, nil)
	if err != nil || report.Sent != 300 || len(rec.stored()) != 300 {
		t.Errorf("%+v, %d stored, %v", report, len(rec.stored()), err)
	}
	for i, want := range []int{128, 128, 44} {
		if res := <-results; res.Items != want {
			t.Errorf("association %d took %d objects instead of %d", i, res.Items, want)
		}
	}
}
