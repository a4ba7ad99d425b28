package hl7_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// loopback is a proxy.Network of real sockets for peers that are other programs.
type loopback struct{}

func (loopback) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func (loopback) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, address)
}

// program returns the path of a program or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	return path
}

// serveLoopback runs a handler on a real socket and returns its port.
func serveLoopback(t *testing.T, h proxy.Handler) (port string) {
	t.Helper()
	l, err := loopback{}.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: "loopback", Listener: l, Handler: h})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// loopbackBox is a gateway on real sockets towards target.
func loopbackBox(t *testing.T, target string) (port string, queue *spool.Spool) {
	t.Helper()
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	r, err := hl7.NewRouter(hl7.RouterConfig{Queue: q, Routes: []hl7.Route{
		{Service: "results", Mode: hl7.Queued, QueueName: "results", Receiver: "QUEUED"},
		{Service: "orders", Mode: hl7.PassThrough, Network: loopback{}, Target: target},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return serveLoopback(t, r), q
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMllpSend has python-hl7's command line sender talk to the gateway, in both modes.
func TestMllpSend(t *testing.T) {
	mllpSend := program(t, "mllp_send")
	f := &far{}
	port, q := loopbackBox(t, "127.0.0.1:"+serveLoopback(t, f))
	for _, receiver := range []string{"QUEUED", "CARDIO"} {
		msg := order("P-"+receiver, receiver)
		path := writeFile(t, msg)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := exec.CommandContext(ctx, mllpSend, "--port", port, "--loose", "--file", path, "127.0.0.1").CombinedOutput()
		cancel()
		if err != nil || !bytes.Contains(out, []byte("MSA|AA|P-"+receiver)) {
			t.Fatalf("%s: %v\n%s", receiver, err, out)
		}
		// The tool may drop the last carriage return.
		var got []byte
		if receiver == "QUEUED" {
			got = takeQueued(t, q)
		} else {
			got = f.received()[0]
		}
		if !bytes.Equal(bytes.TrimRight(got, "\r"), bytes.TrimRight(msg, "\r")) {
			t.Errorf("%s: got\n%q, sent\n%q", receiver, got, msg)
		}
	}
}

func takeQueued(t *testing.T, q *spool.Spool) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := q.Next(ctx, "results")
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if err := l.Done(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestNetcat sends raw bytes of odd senders with nc, which half-closes after the last one.
func TestNetcat(t *testing.T) {
	nc := program(t, "nc")
	port, q := loopbackBox(t, "127.0.0.1:1")
	msg := string(order("N-1", "QUEUED"))
	for name, stream := range map[string]string{
		"well framed": "\x0b" + msg + "\x1c\r",
		"junk before": "junk\n\x0b" + msg + "\x1c\r",
		"no CR":       "\x0b" + msg + "\x1c",
		"CRLF":        "\x0b" + strings.ReplaceAll(msg, "\r", "\r\n") + "\x1c\r\n",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, nc, "-N", "127.0.0.1", port)
		cmd.Stdin = strings.NewReader(stream)
		out, err := cmd.Output()
		cancel()
		if err != nil || !bytes.Contains(out, []byte("MSA|AA|N-1")) || !bytes.HasSuffix(out, []byte("\x1c\r")) {
			t.Errorf("%s: %v, answer %q", name, err, out)
			continue
		}
		if got := takeQueued(t, q); !strings.Contains(stream, string(got)) || !strings.HasPrefix(string(got), "MSH|") {
			t.Errorf("%s: stored %q", name, got)
		}
	}
}

// TestNetcatReceives has nc be the receiver: what it prints is a frame, and what it is given to say is the answer.
func TestNetcatReceives(t *testing.T) {
	nc := program(t, "nc")
	l, err := loopback{}.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil || l.Close() != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, nc, "-l", "127.0.0.1", port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	msg := order("NC-1", "X")
	frame := "\x0b" + string(msg) + "\x1c\r"
	printed := make(chan string, 1)
	go func() {
		b := make([]byte, len(frame))
		_, _ = io.ReadFull(out, b)
		printed <- string(b)
		_, _ = in.Write([]byte("\x0b" + string(ackFor(msg, hl7.AE)) + "\x1c\r"))
	}()
	var a hl7.Ack
	for err = hl7.ErrUnreachable; errors.Is(err, hl7.ErrUnreachable) && ctx.Err() == nil; {
		a, err = hl7.Send(ctx, hl7.SendConfig{Network: loopback{}, Target: "127.0.0.1:" + port}, msg)
	}
	if err != nil || a.Code != hl7.AE || a.ControlID != "NC-1" {
		t.Errorf("%+v, %v", a, err)
	}
	if got := <-printed; got != frame {
		t.Errorf("nc printed %q", got)
	}
}

// pythonReceiver is python-hl7's MLLP server: it parses what it gets and answers with the acknowledgment the library builds.
const pythonReceiver = `
import asyncio, sys, hl7
from hl7.mllp import start_hl7_server
async def serve(reader, writer):
    while not writer.is_closing():
        message = await reader.readmessage()
        sys.stdout.write("got %s %s\n" % (message["MSH"][0][10], message["MSH"][0][9]))
        sys.stdout.flush()
        writer.writemessage(message.create_ack())
        await writer.drain()
async def main():
    async with await start_hl7_server(serve, host="127.0.0.1", port=0, encoding="utf-8") as s:
        sys.stdout.write("port %d\n" % s.sockets[0].getsockname()[1])
        sys.stdout.flush()
        await s.serve_forever()
asyncio.run(main())
`

// TestPythonReceiver delivers to a receiver that others wrote, from the queue, passed through, and with Send.
func TestPythonReceiver(t *testing.T) {
	python := ""
	for _, candidate := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(candidate, "-c", "import hl7.mllp").Run() == nil {
			python = candidate
			break
		}
	}
	if python == "" {
		t.Skip("python3 with the hl7 module (0.4 or later) is not installed")
	}
	cmd := exec.Command(python, "-c", pythonReceiver)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the receiver did not start")
	}
	target := "127.0.0.1:" + strings.TrimPrefix(lines.Text(), "port ")

	a, err := hl7.Send(t.Context(), hl7.SendConfig{Network: loopback{}, Target: target}, order("S-1", "PY"))
	if err != nil || a.Code != hl7.AA {
		t.Fatalf("Send: %+v, %v", a, err)
	}
	port, q := loopbackBox(t, target)
	near := hl7.SendConfig{Network: loopback{}, Target: "127.0.0.1:" + port}
	if a, err := hl7.Send(t.Context(), near, order("S-2", "PY")); err != nil || a.Code != hl7.AA {
		t.Fatalf("passed through: %+v, %v", a, err)
	}
	for _, id := range []string{"S-3", "S-4"} {
		if a, err := hl7.Send(t.Context(), near, order(id, "QUEUED")); err != nil || a.Code != hl7.AA {
			t.Fatalf("queued: %+v, %v", a, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		sink := hl7.NewSink(hl7.SinkConfig{Network: loopback{}, Target: target})
		ended <- spool.Deliver(ctx, spool.DeliverConfig{Queue: q, Name: "results", Sink: sink})
	}()
	for _, want := range []string{"S-1", "S-2", "S-3", "S-4"} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "got "+want+" ORM^O01") {
			t.Fatalf("the receiver says %q, want %s", lines.Text(), want)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); q.Stats()[0].Queued > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", q.Stats())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
