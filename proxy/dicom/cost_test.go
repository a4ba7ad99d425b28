package dicom_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"testing"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/spool"
)

// TestMemoryOfAnAssociation holds many associations in the middle of an object, over real sockets, and looks at the heap. Both
// ends are in this process, so that what is measured is above what the product pays.
func TestMemoryOfAnAssociation(t *testing.T) {
	const count, limit = 40, 768 << 10
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: &memoryQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, loopback{}, r)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	set := dimse.StoreRQ{SOPClass: ctStorage, SOPInstance: "1.2.3", HasDataSet: true}.Set()
	arrived, sent := make(chan struct{}), make(chan struct{})
	var writers []*io.PipeWriter
	for range count {
		a := associate(t, loopback{}, address, "X", context1(ctStorage, explicit))
		pr, pw := io.Pipe()
		writers = append(writers, pw)
		go func() {
			_, _ = a.Send(t.Context(), 1, set.Encode(), pr)
			sent <- struct{}{}
		}()
		go func() {
			_, _ = pw.Write(make([]byte, 200<<10)) // one full fragment goes out, the rest stays in the sender's buffer
			arrived <- struct{}{}
		}()
	}
	for range count {
		<-arrived
	}
	each := (heap() - before) / count
	t.Logf("%d KiB for each association, both ends", each>>10)
	if each > limit {
		t.Errorf("%d KiB for each association, more than %d", each>>10, limit>>10)
	}
	for _, w := range writers {
		_ = w.Close()
	}
	for range count {
		<-sent
	}
}

// discardQueue takes everything, digests it as the real queue does, and keeps nothing.
type discardQueue struct{ memoryQueue }

func (*discardQueue) Create(spool.Meta) (spool.Writer, error) {
	return &discardWriter{h: sha256.New()}, nil
}

type discardWriter struct{ h hash.Hash }

func (w *discardWriter) Write(b []byte) (int, error) { return w.h.Write(b) }

func (w *discardWriter) Commit() (spool.Item, error) { return spool.Item{}, nil }

func (w *discardWriter) Abort() {}

// BenchmarkStore sends objects of several sizes from Store to a queued route over loopback sockets.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{10 << 10, 526 << 10, 8 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			r, err := dicom.NewRouter(dicom.RouterConfig{
				Queue: &discardQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}},
			})
			if err != nil {
				b.Fatal(err)
			}
			address, _ := serve(b, loopback{}, r)
			one := dicom.BytesObject("x", file("1.2.3", string(bytes.Repeat([]byte{1, 2}, size/2))))
			objects := make([]dicom.Object, b.N)
			for i := range objects {
				objects[i] = one
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			cfg := dicom.StoreConfig{Network: loopback{}, Target: address, CalledAE: "X"}
			if _, err := dicom.Store(b.Context(), cfg, objects, nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}
