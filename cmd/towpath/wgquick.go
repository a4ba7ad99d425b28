package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Formats of a plain device's file.
const (
	formatWGQuick  = "wg-quick"
	formatFritzBox = "fritzbox"
)

// peerMTU fits every line, also through DS-Lite and mobile providers (IPv6 needs 1280, RFC 8200 §5), and is what our own boxes have.
const peerMTU = 1280

// noPrivateKey stands where the private key belongs if it was made elsewhere. No program takes it for a key.
const noPrivateKey = "PUT-THE-PRIVATE-KEY-HERE"

// peerFile is what a plain device reads.
type peerFile struct {
	adminapi.PeerConfig
	// key is zero if only the device has it.
	key wgkey.PrivateKey
}

// wgQuick writes what wg-quick(8), and the WireGuard apps, read. Comments are left out for a QR code.
func (f peerFile) wgQuick(comments bool) string {
	var b strings.Builder
	say := func(format string, a ...any) {
		if comments {
			fmt.Fprintf(&b, format+"\n", a...)
		}
	}
	say("# %s of site %s.", f.Name, f.Site)
	if !f.key.IsZero() {
		say("# It holds the private key: whoever reads it is this device.")
	}
	for _, u := range f.Uses {
		say("# May use %s of site %s: %s at %s", u.Service, u.Site, spoken(u), u.At)
	}
	b.WriteString("[Interface]\n")
	fmt.Fprintf(&b, "PrivateKey = %s\n", f.privateKey())
	fmt.Fprintf(&b, "Address = %s\n", join(f.addresses()))
	fmt.Fprintf(&b, "MTU = %d\n", peerMTU)
	for _, p := range f.Peers {
		b.WriteString("\n[Peer]\n")
		say("# site %s", p.Site)
		writePeer(&b, p, p.AllowedIPs)
	}
	return b.String()
}

// fritzBox writes what FRITZ!OS imports: IPv4 alone, since it refuses a file with any IPv6 address, peers that it can call, and no comment.
func (f peerFile) fritzBox() string {
	var b strings.Builder
	b.WriteString("[Interface]\n")
	fmt.Fprintf(&b, "PrivateKey = %s\n", f.privateKey())
	fmt.Fprintf(&b, "Address = %s\n", hostOf(f.Address))
	fmt.Fprintf(&b, "MTU = %d\n", peerMTU)
	for _, p := range f.Peers {
		allowed := slices.DeleteFunc(slices.Clone(p.AllowedIPs), func(a netip.Prefix) bool { return !a.Addr().Is4() })
		if len(p.Endpoints) == 0 || len(allowed) == 0 {
			continue
		}
		b.WriteString("\n[Peer]\n")
		writePeer(&b, p, allowed)
	}
	return b.String()
}

func writePeer(b *strings.Builder, p adminapi.PeerPeer, allowed []netip.Prefix) {
	fmt.Fprintf(b, "PublicKey = %s\n", p.PublicKey)
	fmt.Fprintf(b, "AllowedIPs = %s\n", join(allowed))
	if len(p.Endpoints) > 0 {
		fmt.Fprintf(b, "Endpoint = %s\n", p.Endpoints[0])
		fmt.Fprintf(b, "PersistentKeepalive = %d\n", int(wire.NodeKeepalive/time.Second))
	}
}

func (f peerFile) privateKey() string {
	if f.key.IsZero() {
		return noPrivateKey
	}
	return f.key.RevealText()
}

func (f peerFile) addresses() []netip.Prefix {
	own := []netip.Prefix{hostOf(f.Address)}
	if f.Former.IsValid() {
		own = append(own, hostOf(f.Former))
	}
	return own
}

func hostOf(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// spoken says how a service is called.
func spoken(u adminapi.PeerUse) string {
	switch {
	case u.AETitle != "":
		return "DICOM, called AE title " + u.AETitle
	case u.Receiver != "":
		return "HL7, receiver " + u.Receiver
	}
	return strings.ToUpper(u.Protocol)
}

// notes say what the file cannot: why the device reaches nobody yet, and what to do about it.
func (f peerFile) notes() []string {
	switch {
	case f.State != "active":
		return []string{fmt.Sprintf("%s is %s, so its file has no peers yet. Keep its [Interface] part, and take the peers from \"towpath peer config %s --site %s\" later.",
			f.Name, f.Reason, f.Name, f.Site)}
	case len(f.Peers) == 0:
		return []string{fmt.Sprintf("Site %s may use nothing that %s could reach, so its file has no peers yet. Next: allow it a service of a site that has a gateway (\"towpath allow %s SERVICE\"), then take the peers from \"towpath peer config %s --site %s\".",
			f.Site, f.Name, f.Site, f.Name, f.Site)}
	}
	var silent []string
	for _, p := range f.Peers {
		if len(p.Endpoints) == 0 {
			silent = append(silent, p.Site)
		}
	}
	switch len(silent) {
	case 0:
		return nil
	case len(f.Peers):
		return []string{fmt.Sprintf("%s cannot call anybody yet: no gateway of %s has an address at which it can be reached from outside. Give one to a site (\"towpath site set SITE --endpoint HOST:PORT\"), then take the new file from \"towpath peer config %s --site %s\".",
			f.Name, strings.Join(silent, ", "), f.Name, f.Site)}
	}
	return []string{fmt.Sprintf("%s cannot call the gateway of %s, which has no address at which it can be reached from outside.", f.Name, strings.Join(silent, ", "))}
}

// fritzBoxNotes say what is particular about such a device.
func (f peerFile) fritzBoxNotes() []string {
	out := []string{"In the FRITZ!Box (FRITZ!OS 7.50 or newer): Internet, Permit Access, VPN (WireGuard), Add Connection, Connect networks; it was set up at the remote site already: yes; then choose this file."}
	callable := 0
	for _, p := range f.Peers {
		if len(p.Endpoints) > 0 {
			callable++
		}
	}
	if callable > 1 {
		out = append(out, fmt.Sprintf("This file has %d peers. Nobody has seen yet whether a FRITZ!Box takes more than one.", callable))
	}
	return out
}
