package sqlite

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// blobOf is an address as a column.
func blobOf(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}

// addrOf reads blobOf's form.
func addrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }

// maybeBlobOf is an address as a column that is NULL for the zero value.
func maybeBlobOf(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return blobOf(a)
}

// maybeText is what people read of it.
func maybeText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// maybeAddr scans what maybeBlobOf made.
type maybeAddr struct{ into *netip.Addr }

// Scan implements sql.Scanner.
func (m maybeAddr) Scan(v any) error {
	if v == nil {
		*m.into = netip.Addr{}
		return nil
	}
	var b [16]byte
	err := engine.Fixed(b[:]).Scan(v)
	*m.into = addrOf(b)
	return err
}
