package nodeapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/nodeapi"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// speak opens a connection to a server for n, at whose end is box, and writes the head of a watch by POST.
func speak(t *testing.T, n *provisioningtest.Network, from string) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	ln := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	ln.conn <- far
	srv := nodeapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = from + ":5000"
		n.Control.ServeHTTP(w, r)
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { near.Close(); srv.Close(); <-done })
	if _, err := fmt.Fprintf(near, "POST %s?have=0 HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n", wire.PathWatch); err != nil {
		t.Fatal(err)
	}
	return near
}

type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func say(t *testing.T, c net.Conn, b wire.Beat) {
	t.Helper()
	line, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "%x\r\n%s\n\r\n", len(line)+1, line); err != nil {
		t.Errorf("say a heartbeat: %v", err)
	}
}

func info(t *testing.T, n *provisioningtest.Network, id provisioning.NodeID) coordinator.NodeInfo {
	t.Helper()
	nodes, err := n.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range nodes {
		if i.ID == id {
			return i
		}
	}
	t.Fatalf("there is no node %s", id)
	return coordinator.NodeInfo{}
}

// The network takes what is written to a box that has lost its power: only the box's own silence tells.
func TestSilentNodeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		n.Clinic(t, "a")
		box := n.Node(t, "a")
		c := speak(t, n, box.Map().Self.Address.String())
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = io.Copy(io.Discard, c) }() // whatever is written is taken
		for range 10 {
			say(t, c, wire.Beat{Applied: box.Generation()})
			time.Sleep(wire.HeartbeatEvery)
			if !info(t, n, box.ID).Online {
				t.Fatal("a node that speaks is shown as offline")
			}
		}
		say(t, c, wire.Beat{Applied: box.Generation()})
		start := time.Now()
		<-ended
		if took := time.Since(start); took != 45*time.Second {
			t.Errorf("the silence was noticed after %s, want 45 s", took)
		}
		synctest.Wait()
		if info(t, n, box.ID).Online {
			t.Error("a silent node is shown as online")
		}
	})
}

// A node that speaks and takes nothing is of no use either.
func TestNodeThatTakesNothingIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		n.Clinic(t, "a")
		box := n.Node(t, "a")
		c := speak(t, n, box.Map().Self.Address.String())
		start := time.Now()
		for time.Since(start) < 50*time.Second {
			go fmt.Fprint(c, "3\r\n{}\n\r\n")
			time.Sleep(10 * time.Second)
		}
		if info(t, n, box.ID).Online {
			t.Errorf("the node is shown as online after %s", time.Since(start))
		}
	})
}

func TestBeatsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		n.Clinic(t, "a")
		box := n.Node(t, "a")
		c := speak(t, n, box.Map().Self.Address.String())
		lines := bufio.NewScanner(c)
		go func() {
			for lines.Scan() {
			}
		}()
		say(t, c, wire.Beat{Applied: 1, ApplyError: "the port is\x00 taken"})
		synctest.Wait()
		if i := info(t, n, box.ID); i.Applied != 1 || i.ApplyError != "the port is taken" || !i.LastSeen.Equal(time.Now()) {
			t.Errorf("shown as applied %d (%q), seen %s", i.Applied, i.ApplyError, i.LastSeen)
		}
		if _, err := io.WriteString(c, "5\r\nhello\r\n1\r\n\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if info(t, n, box.ID).Online {
			t.Error("a node that says what is no heartbeat goes on")
		}
	})
}

func TestEndlessBeatEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		n.Clinic(t, "a")
		box := n.Node(t, "a")
		c := speak(t, n, box.Map().Self.Address.String())
		go func() { _, _ = io.Copy(io.Discard, c) }()
		long := strings.Repeat("a", wire.MaxBeat+1)
		go fmt.Fprintf(c, "%x\r\n%s\r\n", len(long), long)
		synctest.Wait()
		if info(t, n, box.ID).Online {
			t.Error("a node that sends a line without end goes on")
		}
	})
}

// The body of a watch has no end: what is refused is refused at once.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		c := speak(t, n, "10.201.0.99")
		start := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusForbidden {
			t.Fatalf("a stranger got %+v (%v)", res, err)
		}
		_, _ = io.Copy(io.Discard, c)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the refusal took %s", took)
		}
	})
}

// A node that is removed, and a coordinator that ends, do not wait for the node to say something.
func TestStreamEndsWithoutTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNetwork(t)
		n.Clinic(t, "a")
		box := n.Node(t, "a")
		c := speak(t, n, box.Map().Self.Address.String())
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = io.Copy(io.Discard, c) }()
		synctest.Wait()
		start := time.Now()
		n.Remove(t, box.ID)
		<-ended
		if took := time.Since(start); took > time.Second {
			t.Errorf("the end took %s", took)
		}
	})
}

// TestWatchBothWaysOverTCP is the same over a real connection.
func TestWatchBothWaysOverTCP(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	ended := make(chan struct{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := nodeapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		r.RemoteAddr = box.Map().Self.Address.String() + ":5000"
		n.Control.ServeHTTP(w, r)
	}))
	go srv.Serve(ln)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	body, beats := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ln.Addr().String()+wire.PathWatch+"?"+box.Have().Query(), body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var f wire.Frame
	dec := json.NewDecoder(res.Body)
	if err := dec.Decode(&f); err != nil || f.Generation != box.Generation() || f.NetMap != nil || f.Hash != box.Have().Hash {
		t.Fatalf("the first frame is %+v (%v)", f, err)
	}
	if err := json.NewEncoder(beats).Encode(wire.Beat{Applied: 77}); err != nil {
		t.Fatal(err)
	}
	for info(t, n, box.ID).Applied != 77 {
		if ctx.Err() != nil {
			t.Fatal("what the node says is not shown")
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the stream of a caller that has gone goes on")
	}
}
