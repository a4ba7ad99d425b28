package overlaytest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// receiver is an HL7 system on a LAN that answers every message and remembers their control ids in the order in which they came.
type receiver struct {
	mu  sync.Mutex
	got []string
}

func newReceiver(t *testing.T, lan *proxytest.Network, at string) *receiver {
	t.Helper()
	r := &receiver{}
	ln, err := lan.Listen(t.Context(), "tcp", at)
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
			go func() {
				defer func() { _ = c.Close() }()
				for in := mllp.NewDecoder(1 << 20); ; {
					msg, err := frame(c, in)
					if err != nil {
						return
					}
					id := strings.Split(msg, "|")[9]
					r.mu.Lock()
					r.got = append(r.got, id)
					r.mu.Unlock()
					if writeFrame(c, "MSH|^~\\&|R|R|S|S|20261122||ACK|A"+id+"|P|2.5\rMSA|AA|"+id+"\r") != nil {
						return
					}
				}
			}()
		}
	}()
	return r
}

func (r *receiver) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func message(id string) string {
	return "MSH|^~\\&|S|S|R|R|20261122||ORU^R01|" + id + "|P|2.5\rPID|||X\r"
}

func frame(c net.Conn, in *mllp.Decoder) (string, error) {
	for buf := make([]byte, 4096); ; {
		msg, ok, err := in.Next()
		if ok || err != nil {
			return string(msg), err
		}
		n, err := c.Read(buf)
		if err != nil {
			return "", err
		}
		in.Feed(buf[:n])
	}
}

