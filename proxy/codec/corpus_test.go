package codec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy/codec"
)

// writeCorpus adds what is missing to the corpus of the present version. Files that are there are never written again: they stand for
// the programs that are in the field.
var writeCorpus = flag.Bool("write-corpus", false, "add missing files to the corpus of the present version")

// corpus are small pictures of all kinds. A new method or transform needs a new name here.
func corpus() map[string][]byte {
	all := map[string][]byte{}
	for name, p := range map[string]image{
		"gray16":      {rows: 40, cols: 50, noise: 5},
		"signed":      {rows: 90, cols: 100, noise: 5, signed: true},
		"linear":      {rows: 120, cols: 110, noise: 1},
		"median":      {rows: 60, cols: 60, noise: 0.1},
		"flat":        {rows: 200, cols: 200, noise: 0.2, bits: 8},
		"sparse":      {rows: 130, cols: 120, noise: 4, step: 20},
		"big-endian":  {syntax: explicitBig, rows: 90, cols: 100, noise: 4, bits: 16},
		"implicit":    {syntax: implicitLittle, rows: 33, cols: 35, noise: 5},
		"gray8":       {rows: 60, cols: 70, bits: 8, noise: 6},
		"color":       {rows: 40, cols: 40, bits: 8, comps: 3, noise: 6},
		"planar":      {rows: 30, cols: 40, frames: 2, bits: 8, comps: 3, planar: true, noise: 6},
		"color16":     {rows: 25, cols: 30, bits: 16, comps: 3, noise: 6},
		"frames":      {rows: 16, cols: 16, frames: 20, noise: 5, tail: true},
		"numbers":     {rows: 30, cols: 30, bits: 32, stored: 24, noise: 2},
		"junk":        {rows: 40, cols: 40, stored: 10, bits: 16, junk: true, noise: 2},
		"cut":         {rows: 50, cols: 50, noise: 5, cut: 1001},
		"one-row":     {rows: 1, cols: 3000, noise: 5},
		"one-column":  {rows: 1500, cols: 1, noise: 5},
		"two-by-many": {rows: 2, cols: 2, frames: 400, noise: 5},
	} {
		all[name] = p.dataSet(uint64(len(name))).part10()
	}
	all["waveform"] = waveform(explicitLittle, 8, 600, 1, 3).part10()
	all["curves"] = waveform(explicitLittle, 4, 900, 40, 3).part10()
	all["curves-big"] = waveform(explicitBig, 4, 900, 40, 3).part10()
	all["half"] = half()
	all["empty"] = nil
	all["text"] = []byte(strings.Repeat("neither image nor waveform. ", 20))
	all["random"] = named()["random"][:2000]
	all["bands"] = image{rows: 1200, cols: 1000, noise: 0}.dataSet(1).part10()
	return all
}

// half is a picture that is empty above: there is only one token in its quiet context for more than a chunk.
func half() []byte {
	p := image{rows: 700, cols: 400, bits: 8, noise: 3}
	object := p.dataSet(1).part10()
	clear(object[len(object)-700*400:][:350*400])
	return object
}

// TestCorpus decodes what this and older versions have written, to the recorded digests.
func TestCorpus(t *testing.T) {
	present := filepath.Join("testdata", fmt.Sprintf("v%d", codec.Version))
	if *writeCorpus {
		addToCorpus(t, present)
	}
	if got, err := filepath.Glob(filepath.Join(present, "*.twpc")); err != nil || len(got) < len(corpus()) {
		t.Errorf("%d files of the present version, want %d (error %v): run the test with -write-corpus", len(got), len(corpus()), err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.twpc"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	c := codec.New(1)
	for _, file := range files {
		encoded, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := os.ReadFile(filepath.Join(filepath.Dir(file), "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		var back bytes.Buffer
		if _, err := c.Decode(&back, bytes.NewReader(encoded), 1<<30); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		sum := sha256.Sum256(back.Bytes())
		name := strings.TrimSuffix(filepath.Base(file), ".twpc")
		if line := hex.EncodeToString(sum[:]) + "  " + name + "\n"; !strings.Contains(string(sums), line) {
			t.Errorf("%s: decoded to other bytes than recorded: %s", file, line)
		}
	}
}

func addToCorpus(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := os.OpenFile(filepath.Join(folder, "SHA256SUMS"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	objects := corpus()
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		object := objects[name]
		file := filepath.Join(folder, name+".twpc")
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := os.WriteFile(file, encode(t, codec.New(1), object, codec.Hints{}), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(list, "%x  %s\n", sha256.Sum256(object), name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnknownVersion: an object of a newer program is refused with a message that says what to do.
func TestUnknownVersion(t *testing.T) {
	c := codec.New(1)
	encoded := encode(t, c, named()["odd"], codec.Hints{})
	for _, version := range []byte{0, codec.Version + 1, 255} {
		encoded[4] = version
		_, err := c.Decode(io.Discard, bytes.NewReader(encoded), 1<<30)
		if !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), fmt.Sprint(version)) || !strings.Contains(err.Error(), "update") {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
