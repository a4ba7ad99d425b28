package netstack_test

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/tunneltest"
)

// Streams both ways survive a network on which packets overtake each other.
func TestStreamsSurviveReordering(t *testing.T) {
	for name, detour := range map[string]func([]byte) time.Duration{
		"some by much": func([]byte) time.Duration {
			if rand.IntN(50) == 0 {
				return time.Duration(rand.IntN(30)) * time.Millisecond
			}
			return 0
		},
		"many by little": func([]byte) time.Duration { return time.Duration(rand.IntN(4)) * time.Millisecond / 2 },
		"small ones overtake": func(p []byte) time.Duration {
			if len(p) < 200 {
				return 0
			}
			return 50 * time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			network := tunneltest.NewNetwork()
			network.Delay = 2 * time.Millisecond
			network.Detour = detour
			devices, _ := pair(t, network, 1280)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
			defer cancel()
			at := netip.MustParseAddrPort("100.64.0.2:104")
			ln, err := devices[1].Listen(ctx, "tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			const size = 2 << 20
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			want := sha256.Sum256(data)
			ends := make(chan error, 4)
			begin := time.Now()
			go func() {
				c, err := ln.Accept()
				if err != nil {
					ends <- err
					return
				}
				exchange(t, ctx, c, data, want, ends)
			}()
			c, err := devices[0].DialContext(ctx, "tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, ctx, c, data, want, ends)
			for range 4 {
				select {
				case err := <-ends:
					if err != nil {
						t.Error(err)
					}
				case <-ctx.Done():
					t.Fatal("a stream stands still")
				}
			}
			t.Logf("%d MiB each way in %v", size>>20, time.Since(begin).Round(time.Millisecond))
		})
	}
}

// exchange sends and receives at once.
func exchange(t *testing.T, ctx context.Context, c io.ReadWriteCloser, data []byte, want [32]byte, ends chan<- error) { //nolint:revive // the test is first
	t.Helper()
	context.AfterFunc(ctx, func() { _ = c.Close() })
	go func() {
		_, err := c.Write(data)
		ends <- err
	}()
	go func() {
		h := sha256.New()
		_, err := io.CopyN(h, halting{c}, int64(len(data)))
		if err == nil && [32]byte(h.Sum(nil)) != want {
			t.Error("other bytes arrived")
		}
		ends <- err
	}()
}

// halting is a reader that lets the window close now and then.
type halting struct{ io.Reader }

func (h halting) Read(p []byte) (int, error) {
	if rand.IntN(100) == 0 {
		<-time.After(time.Duration(rand.IntN(40)) * time.Millisecond)
	}
	return h.Reader.Read(p)
}
