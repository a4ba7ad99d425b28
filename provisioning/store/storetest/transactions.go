package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

var errGiveUp = errors.New("the caller gives up")

func generation(t testing.TB, s store.Store) uint64 {
	t.Helper()
	var g uint64
	view(t, s, func(tx store.Tx) (err error) {
		g, err = tx.Generation()
		return err
	})
	return g
}

func bump(tx store.Tx) error {
	_, err := tx.Bump()
	return err
}

func testGeneration(t *testing.T, s store.Store) {
	start := generation(t, s)
	update(t, s, func(tx store.Tx) error {
		for range 3 {
			got, err := tx.Bump()
			if err != nil {
				return err
			}
			same(t, "bumped", start+1, got)
		}
		got, err := tx.Generation()
		same(t, "seen by its own transaction", start+1, got)
		return err
	})
	same(t, "after one transaction", start+1, generation(t, s))
	update(t, s, func(store.Tx) error { return nil })
	same(t, "after a transaction without Bump", start+1, generation(t, s))
	refused(t, s, errGiveUp, "rolled back", func(tx store.Tx) error { return errors.Join(bump(tx), errGiveUp) })
	same(t, "after a rollback", start+1, generation(t, s))
	update(t, s, bump)
	same(t, "after the next", start+2, generation(t, s))
}

func testViewCannotWrite(t *testing.T, s store.Store) {
	v := withSites(t, s, "berlin")[0]
	before := generation(t, s)
	for what, fn := range map[string]func(store.Tx) error{
		"create": func(tx store.Tx) error { return tx.Sites().Create(site("aachen")) },
		"remove": func(tx store.Tx) error { return tx.Sites().Remove(v.ID) },
		"set":    func(tx store.Tx) error { return tx.SetSetting("k", "v") },
		"bump":   bump,
		"append": func(tx store.Tx) error { _, err := tx.Events().Append(provisioning.Event{At: now()}); return err },
	} {
		if err := s.View(t.Context(), fn); err == nil {
			t.Errorf("%s inside View succeeded", what)
		}
	}
	view(t, s, func(tx store.Tx) error {
		list, err := tx.Sites().List()
		same(t, "sites", []provisioning.Site{v}, list)
		return err
	})
	same(t, "generation", before, generation(t, s))
}

func testRollback(t *testing.T, s store.Store) {
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Sites().Create(site("berlin")); err != nil {
			return err
		}
		// A transaction sees what it wrote.
		if _, err := tx.Sites().ByName("berlin"); err != nil {
			return err
		}
		if _, err := tx.Events().Append(provisioning.Event{At: now(), Action: "site.create"}); err != nil {
			return err
		}
		return errGiveUp
	})
	if !errors.Is(err, errGiveUp) {
		t.Fatalf("got %v, want the error of fn", err)
	}
	view(t, s, func(tx store.Tx) error {
		sites, err := tx.Sites().List()
		if err != nil {
			return err
		}
		events, err := tx.Events().List(0, 10)
		if len(sites)+len(events) > 0 {
			t.Errorf("a transaction that was given up left %v and %v", sites, events)
		}
		return err
	})
}

func testRollbackOnPanic(t *testing.T, s store.Store) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.Sites().Create(site("berlin")); err != nil {
				t.Error(err)
			}
			panic("a mistake")
		})
	}()
	// The writer must be free again, and nothing left.
	withSites(t, s, "berlin")
}

func testTxEnds(t *testing.T, s store.Store) {
	var kept store.Tx
	keep := func(tx store.Tx) error { kept = tx; return nil }
	update(t, s, keep)
	if err := kept.Sites().Create(site("late")); err == nil {
		t.Error("a Tx wrote after its Update ended")
	}
	view(t, s, keep)
	if _, err := kept.Sites().List(); err == nil {
		t.Error("a Tx read after its View ended")
	}
}

func testCanceled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := tx.Sites().Create(site("berlin")); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if err == nil {
		t.Error("a transaction committed although its context had ended")
	}
	if err := s.View(ctx, func(store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View with an ended context: %v", err)
	}
	withSites(t, s, "berlin")
}

