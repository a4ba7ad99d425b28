package store

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/towpath/towpath/provisioning"
)

// eventContext starts the canonical encoding of an Event and numbers it.
const eventContext = "event v1\x00"

// Seal returns e as the entry behind prev in the audit chain: with Seq, Prev and Hash set. The zero Event stands before the first.
func Seal(prev, e provisioning.Event) provisioning.Event {
	e.Seq, e.Prev = prev.Seq+1, prev.Hash
	e.Hash = digest(e)
	return e
}

// Follows reports whether e is intact and stands directly behind prev.
func Follows(prev, e provisioning.Event) bool {
	return e.Seq == prev.Seq+1 && e.Prev == prev.Hash && e.Hash == digest(e)
}

// digest is SHA-256 over the context, Prev, then Seq and At (nanoseconds since 1970) as 64 bits big-endian, then each text preceded by
// its length in bytes as 32 bits big-endian: no two different events have the same encoding.
func digest(e provisioning.Event) [sha256.Size]byte {
	b := append([]byte(eventContext), e.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixNano()))
	for _, s := range []string{e.Actor, e.Action, e.Subject, e.Detail} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}
