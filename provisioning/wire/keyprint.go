package wire

import (
	"crypto/sha256"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// keyContext separates the short form of a key from any other use of SHA-256 over it.
const keyContext = "box key v1\x00"

// KeyPrint is the short form of a box's public key that two people compare on the phone, such as "k7qm-3xwa-pd2f": the box shows it while it
// waits, and the coordinator shows it of the Node that it is to approve. It has the letters of a token, five bits each: 60 bits are enough
// against somebody who has a while to look for a key of the same short form, and few enough to be read out.
func KeyPrint(k wgkey.PublicKey) string {
	sum := sha256.Sum256(append([]byte(keyContext), k[:]...))
	text := tokenBase32.EncodeToString(sum[:])
	return text[:4] + "-" + text[4:8] + "-" + text[8:12]
}
