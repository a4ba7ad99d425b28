package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"iter"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/proxytest"
)

// sinkhole is an Inbox that takes everything.
type sinkhole struct{}

func (sinkhole) Accept(Item) error { return nil }
func (sinkhole) Store(_ context.Context, _ Item, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
func (sinkhole) Again(Origin) (bool, error)   { return false, nil }
func (sinkhole) Delivered(Origin)             {}
func (sinkhole) Holds(Origin) bool            { return true }
func (sinkhole) Held() iter.Seq2[Held, error] { return func(func(Held, error) bool) {} }

// face is a Receiver and what a peer says to it by hand.
type face struct {
	t *testing.T
	r *Receiver
}

func newFace(t *testing.T, tune func(*ReceiverConfig)) *face {
	t.Helper()
	cfg := ReceiverConfig{Dir: t.TempDir(), Inbox: sinkhole{}, Node: "center", Signer: testKey(1), Codec: codec.New(1), MaxItems: 4}
	if tune != nil {
		tune(&cfg)
	}
	r, err := NewReceiver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &face{t: t, r: r}
}

// connect serves a connection and returns the peer's end, and how it ended.
func (f *face) connect() (net.Conn, chan proxy.Result) {
	a, b := proxytest.Pipe(netip.MustParseAddrPort("10.0.0.1:5"), netip.MustParseAddrPort("10.0.0.2:7400"))
	end := make(chan proxy.Result, 1)
	go func() {
		res := f.r.Serve(context.Background(), b)
		_ = b.Close()
		end <- res
	}()
	f.t.Cleanup(func() { _ = a.Close() })
	return a, end
}

func (f *face) say(c net.Conn, list ...message) {
	f.t.Helper()
	var b []byte
	for _, m := range list {
		b = appendFrame(b, m)
	}
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(b) // the Receiver may have had enough
}

func (f *face) hear(in *frameReader) message {
	f.t.Helper()
	m, err := in.next()
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

var greeting = hello{1, 1, [16]byte{1}, 0, codec.Version, "clinic"}

func an(id string, payload []byte) Item {
	return Item{Origin: Origin{ID: id, SHA256: sha256.Sum256(payload)}, Size: int64(len(payload)), Service: "pacs"}
}

// Whatever a peer sends, the Receiver answers or hangs up; it never waits forever, grows without end or panics.
func TestHostileSender(t *testing.T) {
	big := an("big", make([]byte, 3000))
	raw := func(h uint64, at uint32, n int) chunk {
		return chunk{handle: h, offset: 0, size: 3000, coded: 3000, at: at, data: make([]byte, n)}
	}
	flood := func(n int, make func(i int) message) (list []message) {
		for i := range n {
			list = append(list, make(i))
		}
		return list
	}
	for name, c := range map[string]struct {
		say  []message
		want string // in the Result
	}{
		"no greeting":            {[]message{number{kindPing, 1}}, "does not speak"},
		"greeting twice":         {[]message{greeting, greeting}, "kind 1"},
		"a receiver's word":      {[]message{greeting, want{1, 1}}, "kind 4"},
		"a future version":       {[]message{hello{9, 12, [16]byte{1}, 0, 1, "clinic"}}, "another version"},
		"a lane without session": {[]message{hello{1, 1, [16]byte{1}, 3, 1, "clinic"}}, "lane"},
		"lane 200":               {[]message{hello{1, 1, [16]byte{1}, 200, 1, "clinic"}}, "lane"},
		"no name":                {[]message{hello{1, 1, [16]byte{1}, 0, 1, ""}}, "lane"},
		"handle twice":           {[]message{greeting, offer{1, big}, offer{1, an("b", nil)}}, "handle used"},
		"too many offers":        {append([]message{greeting}, flood(9, func(i int) message { return offer{uint64(i), an(strings.Repeat("x", i+1), make([]byte, 9))} })...), "items are offered"},
		"beyond the end":         {[]message{greeting, offer{1, big}, chunk{handle: 1, offset: 2999, size: 3000, coded: 3000, data: []byte("x")}}, "beyond"},
		"a block of rubbish":     {[]message{greeting, offer{1, big}, chunk{handle: 1, size: 3000, coded: 40, method: methodCodec, data: make([]byte, 40)}}, "does not speak"},
		"blocks that never end": {append([]message{greeting, offer{1, an("long", make([]byte, 900_000))}}, flood(80, func(i int) message {
			return chunk{handle: 1, offset: int64(i * 10_000), size: 10_000, coded: 9000, method: methodCodec, data: []byte("x")}
		})...), "incomplete"},
		"chunks that do not fit": {[]message{greeting, offer{1, big}, chunk{handle: 1, size: 3000, coded: 40, method: methodCodec, data: []byte("x")}, chunk{handle: 1, size: 3000, coded: 41, method: methodCodec, data: []byte("x")}}, "do not fit"},
		"pieces with many gaps": {append([]message{greeting, offer{1, an("gaps", make([]byte, 900_000))}}, flood(1100, func(i int) message {
			return chunk{handle: 1, offset: int64(i*4 + 2), size: 1, coded: 1, data: []byte("x")}
		})...), "ahead"},
		"chunks of nothing known": {[]message{greeting, raw(77, 0, 10), number{kindAbandon, 99}, named{kindSettled, "x", [32]byte{}, Accepted}, named{kindAsk, "x", [32]byte{}, 0}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFace(t, nil)
			conn, end := f.connect()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			f.say(conn, c.say...)
			if c.want == "" {
				_ = conn.Close()
			}
			select {
			case res := <-end:
				if !strings.Contains(res.Detail, c.want) {
					t.Errorf("ended with %+v", res)
				}
			case <-time.After(10 * time.Second):
				t.Error("goes on")
			}
		})
	}
}

// A peer that lies about a payload is told so, and nothing is stored; one that offers what cannot be is refused.
func TestReceiverJudges(t *testing.T) {
	f := newFace(t, func(c *ReceiverConfig) {
		c.Peer = func(a netip.Addr) (string, bool) { return "clinic", a.String() == "10.0.0.1" }
	})
	conn, _ := f.connect()
	in := newFrameReader(conn)
	lie := an("lie", []byte("what was announced"))
	f.say(conn, greeting, offer{1, lie}, offer{2, Item{Origin: Origin{ID: "x"}, Size: 1}})
	if w, ok := f.hear(in).(welcome); !ok || w.code != welcomeOK || w.node != "center" || !bytes.Equal(w.public, f.r.Public()) {
		t.Fatalf("%+v", w)
	}
	if w, ok := f.hear(in).(want); !ok || w != (want{1, 0}) {
		t.Fatalf("%+v", w)
	}
	if r, ok := f.hear(in).(refuse); !ok || r.handle != 2 || r.reason != reasonNever {
		t.Fatalf("%+v", r)
	}
	f.say(conn, chunk{handle: 1, size: 18, coded: 18, data: []byte("what was sent then")})
	for {
		switch m := f.hear(in).(type) {
		case ack:
			continue
		case refuse:
			if m.handle != 1 || m.reason != reasonDamaged {
				t.Fatalf("%+v", m)
			}
		default:
			t.Fatalf("%+v", m)
		}
		break
	}
	other, end := f.connect()
	f.say(other, hello{1, 1, [16]byte{1}, 0, 1, "another"})
	if res := <-end; !strings.Contains(res.Detail, "not the one") {
		t.Errorf("%+v", res)
	}
}

// The receiving end can lie, too: the sender hangs up.
func TestHostileReceiver(t *testing.T) {
	key := testKey(1)
	other, err := sample().sign(testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	foreign := sample()
	foreign.Node = "somebody"
	foreign, err = foreign.sign(key)
	if err != nil {
		t.Fatal(err)
	}
	wrongKind, err := sample().sign(key)
	if err != nil {
		t.Fatal(err)
	}
	public := []byte(publicOf(key))
	good := welcome{welcomeOK, 1, 1, 10, "center", public}
	for name, c := range map[string]struct {
		say  []message
		want string
	}{
		"another name":        {[]message{welcome{welcomeOK, 1, 1, 10, "else", public}}, "another one"},
		"another key":         {[]message{welcome{welcomeOK, 1, 1, 10, "center", []byte(publicOf(testKey(2)))}}, "another key"},
		"no key":              {[]message{welcome{welcomeOK, 1, 1, 10, "center", nil}}, "key"},
		"refusal":             {[]message{welcome{code: refusedVersion}}, "another version"},
		"no welcome":          {[]message{ack{1}}, "for a welcome"},
		"a forged receipt":    {[]message{good, signed{kindFinal, 0, other.Bytes()}}, "signature"},
		"a foreign receipt":   {[]message{good, signed{kindFinal, 0, foreign.Bytes()}}, "another node"},
		"a receipt too early": {[]message{good, signed{kindTaken, 1, wrongKind.Bytes()}}, "kind"},
		"rubbish":             {[]message{good, signed{kindFinal, 0, []byte("x")}}, "no receipt"},
		"acks of nothing":     {[]message{good, ack{5}}, "acknowledgment"},
		"a pong":              {[]message{good, number{kindPong, 1 << 40}}, "no ping"},
		"a sender's word":     {[]message{good, number{kindPing, 1}}, "from a receiver"},
		"hanging up":          {[]message{good}, "ended the session"},
	} {
		t.Run(name, func(t *testing.T) {
			n := proxytest.NewNetwork()
			l, err := n.Listen(t.Context(), "tcp", "10.0.0.2:7400")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if _, err := newFrameReader(conn).next(); err != nil {
					return
				}
				var b []byte
				for _, m := range c.say {
					b = appendFrame(b, m)
				}
				_, _ = conn.Write(b)
				_ = conn.(*proxytest.Conn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			}()
			s, err := NewSender(SenderConfig{
				Network: n, Address: "10.0.0.2:7400", Node: "clinic", Peer: "center", PeerKey: publicOf(key), Outbox: nothing{}, Lanes: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.once(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// nothing is an Outbox without items.
type nothing struct{}

func (nothing) Next(ctx context.Context) (Parcel, error) { <-ctx.Done(); return nil, ctx.Err() }
func (nothing) Carried() ([]Origin, error)               { return nil, nil }
func (nothing) Final(string, Receipt) error              { return ErrUnknown }
func (nothing) Requeue(string) error                     { return ErrUnknown }
