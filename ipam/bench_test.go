package ipam

import (
	"fmt"
	"net/netip"
	"testing"
)

// spaceOf returns a pool with n prefixes of four lengths, a fifth of which were released again, so that it has holes of all sizes.
func spaceOf(b *testing.B, n int) (*Space, []netip.Prefix) {
	b.Helper()
	s, err := NewSpace(pfx("10.0.0.0/9"))
	if err != nil {
		b.Fatal(err)
	}
	var made []netip.Prefix
	for i := range n {
		p, err := s.Allocate(26 + i%4)
		if err != nil {
			b.Fatal(err)
		}
		made = append(made, p)
	}
	for i := 0; i < n; i += 5 {
		if err := s.Release(made[i]); err != nil {
			b.Fatal(err)
		}
	}
	return s, made
}

func BenchmarkAllocateRelease(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, _ := spaceOf(b, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p, err := s.Allocate(25 + i%6)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Release(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMeets(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, made := spaceOf(b, n)
			for i := 0; b.Loop(); i++ {
				s.Meets(made[i%len(made)])
			}
		})
	}
}

func BenchmarkNewSpace(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, made := spaceOf(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewSpace(pfx("10.0.0.0/9"), made...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		_, made := spaceOf(b, n)
		b.Run(fmt.Sprintf("build/%d", n), func(b *testing.B) {
			for b.Loop() {
				NewSet(made...)
			}
		})
		s := NewSet(made...)
		b.Run(fmt.Sprintf("overlaps/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				s.Overlaps(made[i%len(made)])
			}
		})
	}
}
