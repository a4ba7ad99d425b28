package wire_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
)

func BenchmarkCenterOf10000(b *testing.B) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	old, to := center(10_000, 2), center(10_001, 2)
	old.Network, to.Network = wire.NetworkID(pub), wire.NetworkID(pub)
	base, next := encode(b, old), encode(b, to)
	s := next.Sign(key)
	c, err := s.Since(base.Hash, old, to)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			encode(b, to)
		}
	})
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Since(base.Hash, old, to); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(c.Diff)), "diff-bytes")
		b.ReportMetric(float64(len(s.Payload)), "map-bytes")
	})
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			next.Sign(key)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := c.Open(pub, old, base.Hash); err != nil {
				b.Fatal(err)
			}
		}
	})
}
