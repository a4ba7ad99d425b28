package standby

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
)

const (
	// question is a line that asks how the Services are. What comes before its end is for later formats.
	question = "?\n"
	// maxQuestion and maxAnswer bound a line, in bytes: a Site may use some thousand Services.
	maxQuestion, maxAnswer = 64, 256 << 10
	// idle is how long who asks may be silent. It asks about twice a second.
	idle = 15 * time.Second
)

// answer is the line that a gateway answers with.
type answer struct {
	// Up are the Services that answer on its LAN, of those that the asker may use.
	Up []string `json:"up"`
}

// asker asks one gateway over a connection that it keeps.
type asker struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	address string

	conn net.Conn
	in   *bufio.Reader
}

func newAsker(n proxy.Network, a netip.Addr) *asker {
	return &asker{dial: n.DialContext, address: netip.AddrPortFrom(a, wire.StandbyPort).String()}
}

// ask returns the Services that the gateway reaches.
func (a *asker) ask(ctx context.Context) (up []string, err error) {
	if a.conn == nil {
		if a.conn, err = a.dial(ctx, "tcp", a.address); err != nil {
			return nil, fmt.Errorf("the gateway does not answer: %w", err)
		}
		a.in = bufio.NewReaderSize(a.conn, 4096)
	}
	if up, err = a.exchange(ctx); err != nil {
		a.close()
	}
	return up, err
}

func (a *asker) exchange(ctx context.Context) ([]string, error) {
	conn := a.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte(question)); err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	line, err := readLine(a.in, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("the gateway does not answer in time: %w", err)
	}
	var v answer
	if err := json.Unmarshal(line, &v); err != nil {
		return nil, fmt.Errorf("the gateway's answer cannot be read: %w", err)
	}
	return v.Up, nil
}

func (a *asker) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}

var errLong = errors.New("the line is too long")

// readLine returns a line of at most so many bytes.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > most {
			return nil, errLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err //nolint:wrapcheck // its callers say what for
		}
	}
}

// Answerer tells the gateways of other Sites how the Services here are. It is a proxy.Handler, and safe for concurrent use.
type Answerer struct{ LAN *LAN }

// Serve implements proxy.Handler: it answers every line until the asker is silent for a while.
func (a Answerer) Serve(ctx context.Context, c net.Conn) proxy.Result {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	source, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return proxy.Result{Outcome: proxy.OutcomeRefused, Detail: "the asker has no address"}
	}
	in := bufio.NewReaderSize(c, maxQuestion)
	for n := 0; ; n++ {
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return proxy.Result{Outcome: proxy.OutcomeAborted, Items: n}
		}
		if ctx.Err() != nil { // it may have ended before the deadline was set
			return proxy.Result{Outcome: proxy.OutcomeDone, Items: n}
		}
		if _, err := readLine(in, maxQuestion); err != nil {
			return proxy.Result{Outcome: outcome(err), Items: n}
		}
		b, err := json.Marshal(answer{Up: a.LAN.Up(source.Addr().Unmap())})
		if err == nil {
			_, err = c.Write(append(b, '\n'))
		}
		if err != nil {
			return proxy.Result{Outcome: proxy.OutcomeAborted, Items: n}
		}
	}
}

// outcome is how a session without a further question has ended: whoever asks may go at any time.
func outcome(err error) proxy.Outcome {
	if errors.Is(err, errLong) {
		return proxy.OutcomeMalformed
	}
	return proxy.OutcomeDone
}
