package wire_test

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// TestKeyPrint fixes the form, which a box and a coordinator of different versions have in common, and looks at every bit of the key.
func TestKeyPrint(t *testing.T) {
	base := wire.KeyPrint(wgkey.PublicKey{})
	if base != "f494-r0g9-v1s3" {
		t.Errorf("the zero key is %q", base)
	}
	seen := map[string]bool{base: true}
	for bit := range 8 * wgkey.Size {
		var k wgkey.PublicKey
		k[bit/8] = 1 << (bit % 8)
		p := wire.KeyPrint(k)
		if seen[p] || len(p) != 14 || strings.Count(p, "-") != 2 || strings.Trim(p, "0123456789abcdefghjkmnpqrstvwxyz-") != "" {
			t.Errorf("bit %d: %q", bit, p)
		}
		seen[p] = true
	}
}
