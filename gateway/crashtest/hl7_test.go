package crashtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
)

// controlPrefix begins every control ID. It may be in no log either.
const controlPrefix = "CRASHCTL"

// message is an HL7 message with what is known of it.
type message struct {
	id  string
	sum [sha256.Size]byte
	raw []byte
}

func makeMessages(seed uint64, r *rand.Rand) []message {
	out := make([]message, 1+r.IntN(8))
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for i := range out {
		id := fmt.Sprintf("%s%d-%d", controlPrefix, seed, i+1)
		raw := hl7.SampleOrder(at, id, hl7.Parties{
			SendingApplication: "PRAXIS", SendingFacility: "CLINIC", ReceivingApplication: "HIS", ReceivingFacility: "CENTER",
		})
		raw = append(raw, "NTE|1||"+canary+strings.Repeat(" x", r.IntN(3000))+"\r"...)
		out[i] = message{id: id, sum: sha256.Sum256(raw), raw: raw}
	}
	return out
}

// practice sends one message after the other, each until it hears AA.
type practice struct {
	messages []message
	address  func() string

	mu     sync.Mutex
	heard  int
	sent   int
	onAck  func(id string)
	pauses func() time.Duration
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *practice) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan struct{})
	go func() {
		defer close(p.done)
		for _, m := range p.messages {
			for ctx.Err() == nil && !p.send(ctx, m) {
				p.wait(ctx)
			}
			p.wait(ctx)
		}
	}()
}

func (p *practice) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(p.pauses()):
	}
}

func (p *practice) send(ctx context.Context, m message) bool {
	answer, err := hl7.Send(ctx, hl7.SendConfig{Network: &lan.Network{}, Target: p.address(), AckTimeout: 5 * time.Second}, m.raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	if err != nil || answer.Code != hl7.AA {
		return false
	}
	p.heard++
	p.onAck(m.id)
	return true
}

func (p *practice) told() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard
}

func (p *practice) end() {
	if p.cancel != nil {
		p.cancel()
		<-p.done
	}
}

// Mishaps of the HIS with one message.
const (
	takesSilent  = iota + 1 // takes it, and hangs up without an answer
	ignores                 // hangs up and has taken nothing
	answersError            // AE
	hisMishapEnd
)

// his is a receiver of messages that counts by MSH-10. It outlives everything else.
type his struct {
	address string
	l       net.Listener
	wg      sync.WaitGroup

	mu      sync.Mutex
	taken   []message // in the order in which they came, as often as they came
	mishaps []int
	struck  int
	conns   map[net.Conn]bool
}

func newHIS(host string) (*his, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	h := &his{address: l.Addr().String(), l: l, conns: map[net.Conn]bool{}}
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns[c] = true
			h.mu.Unlock()
			h.wg.Go(func() {
				h.serve(c)
				_ = c.Close()
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
			})
		}
	})
	return h, nil
}

func (h *his) close() {
	_ = h.l.Close()
	h.mu.Lock()
	for c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *his) plan(mishaps []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mishaps = mishaps
}

// reset forgets everything, for the next run.
func (h *his) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken, h.mishaps, h.struck = nil, nil, 0
}

// happened is how many mishaps there were.
func (h *his) happened() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.struck
}

func (h *his) serve(c net.Conn) {
	d := mllp.NewDecoder(1 << 20)
	buf := make([]byte, 16<<10)
	for {
		raw, ok, err := d.Next()
		if err != nil {
			return
		}
		if !ok {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			d.Feed(buf[:n])
			continue
		}
		if answer := h.take(slices.Clone(raw)); answer == nil {
			return
		} else if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// take returns the answer, or nothing to hang up.
func (h *his) take(raw []byte) []byte {
	fields := strings.Split(strings.SplitN(string(raw), "\r", 2)[0], "|")
	if len(fields) < 10 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	what := 0
	if len(h.mishaps) > 0 {
		what, h.mishaps = h.mishaps[0], h.mishaps[1:]
		h.struck++
	}
	code := "AA"
	switch what {
	case ignores:
		return nil
	case answersError:
		code = "AE"
	default:
		h.taken = append(h.taken, message{id: fields[9], sum: sha256.Sum256(raw), raw: raw})
	}
	if what == takesSilent {
		return nil
	}
	text := fmt.Appendf(nil, "MSH|^~\\&|HIS|CENTER|PRAXIS|CLINIC|20261123080000||ACK|A%s|T|2.5.1\rMSA|%s|%s\r", fields[9], code, fields[9])
	answer, err := mllp.Append(nil, text)
	if err != nil {
		return nil
	}
	return answer
}

// judge compares what the practice was told with what the HIS took: all of it, in order, and none again once another has come. How often one
// came again, which MLLP cannot avoid when an answer was lost, may not exceed how often one can have been.
func (h *his) judge(sent []message, losses int) (again int, errs []error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := 0
	for _, m := range h.taken {
		switch {
		case next < len(sent) && m.id == sent[next].id:
			next++
		case next > 0 && m.id == sent[next-1].id:
			again++
		default:
			errs = append(errs, fmt.Errorf("HL7 OUT OF ORDER: %s came when %d had come", m.id, next))
			continue
		}
		if m.sum != sent[next-1].sum {
			errs = append(errs, fmt.Errorf("HL7 ALTERED: %s", m.id))
		}
	}
	for _, m := range sent[next:] {
		errs = append(errs, fmt.Errorf("HL7 LOST: %s", m.id))
	}
	if again > losses {
		errs = append(errs, fmt.Errorf("HL7 TWICE: %d messages came again, and %d answers at most were lost", again, losses))
	}
	return again, errs
}