// testConsistentView reads one half before a commit and the other half after it, in one View.
func testConsistentView(t *testing.T, s store.Store) {
	withSites(t, s, "berlin")
	before := generation(t, s)
	view(t, s, func(tx store.Tx) error {
		update(t, s, func(w store.Tx) error { return errors.Join(w.Sites().Create(site("aachen")), bump(w)) })
		sites, err := tx.Sites().List()
		if err != nil {
			return err
		}
		got, err := tx.Generation()
		if len(sites) != 1 || got != before {
			t.Errorf("a View saw a later commit: %d sites, generation %d after %d", len(sites), got, before)
		}
		return err
	})
	// While an Update runs, nobody sees or waits for it.
	update(t, s, func(w store.Tx) error {
		if err := w.Sites().Remove("site_berlin"); err != nil {
			return err
		}
		view(t, s, func(tx store.Tx) error {
			sites, err := tx.Sites().List()
			same(t, "sites seen beside an unfinished Update", 2, len(sites))
			return err
		})
		return nil
	})
}

func testWatch(t *testing.T, s store.Store) {
	start := generation(t, s)
	if start > 0 {
		if got, err := s.Watch(t.Context(), start-1); err != nil || got != start {
			t.Errorf("Watch below = %d, %v, want %d at once", got, err, start)
		}
	}
	type result struct {
		generation uint64
		err        error
	}
	woken := make(chan result, 1)
	go func() {
		g, err := s.Watch(t.Context(), start)
		woken <- result{g, err}
	}()
	// Neither of these is a rise.
	update(t, s, func(tx store.Tx) error { return tx.Sites().Create(site("berlin")) })
	refused(t, s, errGiveUp, "given up", func(tx store.Tx) error { return errors.Join(bump(tx), errGiveUp) })
	select {
	case r := <-woken:
		t.Fatalf("woken without a rise: %+v", r)
	default:
	}
	update(t, s, bump)
	if r := <-woken; r != (result{start + 1, nil}) {
		t.Errorf("woken with %+v, want generation %d", r, start+1)
	}
	if got, err := s.Watch(t.Context(), start); err != nil || got != start+1 {
		t.Errorf("Watch after the fact = %d, %v", got, err)
	}
}

func testWatchEnds(t *testing.T, s store.Store) {
	start := generation(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	watch := func(ctx context.Context) {
		_, err := s.Watch(ctx, start)
		ended <- err
	}
	go watch(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	go watch(t.Context())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed while watching: %v, want ErrClosed", err)
	}
	fn := func(store.Tx) error { return nil }
	for what, err := range map[string]error{"View": s.View(t.Context(), fn), "Update": s.Update(t.Context(), fn)} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// testWatchMany has watchers follow many rises: none may miss the last, and what they see only grows and is committed.
func testWatchMany(t *testing.T, s store.Store) {
	const watchers, rises = 20, 50
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := generation(t, s)
	var wg sync.WaitGroup
	for range watchers {
		wg.Go(func() {
			for have := start; have < start+rises; {
				got, err := s.Watch(ctx, have)
				if err != nil || got <= have {
					t.Errorf("Watch(%d) = %d, %v", have, got, err)
					return
				}
				have = got
				err = s.View(ctx, func(tx store.Tx) error {
					if g, err := tx.Generation(); err != nil || g < have {
						t.Errorf("woken for %d, but it reads %d, %v", have, g, err)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range rises {
		update(t, s, bump)
	}
	wg.Wait()
}

func testEvents(t *testing.T, s store.Store) {
	var made []provisioning.Event
	for i, action := range []string{"site.create", "token.create", "node.enroll"} {
		update(t, s, func(tx store.Tx) error {
			e, err := tx.Events().Append(provisioning.Event{
				At: now().Add(time.Duration(i)), Actor: "operator:anna", Action: action, Subject: "berlin", Detail: "größer\x00\n",
			})
			made = append(made, e)
			return err
		})
	}
	var prev provisioning.Event
	for i, e := range made {
		if !store.Follows(prev, e) || e.Seq != uint64(i+1) {
			t.Errorf("event %d does not follow: %+v", i, e)
		}
		prev = e
	}
	list := func(after uint64, limit int) (out []provisioning.Event) {
		view(t, s, func(tx store.Tx) (err error) {
			out, err = tx.Events().List(after, limit)
			return err
		})
		return out
	}
	same(t, "all", made, list(0, 10))
	same(t, "a page", made[1:2], list(1, 1))
	same(t, "behind the last", 0, len(list(3, 10)))
	same(t, "behind everything", 0, len(list(1<<64-1, 10)))
	same(t, "none", 0, len(list(0, 0)))
	view(t, s, func(tx store.Tx) error {
		broken, err := tx.Events().Verify()
		same(t, "broken", uint64(0), broken)
		return err
	})
}
