package dicom_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateMatrix = flag.Bool("update", false, "write docs/peer-matrix.md")

// matrixMode is a way from the user of a service to its provider.
type matrixMode int

const (
	modeDirectly matrixMode = iota
	modePassed
	modeQueued
	modePassedTLS
	modeQueuedTLS
)

func (m matrixMode) String() string {
	return [...]string{"directly", "pass-through", "queued", "TLS, pass-through", "TLS, queued"}[m]
}

// secure says whether the user speaks TLS to the gateway, through whether there is a gateway at all, and store whether it queues.
func (m matrixMode) secure() bool  { return m == modePassedTLS || m == modeQueuedTLS }
func (m matrixMode) through() bool { return m != modeDirectly }
func (m matrixMode) store() bool   { return m == modeQueued || m == modeQueuedTLS }

// matrixRow is one operation between two peers.
type matrixRow struct {
	operation, programs string
	to                  *provider
	// arrive is where objects arrive; nil means at to, if that keeps objects.
	arrive *provider
	// objects says that objects arrive, queue that the operation can be queued, and plain that the user cannot speak TLS.
	objects, queue, plain bool
	// do runs the user against a door and says what came of it.
	do func(t *testing.T, d door) (string, error)
}

// matrixPeer is one product.
type matrixPeer struct {
	name string
	// lacks says what is not installed.
	lacks func(t *testing.T) string
	// version is the product's own word.
	version func(t *testing.T) string
	note    string
	// rows is nil for a peer that cannot be obtained.
	rows func(l *matrixLab) []matrixRow
}

// unobtained is the part of the document of a peer without rows.
func (p matrixPeer) unobtained() string { return fmt.Sprintf("\n## %s\n\n%s\n", p.name, p.note) }

// TestPeerMatrix runs every operation of every real peer directly and through two gateways, and compares what comes of it with
// docs/peer-matrix.md, which it writes with -update. What a peer refuses directly too is shown and is no failure.
func TestPeerMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs other programs")
	}
	path := filepath.Join("..", "..", "docs", "peer-matrix.md")
	committed, err := os.ReadFile(path)
	if err != nil && !*updateMatrix {
		t.Fatal(err)
	}
	old := sectionsOf(string(committed))
	peers := matrixPeers()
	made := make([]string, len(peers))
	t.Run("peers", func(t *testing.T) {
		for i, p := range peers {
			made[i] = p.unobtained()
			if p.rows != nil {
				made[i] = old[p.name]
			}
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				if lacks := p.lacks(t); lacks != "" {
					t.Skipf("PEER NOT RUN: %s: %s; nothing of its part of docs/peer-matrix.md was tested", p.name, lacks)
				}
				made[i] = p.section(t)
			})
		}
	})
	if t.Failed() {
		return // what failed has said so
	}
	text := matrixHead + strings.Join(made, "")
	if *updateMatrix {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, versions := withoutVersions(string(committed))
	want, seen := withoutVersions(text)
	if got != want {
		t.Errorf("docs/peer-matrix.md is not what happens, or its lines are in another order; if that is right, run this test with -update (-file +run):\n%s",
			lineDiff(got, want))
	}
	if d := cmp.Diff(versions, seen); d != "" {
		t.Logf("other versions of peers than in docs/peer-matrix.md, with the same results (-file +run):\n%s", d)
	}
}

// lineDiff returns the lines that only one of two texts has, whole.
func lineDiff(got, want string) string {
	var b strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	only := func(sign string, of, than []string) {
		for _, line := range of {
			if !slices.Contains(than, line) {
				fmt.Fprintln(&b, sign, line)
			}
		}
	}
	only("-", g, w)
	only("+", w, g)
	return b.String()
}

const matrixHead = `# Peers

Made by ` + "`go test ./proxy/dicom -run TestPeerMatrix -update`" + `, with real programs on loopback; do not edit. The lane *peers* runs it and fails if the
document is not what happens (other versions with the same results pass and are named).

The way through us is two gateways: the clinic's with its listeners for cleartext and TLS side by side, and the center's in front of the peer. *Queued* is
the queue on disk and its delivery; for C-MOVE, the way back is queued. *TLS* is the way from the device to the clinic's gateway, with certificates on both sides. Each operation runs directly first, and the test compares
every other cell with that: the same objects, bit by bit, success, the same number of matches. *with TLS* after a provider means that it takes nothing else.

- *bit-identical*: every data set that arrived is that of the file. *same as directly*: the peer itself encodes anew, and what arrived is bit by bit what arrives without us.
- *refused*: the peer does not do it without us, either because it fails by itself or because it has no TLS and the provider takes nothing else; *refused directly too*: nor through us.
- *–*: no such way, or none that was run: queries are not queued, and the program has no TLS (PixelMed has, with a Java key store, and was run without).
- *Not run* stands for a whole peer that cannot be obtained where this is built.
- A cell that fails because of us fails the test and never gets here.
`

