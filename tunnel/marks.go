package tunnel

// Firewall marks (SO_MARK, socket(7)) of the packets that this product sends, so that the rules of package filter can tell them apart
// whatever routes and addresses say. Each is compared whole. They keep clear of the bits that Kubernetes (0xc000), Tailscale (0xff0000 with
// 0x40000 and 0x80000) and wg-quick (51820) use.
const (
	// MarkOuter is on encrypted packets: they may never enter a tunnel.
	MarkOuter = 0x70770001
	// MarkInner is on what proxies say on the overlay: it may leave through the tunnel only.
	MarkInner = 0x70770002
	// MarkLAN is on what proxies say to the devices of the Site: it may leave on the Site's side only.
	MarkLAN = 0x70770003
)
