package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

const (
	childEnv = "TOWPATH_SPOOL_TEST_CHILD"
	keyEnv   = "TOWPATH_SPOOL_TEST_KEY" // in hexadecimal
)

// TestMain makes the test binary a producer and consumer that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child commits and delivers items and prints what it was promised, until it is killed.
func child(dir string) {
	s, err := spool.Open(dir, spool.Options{MinFreeBytes: -1})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	secret, err := hex.DecodeString(os.Getenv(keyEnv))
	if err != nil {
		fmt.Println("error", err)
		return
	}
	key, err := seal.ParsePrivateKey(secret)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	s.SealTo(key.Public())
	s.Unlock(key)
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(words...)
	}
	for range 3 {
		go func() {
			for {
				content := []byte(strings.Repeat("payload ", rand.IntN(1+rand.IntN(20_000))))
				w, err := s.Create(spool.Meta{Queue: "q"})
				if err != nil {
					say("error", err)
					return
				}
				_, _ = w.Write(content)
				it, err := w.Commit()
				if err != nil {
					say("error", err)
					return
				}
				say("committed", it.ID, it.Size)
			}
		}()
	}
	for {
		l, err := s.Next(context.Background(), "q")
		if err != nil {
			say("error", err)
			return
		}
		id := l.Item().ID
		switch rand.IntN(5) {
		case 0:
			err = l.Park(io.EOF)
			say("parked", id)
		case 1:
			if err = l.Carried(spool.Receipt{}); err == nil {
				say("carried", id)
				err = answer(s, say)
			}
		default:
			say("leaving", id)
			err = l.Done(spool.Receipt{})
			say("done", id)
		}
		if err != nil {
			say("error", err)
		}
	}
}

// answer resolves the oldest item that was carried, one time in two.
func answer(s *spool.Spool, say func(...any)) error {
	list, err := s.Carried("q")
	if err != nil || rand.IntN(2) == 0 {
		return err
	}
	say("leaving", list[0].ID)
	if err := s.Resolve(list[0].ID, spool.Done(spool.Receipt{})); err != nil {
		return err
	}
	say("done", list[0].ID)
	return nil
}

// TestKill kills a working process at random moments, again and again on the same directory.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, key := t.TempDir(), newSealKey(t)
	secret, err := key.RevealBytes()
	if err != nil {
		t.Fatal(err)
	}
	size, fate := map[spool.ID]string{}, map[spool.ID]string{}
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir, keyEnv+"="+hex.EncodeToString(secret))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(100+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			switch id := spool.ID(f[1]); f[0] {
			case "committed":
				size[id] = f[2]
				if fate[id] == "" { // the consumer may have been faster
					fate[id] = f[0]
				}
			case "leaving", "done", "parked", "carried":
				fate[id] = f[0]
			default:
				t.Error(lines.Text())
			}
		}
		_ = cmd.Wait()
		kill.Stop()

		s, err := spool.Open(dir, spool.Options{MinFreeBytes: -1})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s.Unlock(key)
		items, err := s.List("q", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		found := map[spool.ID]spool.State{}
		for _, it := range items {
			found[it.ID] = it.State
			if want := size[it.ID]; want != "" && want != fmt.Sprint(it.Size) {
				t.Errorf("round %d: item %s has %d bytes, not %s", round, it.ID, it.Size, want)
			}
		}
		for id, f := range fate {
			state, there := found[id]
			if f == "committed" && !there || f == "done" && there || f == "parked" && state != spool.StateParked ||
				f == "carried" && state != spool.StateCarried {
				t.Errorf("round %d: item %s was %s, now it is there: %v, state %q", round, id, f, there, state)
			}
		}
		verify(t, s)
		if u, err := s.Usage(); err != nil || u.Quarantined != 0 {
			t.Errorf("round %d: %+v, %v", round, u, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(fate) == 0 {
			t.Fatal("the child did nothing")
		}
	}
	t.Logf("%d items through 6 kills", len(fate))
}

// verify reads all queued items.
func verify(t *testing.T, s *spool.Spool) {
	t.Helper()
	for range s.Stats()[0].Queued {
		l := next(t, s, "q")
		r, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil || len(bytes.ReplaceAll(b, []byte("payload "), nil)) != 0 {
			t.Errorf("item %s: %d bytes, %v", l.Item().ID, len(b), err)
		}
	}
}
