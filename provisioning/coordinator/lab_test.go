package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
)

// weather loses, doubles, delays, swaps and cuts a part of the lines that are sent to a node.
func weather(r *rand.Rand) func(line []byte) [][]byte {
	var late []byte
	return func(line []byte) [][]byte {
		out := [][]byte{line}
		if late != nil {
			out, late = append(out, late), nil
		}
		switch r.IntN(30) {
		case 0, 1:
			return out[1:]
		case 2, 3:
			return append(out, line)
		case 4, 5:
			late = line
			return out[1:]
		case 6:
			out[0] = line[:r.IntN(len(line))]
		case 7:
			time.Sleep(time.Duration(r.IntN(20_000)) * time.Millisecond)
		}
		return out
	}
}

// TestEveryNodeConverges lets nodes follow through bad weather, with frames that are lost or damaged, streams that break, coordinators that
// restart and operators who change their minds, and then wants every node to have what it should. That none ever goes back is checked by the
// nodes.
func TestEveryNodeConverges(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { convergence(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func convergence(t *testing.T, r *rand.Rand) {
	// The center has some more clinics than follow here: its map has to be large enough to travel in changes.
	const clinics, services = 5, 4
	st := openStore(t)
	n, lab, fleet := newFleet(t, st, 40)
	clinic := func(i int) string { return fmt.Sprintf("clinic-%05d", i) }
	service := func(i int) string { return fmt.Sprintf("service-%d", i) }
	boxes := map[string]*provisioningtest.Node{"lab": lab}
	for i := range clinics {
		boxes[clinic(i)] = fleet[i]
	}
	for i := range services {
		n.DICOM(t, "lab", service(i), fmt.Sprintf("AE%d", i))
	}

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var current sync.Mutex // guards n against restarts
	for site, b := range boxes {
		luck := rand.New(rand.NewPCG(r.Uint64(), 1))
		wg.Go(func() {
			for ctx.Err() == nil {
				session, cancel := context.WithTimeout(ctx, time.Duration(luck.IntN(90_000))*time.Millisecond)
				current.Lock()
				n.Adopt(b)
				current.Unlock()
				err := b.FollowIn(session, weather(luck))
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
					t.Errorf("the node of %s stopped with %v", site, err)
				}
				if luck.IntN(3) == 0 {
					time.Sleep(time.Duration(luck.IntN(20_000)) * time.Millisecond)
				}
			}
		})
	}
	for range 80 {
		c, v := clinic(r.IntN(clinics)), service(r.IntN(services))
		switch r.IntN(10) {
		case 0:
			current.Lock()
			n = provisioningtest.Open(t, st, provisioningtest.Options{})
			current.Unlock()
		case 1:
			if err := n.SetSiteEndpoint(ctx, "test", "lab", fmt.Sprintf("192.0.2.%d:51820", 1+r.IntN(200))); err != nil {
				t.Error(err)
			}
		case 2, 3, 4:
			_ = n.Disallow(ctx, "test", v, c) // often there is nothing to take away
		default:
			_, _ = n.Allow(ctx, "test", v, c, 0)
		}
		time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
	}
	time.Sleep(2 * time.Minute)

	var gen uint64
	if err := st.View(ctx, func(tx store.Tx) (err error) { gen, err = tx.Generation(); return err }); err != nil {
		t.Fatal(err)
	}
	linked := 0
	for site, b := range boxes {
		_, want, err := n.NetMapFor(ctx, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		should, err := netmap.Hash(want)
		if err != nil {
			t.Fatal(err)
		}
		has, err := netmap.Hash(b.Map())
		if err != nil {
			t.Fatal(err)
		}
		if has != should {
			t.Errorf("the node of %s has another map than it should", site)
		}
		if b.Generation() != gen {
			t.Errorf("the node of %s is at generation %d of %d", site, b.Generation(), gen)
		}
		if i := nodeInfo(t, n, b.ID); i.Applied != gen {
			t.Errorf("the node of %s is shown with generation %d of %d applied", site, i.Applied, gen)
		}
		linked += len(want.Uses)
	}
	if linked == 0 {
		t.Error("the final network is empty: nothing was tried")
	}
	if lab.Changes() == 0 || lab.Misfits() == 0 {
		t.Errorf("the center had %d maps, %d of them as changes, and %d misfits: nothing was tried", lab.Maps(), lab.Changes(), lab.Misfits())
	}
	stop()
	wg.Wait()
}

// BenchmarkChange measures one site's change in a network of 2,000 clinics, until its map is signed.
func BenchmarkChange(b *testing.B) {
	const clinics = 2000
	n := newNetwork(b, provisioningtest.Options{})
	n.Center(b, "lab", "192.0.2.1:51820")
	n.DICOM(b, "lab", "pacs", "PACS")
	n.Node(b, "lab")
	for i := range clinics {
		n.Clinic(b, fmt.Sprintf("clinic-%d", i))
	}
	box := n.Node(b, "clinic-7")
	for b.Loop() {
		n.Grant(b, "pacs", "clinic-7")
		if _, m, err := n.NetMapFor(b.Context(), box.ID); err != nil || len(m.Uses) != 1 {
			b.Fatal(m, err)
		}
		if err := n.Disallow(b.Context(), "test", "pacs", "clinic-7"); err != nil {
			b.Fatal(err)
		}
	}
}
