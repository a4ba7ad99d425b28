package reconcile_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/spool"
)

// receiver is an HL7 receiver on the overlay that hands over each message and answers when it is told to.
type receiver struct {
	got    chan string // control ids
	answer chan struct{}
	gone   chan struct{} // one for each connection that has ended
}

func (f *fixture) receiver(t *testing.T, address string) *receiver {
	t.Helper()
	r := &receiver{got: make(chan string, 16), answer: make(chan struct{}, 16), gone: make(chan struct{}, 16)}
	ln, err := f.overlay.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *receiver) serve(c net.Conn) {
	defer func() { _ = c.Close(); r.gone <- struct{}{} }()
	in, buf := mllp.NewDecoder(1<<20), make([]byte, 4096)
	for {
		msg, ok, err := in.Next()
		if err != nil {
			return
		}
		if !ok {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			in.Feed(buf[:n])
			continue
		}
		id := strings.Split(string(msg), "|")[9]
		r.got <- id
		<-r.answer
		ack, err := mllp.Append(nil, []byte("MSH|^~\\&|R|R|S|S|20261122||ACK|A"+id+"|P|2.5\rMSA|AA|"+id+"\r"))
		if err != nil {
			return
		}
		if _, err := c.Write(ack); err != nil {
			return
		}
	}
}

func (f *fixture) enqueue(t *testing.T, id string) {
	t.Helper()
	w, err := f.queue.Create(spool.Meta{Queue: "hl7.orders"})
	if err == nil {
		_, err = io.WriteString(w, "MSH|^~\\&|S|S|R|R|20261122||ORM^O01|"+id+"|P|2.5\r")
	}
	if err == nil {
		_, err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, from *receiver, want string) {
	t.Helper()
	select {
	case id := <-from.got:
		if id != want {
			t.Fatalf("got message %s, want %s", id, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("message %s did not come", want)
	}
}

// The far side moves while a message waits for its answer: that one ends where it began, once, and the next goes to the new place.
func TestDeliveryMovesBetweenTwoItems(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	old, next := f.receiver(t, "10.201.0.17:2575"), f.receiver(t, "10.201.0.18:2575")
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	f.enqueue(t, "1")
	f.enqueue(t, "2")
	take(t, old, "1")

	m.Generation++
	m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, netip.MustParsePrefix("10.201.0.18/32"))
	m.Uses[2].Address = at("10.201.0.18:2575")
	applied := make(chan error, 1)
	go func() { applied <- f.Apply(context.WithoutCancel(t.Context()), compiled(t, m)) }()
	select {
	case err := <-applied:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("applying a map waits for a delivery")
	}
	old.answer <- struct{}{}
	take(t, next, "2")
	select {
	case <-old.gone:
	case <-time.After(10 * time.Second):
		t.Error("the connection to the old place is still open")
	}
	next.answer <- struct{}{}
	f.enqueue(t, "3")
	take(t, next, "3")
	next.answer <- struct{}{}
	if len(old.got)+len(next.got) != 0 {
		t.Errorf("something came twice: %d at the old place, %d at the new one", len(old.got), len(next.got))
	}
	for _, q := range f.queue.Stats() {
		if q.Parked != 0 || q.LastError != "" {
			t.Errorf("queue %+v", q)
		}
	}
}

// With another own address the connection is made anew, so that nothing is left on the one that ends.
func TestDeliveryLeavesTheFormerAddress(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	r := f.receiver(t, "10.201.0.17:2575")
	conns := make(chan string, 16)
	f.overlay.OnDial(func(address string, c net.Conn) net.Conn { conns <- address; return c })
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	exchange := func(id string) {
		t.Helper()
		f.enqueue(t, id)
		take(t, r, id)
		r.answer <- struct{}{}
	}
	exchange("1")
	exchange("2")
	if len(conns) != 1 {
		t.Fatalf("%d connections, want one kept", len(conns))
	}
	m.Generation++
	m.Self.Former, m.Self.Address = m.Self.Address, addr("10.201.1.2")
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	exchange("3")
	exchange("4")
	if len(conns) != 2 {
		t.Errorf("%d connections, want another one since the address changed", len(conns))
	}
}

// Generation 1 has old addresses, 2 both, 3 the new ones only: sessions of both sides live until the address that they are at goes.
func TestRenumberingKeepsSessions(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	far, err := f.overlay.Listen(t.Context(), "tcp", "10.201.0.17:11113") // the pass-through service of the center
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	center := open(t, f.overlay, "10.201.0.17", resultsAddr)
	modality := open(t, f.lan, "192.168.1.50", dicomAddr)

	m.Generation++
	m.Self.Former, m.Self.Address = m.Self.Address, addr("10.201.1.2")
	m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, netip.MustParsePrefix("10.201.0.18/32"))
	m.Offers[0].From = append(m.Offers[0].From, wire.Source{Site: "center", Prefix: netip.MustParsePrefix("10.201.0.18/32")})
	for i := range m.Uses {
		m.Uses[i].Address = netip.AddrPortFrom(addr("10.201.0.18"), m.Uses[i].Address.Port())
	}
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	if !alive(center) || !alive(modality) {
		t.Error("a session was cut although its address still holds")
	}
	again := open(t, f.overlay, "10.201.0.18", "10.201.1.2:2575")
	if !alive(again) || !alive(open(t, f.overlay, "10.201.0.17", resultsAddr)) {
		t.Error("the service is not at both addresses")
	}

	m.Generation++
	m.Self.Former = netip.Addr{}
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	if !closed(center) || !alive(again) || !alive(modality) {
		t.Error("what is at the former address must end, and nothing else")
	}
	if _, err := f.overlay.DialContext(t.Context(), "tcp", resultsAddr); err == nil {
		t.Error("the former address still listens")
	}
}
