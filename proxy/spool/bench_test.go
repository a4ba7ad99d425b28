package spool_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/towpath/towpath/proxy/spool"
)

func put(tb testing.TB, s spool.Queue, queue string, payload []byte) spool.Item {
	tb.Helper()
	w, err := s.Create(spool.Meta{Queue: queue})
	if err != nil {
		tb.Fatalf("Create: %v", err)
	}
	defer w.Abort()
	if _, err := w.Write(payload); err != nil {
		tb.Fatalf("Write: %v", err)
	}
	it, err := w.Commit()
	if err != nil {
		tb.Fatalf("Commit: %v", err)
	}
	return it
}

// BenchmarkPut measures Create, Write and Commit, by one producer and by sixteen.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{10 << 10, 512 << 10} {
		for i := range 4 {
			producers, form := 1+15*(i/2), []string{"plain", "sealed"}[i%2]
			b.Run(fmt.Sprintf("%dKiB/%d/%s", size>>10, producers, form), func(b *testing.B) {
				s, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				if form == "sealed" {
					s.SealTo(newSealKey(b).Public())
				}
				payload := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.SetParallelism(producers)
				if producers == 1 {
					for b.Loop() {
						put(b, s, "bench", payload)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						put(b, s, "bench", payload)
					}
				})
			})
		}
	}
}

// BenchmarkOpen reads an item's payload from a warm cache, plain and sealed.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{10 << 10, 8 << 20} {
		for _, form := range []string{"plain", "sealed"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, form), func(b *testing.B) {
				s, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				if form == "sealed" {
					s.SealTo(newSealKey(b).Public())
				}
				id := put(b, s, "bench", make([]byte, size)).ID
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r, err := s.Payload(id)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, r); err != nil {
						b.Fatal(err)
					}
					_ = r.Close()
				}
			})
		}
	}
}

// BenchmarkThrough measures an item's whole way, one after the other as in an ordered queue.
func BenchmarkThrough(b *testing.B) {
	s, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	payload := make([]byte, 10<<10)
	for b.Loop() {
		put(b, s, "bench", payload)
		l, err := s.Next(context.Background(), "bench")
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Done(spool.Receipt{}); err != nil {
			b.Fatal(err)
		}
	}
}
