package coordinator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// fleet is a network whose nodes all watch. Their work, of which verifying is most, is done in this process as well.
type fleet struct {
	*provisioningtest.Network
	lab    *provisioningtest.Node
	nodes  []*provisioningtest.Node // lab is the last
	stop   func()
	mu     sync.Mutex
	change sync.Cond
	// at is the generation each node has been told of, bytes what was sent to it.
	at    []uint64
	bytes []int64
	pools int
}

func launch(b testing.TB, clinics int) *fleet {
	b.Helper()
	n, lab, boxes := newFleet(b, openStore(b), clinics)
	f := &fleet{Network: n, lab: lab, nodes: append(boxes, lab), at: make([]uint64, clinics+1), bytes: make([]int64, clinics+1)}
	f.change.L = &f.mu
	f.watch(b, len(f.nodes))
	return f
}

// watch lets the first nodes, or all, follow until stop, and waits until they have heard something.
func (f *fleet) watch(b testing.TB, nodes int) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	var wg sync.WaitGroup
	clear(f.at[:nodes])
	for i, box := range f.nodes[:nodes] {
		wg.Go(func() {
			s := box.Open(ctx, http.MethodGet, box.Have())
			defer s.Close()
			for {
				fr, err := s.Next()
				if err != nil {
					return
				}
				if err := box.Take(fr); err != nil {
					b.Errorf("node %d: %v", i, err)
					return
				}
				f.mu.Lock()
				f.at[i], f.bytes[i] = fr.Generation, s.Bytes()
				f.change.Broadcast()
				f.mu.Unlock()
			}
		})
	}
	f.stop = func() { cancel(); wg.Wait() }
	f.await(0, nodes, 1)
}

// await returns when the nodes from i to j know a generation.
func (f *fleet) await(i, j int, gen uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i < j {
		if f.at[i] >= gen {
			i++
			continue
		}
		f.change.Wait()
	}
}

func (f *fleet) generation(b testing.TB) uint64 {
	b.Helper()
	var gen uint64
	if err := f.Store.View(b.Context(), func(tx store.Tx) (err error) { gen, err = tx.Generation(); return err }); err != nil {
		b.Fatal(err)
	}
	return gen
}

// sent is how much was sent to a node since its stream began.
func (f *fleet) sent(i int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes[i]
}

// BenchmarkFleet measures a network in which all nodes watch. It is to be run with -benchtime of a few rounds.
func BenchmarkFleet(b *testing.B) {
	for _, clinics := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("clinics=%d", clinics), func(b *testing.B) {
			f := launch(b, clinics)
			defer func() { f.stop() }()
			b.Run("one-change", f.oneChange)
			b.Run("all-change", f.allChange)
			for _, nodes := range []int{2000, 10_000} {
				if clinics >= nodes {
					b.Run(fmt.Sprintf("storm=%d", nodes), func(b *testing.B) { f.storm(b, nodes) })
				}
			}
		})
	}
}

// oneChange takes a grant away or gives it back.
func (f *fleet) oneChange(b *testing.B) {
	const clinic = 7
	center := len(f.nodes) - 1
	rounds := 0
	defer cpu(b, &rounds)()
	var toClinic, toCenter time.Duration
	bytesClinic, bytesCenter := f.sent(clinic), f.sent(center)
	changes := f.lab.Changes()
	for b.Loop() {
		start := time.Now()
		var err error
		if rounds++; rounds%2 == 1 {
			err = f.Disallow(b.Context(), "test", "pacs", "clinic-00007")
		} else {
			_, err = f.Allow(b.Context(), "test", "pacs", "clinic-00007", 0)
		}
		if err != nil {
			b.Fatal(err)
		}
		gen := f.generation(b)
		f.await(clinic, clinic+1, gen)
		toClinic += time.Since(start)
		f.await(center, center+1, gen)
		toCenter += time.Since(start)
	}
	if f.lab.Changes()-changes != rounds {
		b.Errorf("%d of %d maps of the center came as changes", f.lab.Changes()-changes, rounds)
	}
	per := float64(rounds)
	b.ReportMetric(toClinic.Seconds()*1000/per, "ms-to-clinic")
	b.ReportMetric(toCenter.Seconds()*1000/per, "ms-to-center")
	b.ReportMetric(float64(f.sent(clinic)-bytesClinic)/per, "B-to-clinic")
	b.ReportMetric(float64(f.sent(center)-bytesCenter)/per, "B-to-center")
	_, m, err := f.NetMapFor(b.Context(), f.lab.ID)
	if err != nil {
		b.Fatal(err)
	}
	e, err := wire.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(e.Payload)), "B-map-of-center")
}

// allChange adds a pool, which is in every map.
func (f *fleet) allChange(b *testing.B) {
	rounds := 0
	defer cpu(b, &rounds)()
	var maps int
	for _, n := range f.nodes {
		maps -= n.Maps()
	}
	for b.Loop() {
		rounds++
		f.pools++
		pool := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(f.pools >> 8), byte(f.pools), 0}), 24)
		if _, err := f.AddRange(b.Context(), "test", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: pool, Force: true}); err != nil {
			b.Fatal(err)
		}
		f.await(0, len(f.nodes), f.generation(b))
	}
	for _, n := range f.nodes {
		maps += n.Maps()
	}
	if maps < rounds*len(f.nodes) {
		b.Errorf("%d nodes had %d maps in %d rounds", len(f.nodes), maps, rounds)
	}
}

// storm lets nodes come back in one moment.
func (f *fleet) storm(b *testing.B, nodes int) {
	f.stop()
	for b.Loop() {
		rounds := 1
		done := cpu(b, &rounds)
		f.watch(b, nodes)
		done()
		f.stop()
	}
}

// cpu reports the processor time since its call for one round, which other work on the machine does not change, and which the boxes' share is part of.
func cpu(b *testing.B, rounds *int) func() {
	used := func() time.Duration {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	start := used()
	return func() {
		b.ReportMetric((used()-start).Seconds()*1000/float64(*rounds), "cpu-ms/round")
	}
}

// BenchmarkMemoryPerNode measures the coordinator's side of a watch with heartbeats both ways, without its connection: nobody is at the
// other end.
func BenchmarkMemoryPerNode(b *testing.B) {
	const clinics = 10_000
	n, _, boxes := newFleet(b, openStore(b), clinics)
	before := memory()
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	var up sync.WaitGroup
	up.Add(clinics)
	for _, box := range boxes {
		body, w := io.Pipe()
		wg.Go(func() {
			defer w.Close()
			box.Call(ctx, &sink{up: sync.OnceFunc(up.Done)}, http.MethodPost, wire.PathWatch+"?"+box.Have().Query(), body)
		})
	}
	up.Wait()
	for b.Loop() {
		b.ReportMetric(float64(memory()-before)/clinics, "B/node")
	}
	cancel()
	wg.Wait()
	runtime.KeepAlive(n)
}

func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// sink takes everything.
type sink struct{ up func() }

func (s *sink) Header() http.Header         { return http.Header{} }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      { s.up() }
