package crashtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy/dicom"
)

// canary is in every object, and may be in no log.
const canary = "CRASHCANARY^DOROTHEA"

type object struct {
	uid  string
	sum  [sha256.Size]byte
	file []byte
}

// makeObjects makes small ones, and sometimes a large one: one of 8 MiB and more is resumed where it was when a box has died in its middle.
func makeObjects(seed uint64, r *rand.Rand) []object {
	large := r.IntN(12) == 0
	out := make([]object, 2+r.IntN(11))
	for i := range out {
		uid := fmt.Sprintf("1.2.826.0.1.3680043.10.1.%d.%d", seed, i+1)
		pixels := make([]byte, 2*(100+r.IntN(4000)))
		if r.IntN(4) == 0 {
			pixels = make([]byte, 2*(20_000+r.IntN(100_000)))
		}
		if i == 0 && large {
			pixels = make([]byte, 2*(4_500_000+r.IntN(6_000_000)))
		}
		noise := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(i)})
		_, _ = noise.Read(pixels) // never fails
		copy(pixels, canary)
		data := slices.Concat(
			element(0x0008, 0x0016, pad("1.2.840.10008.5.1.4.1.1.2")), element(0x0008, 0x0018, pad(uid)), element(0x0010, 0x0010, []byte(canary)),
			element(0x0020, 0x000D, pad("1.2.77")), element(0x0020, 0x000E, pad("1.2.77.1")), element(0x7FE0, 0x0010, pixels),
		)
		meta := dicom.Part10Meta{TransferSyntax: "1.2.840.10008.1.2", SOPClass: "1.2.840.10008.5.1.4.1.1.2", SOPInstance: uid, SourceAE: "CT1"}
		out[i] = object{uid: uid, sum: sha256.Sum256(data), file: append(meta.AppendPart10(nil), data...)}
	}
	return out
}

// modality sends each object until it is told success, and then never again.
type modality struct {
	objects []object
	address func() string
	foreign string // dcmtk's storescu; empty for our own
	dir     string // for its files

	mu     sync.Mutex
	acked  map[string]bool
	sent   int
	onAck  func(uid string)
	pauses func() time.Duration
	cancel context.CancelFunc
	done   chan struct{}
}

func (m *modality) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done, m.acked = cancel, make(chan struct{}), map[string]bool{}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil && m.round(ctx) {
			select {
			case <-ctx.Done():
			case <-time.After(m.pauses()):
			}
		}
	}()
}

// round tries what is left, a few at a time, and says whether anything is still left.
func (m *modality) round(ctx context.Context) bool {
	var left []object
	var files []dicom.Object
	m.mu.Lock()
	for _, o := range m.objects {
		if !m.acked[o.uid] && len(left) < 3 {
			left, files = append(left, o), append(files, dicom.BytesObject(o.uid, bytes.Clone(o.file)))
		}
	}
	m.mu.Unlock()
	if len(left) == 0 {
		return false
	}
	if m.foreign != "" {
		m.storescu(ctx, left[0])
		return true
	}
	cfg := dicom.StoreConfig{Network: &lan.Network{}, Target: m.address(), CallingAE: "CT1", CalledAE: calledAE}
	_, _ = dicom.Store(ctx, cfg, files, func(e dicom.StoreEvent) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sent++
		if e.Err == nil && e.Status == 0 {
			m.acked[left[e.Index].uid] = true
			m.onAck(left[e.Index].uid)
		}
	})
	return true
}

// storescu sends one object with dcmtk's program, as the bytes that it is: it ends well when it was answered success.
func (m *modality) storescu(ctx context.Context, o object) {
	path := filepath.Join(m.dir, o.uid+".dcm")
	if err := os.WriteFile(path, o.file, 0o600); err != nil {
		return
	}
	host, port, _ := net.SplitHostPort(m.address())
	cmd := exec.CommandContext(ctx, m.foreign, "-xi", "-aet", "CT1", "-aec", calledAE, host, port, path)
	cmd.Env = append(os.Environ(), "TCP_NODELAY=1")
	err := cmd.Run()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent++
	if err == nil {
		m.acked[o.uid] = true
		m.onAck(o.uid)
	}
}

func (m *modality) told() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.acked)
}
