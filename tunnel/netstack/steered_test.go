package netstack_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// A peer behind a relay is found directly, gets an endpoint of its own, and loses it again: connections inside live through all of it.
func TestAPeerBeginsAndEndsToBeSteered(t *testing.T) {
	network := tunneltest.NewNetwork()
	var binds [2]*steer.Bind
	var devices [2]*netstack.Device
	var confs [2]tunnel.Config
	var keys [2]wgkey.PublicKey
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 51820)
	}
	for i := range devices {
		binds[i] = steer.New(network.Bind(at(i).Addr()))
		d, err := netstack.New(netstack.Options{Bind: binds[i]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		devices[i] = d
		confs[i] = config(t, []string{"100.64.0.1/32", "100.64.0.2/32"}[i], 1280)
		confs[i].ListenPort = 51820
		if keys[i], err = confs[i].PrivateKey.Public(); err != nil {
			t.Fatal(err)
		}
	}
	configure := func(relayed bool) {
		t.Helper()
		for i, d := range devices {
			// The other end is what stands for the relay: nothing is between them here.
			confs[i].Peers = []tunnel.Peer{{PublicKey: keys[1-i], AllowedIPs: confs[1-i].Addresses, Endpoint: at(1 - i), Relayed: relayed}}
			if err := d.Configure(t.Context(), confs[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	configure(true)
	client, server := connect(t, devices)
	talk := func(when string) {
		t.Helper()
		for _, c := range []interface {
			SetDeadline(t time.Time) error
		}{client, server} {
			if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		for _, way := range [][2]io.ReadWriter{{server, client}, {client, server}} {
			var b [4]byte
			if _, err := way[0].Write([]byte("ping")); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if _, err := io.ReadFull(way[1], b[:]); err != nil || string(b[:]) != "ping" {
				t.Fatalf("%s: %q, %v", when, b, err)
			}
		}
	}
	for range 2 {
		configure(true)
		talk("relayed")
		for i, b := range binds {
			b.Candidates(map[wgkey.PublicKey][]path.Candidate{keys[1-i]: {{Address: at(1 - i), Source: path.Observed}}})
		}
		for deadline := time.Now().Add(20 * time.Second); ; {
			a, _ := binds[0].Status(keys[1])
			b, _ := binds[1].Status(keys[0])
			if a.Way == at(1) && b.Way == at(0) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the ways are %+v and %+v", a, b)
			}
			talk("while a way is looked for")
		}
		talk("directly")
		configure(true)
		if s, _ := binds[0].Status(keys[1]); s.State != path.Direct {
			t.Errorf("configuring the same again left the way: %+v", s)
		}
		configure(false)
		talk("with an endpoint again")
		if _, steered := binds[0].Status(keys[1]); steered {
			t.Error("a peer with an endpoint again is steered")
		}
	}
	confs[1].ListenPort++
	if err := devices[1].Configure(t.Context(), confs[1]); err != nil {
		t.Fatal(err)
	}
	talk("with the other end elsewhere: a peer that is not steered any more is followed")
}