func writeFrame(c net.Conn, msg string) error {
	b, err := mllp.Append(nil, []byte(msg))
	if err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// conversation is one long connection of a sender, through the pass-through service of another site.
type conversation struct {
	c  net.Conn
	in *mllp.Decoder
	n  int
}

func converse(t *testing.T, n proxy.Network, at string) *conversation {
	t.Helper()
	c, err := n.DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &conversation{c: c, in: mllp.NewDecoder(1 << 20)}
}

// goOn exchanges one more message.
func (v *conversation) goOn() error {
	v.n++
	return v.say(fmt.Sprint("talk", v.n))
}

func (v *conversation) say(id string) error {
	if err := v.c.SetDeadline(time.Now().Add(tunneltest.Patience)); err != nil {
		return err
	}
	if err := writeFrame(v.c, message(id)); err != nil {
		return err
	}
	ack, err := frame(v.c, v.in)
	if err == nil && !strings.Contains(ack, "MSA|AA|"+id) {
		err = fmt.Errorf("the answer is %q", ack)
	}
	return err
}

// renumbering is a world with work going on in both directions.
type renumbering struct {
	*world
	pacs       *archive
	his        *receiver
	sent       []string // objects that nord's queue has acknowledged
	messages   []string // messages that lab's queue has acknowledged
	seed       uint64
	out, in    *conversation // from nord to lab, from lab to nord
	chatAtLab  *receiver
	chatAtNord *receiver
}

func newRenumbering(t *testing.T) *renumbering {
	w := newWorld(t)
	hl7At := func(name, target string, port uint16, mode wire.Mode) provisioning.Service {
		return provisioning.Service{Name: name, Protocol: wire.HL7, Mode: mode, Target: target, Port: port}
	}
	pacs := ct("pacs", 11112)
	pacs.Mode = wire.Queued
	w.offer(pacs, "lab", "nord", "sued")
	w.offer(hl7At("chat-lab", "192.168.178.9:2576", 2576, wire.PassThrough), "lab", "nord")
	// Outside of what is mapped, so that they are at the box's own address.
	w.offer(hl7At("his", "192.168.179.9:2575", 2575, wire.Queued), "nord", "lab")
	w.offer(hl7At("chat-nord", "192.168.179.9:2577", 2577, wire.PassThrough), "nord", "lab")
	r := &renumbering{
		world: w, pacs: newArchive(t, w.box["lab"].lan, device, "CT"), his: newReceiver(t, w.box["nord"].lan, "192.168.179.9:2575"),
		chatAtLab: newReceiver(t, w.box["lab"].lan, "192.168.178.9:2576"), chatAtNord: newReceiver(t, w.box["nord"].lan, "192.168.179.9:2577"),
	}
	w.publish("lab", "nord", "sued")
	r.out = converse(t, w.box["nord"].lan, boxLAN+":2576")
	r.in = converse(t, w.box["lab"].lan, boxLAN+":2577")
	return r
}

// work hands n objects to nord's queue and n messages to lab's.
func (r *renumbering) work(n int) {
	r.t.Helper()
	r.seed++
	objects, uids := study(r.t, r.seed, n)
	if taken, err := send(r.t, r.box["nord"].lan, boxLAN+":11112", "CT", objects); err != nil || taken != n {
		r.t.Fatalf("%d of %d objects taken: %v", taken, n, err)
	}
	r.sent = append(r.sent, uids...)
	sender := converse(r.t, r.box["lab"].lan, boxLAN+":2575")
	defer func() { _ = sender.c.Close() }()
	for range n {
		id := fmt.Sprintf("M%04d", len(r.messages))
		if err := sender.say(id); err != nil {
			r.t.Fatalf("message %s: %v", id, err)
		}
		r.messages = append(r.messages, id)
	}
}

// arrived waits until both queues are empty.
func (r *renumbering) arrived(when string) {
	r.t.Helper()
	eventually(r.t, "the queues are empty "+when, func() bool {
		for _, b := range []*box{r.box["nord"], r.box["lab"]} {
			for _, q := range b.queue.Stats() {
				if q.Parked > 0 {
					r.t.Fatalf("%s: queue %+v", when, q)
				}
				if q.Queued > 0 {
					return false
				}
			}
		}
		return true
	})
}

// check compares what was acknowledged with what arrived.
func (r *renumbering) check(once bool) {
	r.t.Helper()
	objects, messages := r.pacs.objects(), r.his.messages()
	if !once {
		objects, messages = distinct(objects), distinct(messages)
	}
	slices.Sort(objects)
	sent := slices.Sorted(slices.Values(r.sent))
	if !slices.Equal(objects, sent) {
		r.t.Errorf("%d objects arrived of %d that were acknowledged", len(objects), len(sent))
	}
	if !slices.Equal(messages, r.messages) {
		r.t.Errorf("messages arrived as %v, acknowledged were %v", messages, r.messages)
	}
}

func distinct(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// move gives a site new addresses; with both, the old one works on.
func (r *renumbering) move(site string, to string, both bool) {
	i := slices.IndexFunc(r.plan.Nodes, func(n provisioning.Node) bool { return string(n.Site) == ids[site] })
	n := &r.plan.Nodes[i]
	r.allocate(strings.TrimSuffix(to, ".1")+".0/28", ids[site], provisioning.PurposeOverlay, "")
	if both {
		n.Former = n.Address
		r.old(site).Until = issued.AddDate(0, 0, 7)
	} else {
		r.old(site).Owner, r.old(site).Until = "", issued.AddDate(0, 0, 30)
	}
	n.Address = addr(to)
}

// settle ends the old addresses of a site.
func (r *renumbering) settle(site string) {
	i := slices.IndexFunc(r.plan.Nodes, func(n provisioning.Node) bool { return string(n.Site) == ids[site] })
	r.plan.Nodes[i].Former = netip.Addr{}
	r.old(site).Owner = ""
}

// old is the allocation that a site began with.
func (r *renumbering) old(site string) *provisioning.Range {
	first := prefix(map[string]string{"lab": "10.201.1.0/28", "nord": "10.201.2.0/28"}[site])
	i := slices.IndexFunc(r.plan.Ranges, func(x provisioning.Range) bool { return x.Prefix == first })
	return &r.plan.Ranges[i]
}

// Old addresses, then both, then the new ones, while queues deliver in both directions and two conversations go on: nothing is lost, nothing
// comes twice or out of order, and nobody is cut before the old address ends. It does not matter which box hears of it first.
func TestRenumbering(t *testing.T) {
	t.Parallel()
	for _, site := range []string{"nord", "lab"} {
		for _, order := range [][]string{{"lab", "nord", "sued"}, {"nord", "sued", "lab"}} {
			t.Run(site+" renumbered, "+order[0]+" first", func(t *testing.T) {
				t.Parallel()
				r := newRenumbering(t)
				talk := func(when string) {
					t.Helper()
					for who, v := range map[string]*conversation{"nord with lab": r.out, "lab with nord": r.in} {
						if err := v.goOn(); err != nil {
							t.Errorf("%s: the conversation of %s was cut: %v", when, who, err)
						}
					}
				}
				r.work(5)
				talk("before")
				r.work(20)
				r.move(site, "10.201.50.1", true) // while those are on their way
				r.publish(order...)
				talk("with both addresses")
				r.work(20)
				r.arrived("with both addresses")
				if live := r.box["lab"].live(); site == "nord" && !slices.Contains(live, addr("10.201.50.1")) {
					t.Errorf("the center has sessions from %v: the queue does not use the new address", live)
				}
				old := map[string]string{"nord": "10.201.2.1:2577", "lab": "10.201.1.1:2576"}[site]
				far := map[string]string{"nord": "lab", "lab": "nord"}[site]
				if err := r.reach(far, old); err != nil {
					t.Errorf("with both addresses, the former one is silent: %v", err)
				}
				talk("at the end of the time with both")
				fresh := converse(t, r.box["nord"].lan, boxLAN+":2576")
				if err := fresh.goOn(); err != nil {
					t.Fatal(err)
				}

				r.settle(site)
				r.publish(order...)
				r.work(20)
				r.arrived("with new addresses only")
				r.check(true)
				if err := fresh.goOn(); err != nil {
					t.Errorf("a conversation begun with the new address was cut: %v", err)
				}
				if err := r.reach(far, old); err == nil {
					t.Error("the former address still answers")
				}
				// Who keeps a connection for days must get through after it, at the latest when it has been closed once.
				if err := r.in.goOn(); err != nil {
					r.in = converse(t, r.box["lab"].lan, boxLAN+":2577")
				}
				if err := r.in.goOn(); err != nil {
					t.Errorf("a sender that connects again is not let through: %v", err)
				}
			})
		}
	}
}

// Without a time of both addresses the conversations are cut, but the queues lose nothing and keep their order.
func TestRenumberingAtOnce(t *testing.T) {
	t.Parallel()
	for _, site := range []string{"nord", "lab"} {
		t.Run(site, func(t *testing.T) {
			t.Parallel()
			r := newRenumbering(t)
			r.work(20)
			r.move(site, "10.201.50.1", false)
			r.publish("lab", "nord", "sued")
			r.work(10)
			r.arrived("at the new addresses")
			r.check(false)
			if err := r.reach(map[string]string{"nord": "lab", "lab": "nord"}[site], map[string]string{"nord": "10.201.2.1:2577", "lab": "10.201.1.1:2576"}[site]); err == nil {
				t.Error("an address that is gone answers")
			}
		})
	}
}
