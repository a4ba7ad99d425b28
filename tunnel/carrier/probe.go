package carrier

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// A probe asks over UDP whether UDP works. WireGuard does not see it, so that no session moves. It has 8 octets of name, 16 that only the two
// ends of a carried session know, and 8 of chance; the answer is as long and proves that the server has read it. A server that knows no such
// session says nothing.
const (
	probeName  = "towpath?"
	answerName = "towpath!"
	probeSize  = 32
	keySize    = 16
)

type probeKey [keySize]byte

// hash is SHA-256 keyed with the session, whose id itself never goes over UDP.
func (id sessionID) hash(label string, more ...byte) []byte {
	h := hmac.New(sha256.New, id[:])
	_, _ = h.Write(append([]byte(label), more...)) // never fails
	return h.Sum(nil)
}

func (id sessionID) probeKey() probeKey { return probeKey(id.hash(probeName)[:keySize]) }

// newProbe makes a probe, and the answer that it waits for.
func (id sessionID) newProbe() (probe, answer []byte) {
	k := id.probeKey()
	probe = append([]byte(probeName), k[:]...)
	probe = append(probe, make([]byte, probeSize-len(probe))...)
	_, _ = rand.Read(probe[len(probeName)+keySize:]) // never fails
	return probe, id.answer(probe)
}

func (id sessionID) answer(probe []byte) []byte {
	return append([]byte(answerName), id.hash(answerName, probe[len(probeName)+keySize:]...)[:probeSize-len(answerName)]...)
}

// keyOf reads a probe.
func keyOf(p []byte) (probeKey, bool) {
	if len(p) != probeSize || !bytes.HasPrefix(p, []byte(probeName)) {
		return probeKey{}, false
	}
	return probeKey(p[len(probeName):][:keySize]), true
}

func isAnswer(p []byte) bool { return len(p) == probeSize && bytes.HasPrefix(p, []byte(answerName)) }
