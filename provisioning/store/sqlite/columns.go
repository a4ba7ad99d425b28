package sqlite

import "net/netip"

// blobOf is an address as a column.
func blobOf(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}

// addrOf reads blobOf's form.
func addrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }
