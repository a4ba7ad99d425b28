package coordinator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
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
	// heard is when the last frame of each had come, before the box looked at it.
	heard []time.Time
	pools int
}

func launch(b testing.TB, clinics int) *fleet {
	b.Helper()
	n, lab, boxes := newFleet(b, openStore(b), clinics)
	f := &fleet{Network: n, lab: lab, nodes: append(boxes, lab), at: make([]uint64, clinics+1), bytes: make([]int64, clinics+1), heard: make([]time.Time, clinics+1)}
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
				heard := time.Now()
				if err != nil {
					return
				}
				if err := box.Take(fr); err != nil {
					b.Errorf("node %d: %v", i, err)
					return
				}
				f.mu.Lock()
				f.at[i], f.bytes[i], f.heard[i] = fr.Generation, s.Bytes(), heard
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

func (f *fleet) heardAt(i int) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard[i]
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
			b.Run("one-change", func(b *testing.B) { f.oneChange(b, f.grant) })
			b.Run("one-site", func(b *testing.B) { f.oneChange(b, f.endpoint) })
			b.Run("center-away", f.centerAway)
			b.Run("all-change", f.allChange)
			for _, nodes := range []int{2000, 10_000} {
				if clinics >= nodes {
					b.Run(fmt.Sprintf("storm=%d", nodes), func(b *testing.B) { f.storm(b, nodes) })
				}
			}
		})
	}
}

// changed is the clinic that one change is about.
const changed = 7

// grant takes a grant away, or gives it back.
func (f *fleet) grant(b *testing.B, round int) {
	var err error
	if round%2 == 1 {
		err = f.Disallow(b.Context(), "test", "pacs", "clinic-00007")
	} else {
		_, err = f.Allow(b.Context(), "test", "pacs", "clinic-00007", 0)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// endpoint gives a site an endpoint, or another one.
func (f *fleet) endpoint(b *testing.B, round int) {
	if err := f.SetSiteEndpoint(b.Context(), "test", "clinic-00007", []string{"", "192.0.2.7:51820"}[round%2]); err != nil {
		b.Fatal(err)
	}
}

// oneChange measures, as medians, from the begin of a change until it is in the database, its clinic has heard of it and applied it, and the
// center has.
func (f *fleet) oneChange(b *testing.B, change func(b *testing.B, round int)) {
	center := len(f.nodes) - 1
	rounds := 0
	defer cpu(b, &rounds)()
	var committed, heard, applied, toCenter []time.Duration
	bytesClinic, bytesCenter := f.sent(changed), f.sent(center)
	changes := f.lab.Changes()
	for b.Loop() {
		start := time.Now()
		rounds++
		change(b, rounds)
		committed = append(committed, time.Since(start))
		gen := f.generation(b)
		f.await(changed, changed+1, gen)
		applied = append(applied, time.Since(start))
		heard = append(heard, f.heardAt(changed).Sub(start))
		f.await(center, center+1, gen)
		toCenter = append(toCenter, time.Since(start))
	}
	if f.lab.Changes()-changes != rounds {
		b.Errorf("%d of %d maps of the center came as changes", f.lab.Changes()-changes, rounds)
	}
	per := float64(rounds)
	b.ReportMetric(median(committed), "ms-to-commit")
	b.ReportMetric(median(heard), "ms-to-frame")
	b.ReportMetric(median(applied), "ms-to-clinic")
	b.ReportMetric(median(toCenter), "ms-to-center")
	b.ReportMetric(float64(f.sent(changed)-bytesClinic)/per, "B-to-clinic")
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

// centerAway is what a change costs until its clinic has it, and no more: nobody asks for the map of the center. All but the share of one
// box is the coordinator's own.
func (f *fleet) centerAway(b *testing.B) {
	f.stop()
	f.watch(b, len(f.nodes)-1)
	defer func() { f.stop(); f.watch(b, len(f.nodes)) }()
	rounds := 0
	defer cpu(b, &rounds)()
	b.ReportAllocs()
	var applied []time.Duration
	for b.Loop() {
		start := time.Now()
		rounds++
		f.grant(b, rounds)
		f.await(changed, changed+1, f.generation(b))
		applied = append(applied, time.Since(start))
	}
	b.ReportMetric(median(applied), "ms-to-clinic")
}

// median is in milliseconds.
func median(d []time.Duration) float64 {
	slices.Sort(d)
	return d[len(d)/2].Seconds() * 1000
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