const versionLine = "\nVersion: "

// section runs a peer's rows.
func (p matrixPeer) section(t *testing.T) string {
	l := newMatrixLab(t)
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n%s%s.\n", p.name, versionLine, p.version(t))
	if p.note != "" {
		fmt.Fprintf(&b, "\n%s\n", p.note)
	}
	b.WriteString("\n| operation | user → provider | directly | pass-through | queued | TLS, pass-through | TLS, queued |\n|---|---|---|---|---|---|---|\n")
	for _, r := range p.rows(l) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.operation, r.programs, strings.Join(l.row(t, r), " | "))
	}
	return b.String()
}

// row runs one operation in all modes.
func (l *matrixLab) row(t *testing.T, r matrixRow) []string {
	direct := l.cell(t, r, modeDirectly)
	cells := []string{direct.text}
	if direct.err != nil {
		cells[0] = "refused"
		t.Logf("%s, %s: refused directly: %v", r.operation, r.programs, direct.err)
	}
	for mode := modePassed; mode <= modeQueuedTLS; mode++ {
		if mode.store() && !r.queue || mode.secure() && r.plain {
			cells = append(cells, "–")
			continue
		}
		c := l.cell(t, r, mode)
		switch {
		case c.err != nil && direct.err != nil:
			c.text = "refused directly too"
		case c.err != nil:
			t.Errorf("%s, %s, %s: %v", r.operation, r.programs, mode, c.err)
		case direct.err == nil && (c.text != direct.text || c.objects != direct.objects):
			t.Errorf("%s, %s, %s: %s; directly: %s", r.operation, r.programs, mode, c.text, direct.text)
		}
		cells = append(cells, c.text)
	}
	return cells
}

// matrixCell is what came of one run.
type matrixCell struct {
	text    string
	objects string // digests
	err     error
}

// cell runs one operation in one mode.
func (l *matrixLab) cell(t *testing.T, r matrixRow, mode matrixMode) (c matrixCell) {
	t.Run(r.programs+", "+r.operation+", "+mode.String(), func(t *testing.T) {
		at := r.arrive
		if at == nil {
			at = r.to
		}
		if r.objects {
			at.empty(t)
		}
		d := l.way(t, r.to, mode, mode.store() && r.arrive == nil) // of a move, the way back is queued
		if at.renew != nil {
			at.renew(t)
		}
		if c.text, c.err = r.do(t, d); c.err != nil || !r.objects {
			return
		}
		if c.err = l.settled(t); c.err != nil {
			return
		}
		got := at.kept(t)
		c.objects, c.text = digestText(got), l.judge(got, c.text)
		if len(got) == 0 {
			c.err = fmt.Errorf("no object arrived, but the user says %q", c.text)
		}
	})
	return c
}

// judge says how what arrived compares with the files.
func (l *matrixLab) judge(got map[[32]byte]int, said string) string {
	same, n := true, 0
	for sum, times := range got {
		n += times
		same = same && l.sums[sum] == times
	}
	how := "same as directly"
	if same {
		how = "bit-identical"
	}
	if said != "" {
		said += ", "
	}
	return fmt.Sprintf("%s%d objects %s", said, n, how)
}

// sectionsOf splits the document at its headings.
func sectionsOf(doc string) map[string]string {
	out := map[string]string{}
	for _, part := range strings.Split(doc, "\n## ")[1:] {
		name, _, _ := strings.Cut(part, "\n")
		out[name] = "\n## " + strings.TrimSuffix(part, "\n") + "\n"
	}
	return out
}

// withoutVersions takes the versions out of a document.
func withoutVersions(doc string) (rest string, versions []string) {
	var b strings.Builder
	for line := range strings.Lines(doc) {
		if v, ok := strings.CutPrefix(line, strings.TrimPrefix(versionLine, "\n")); ok {
			versions = append(versions, v)
			continue
		}
		b.WriteString(line)
	}
	return b.String(), versions
}
