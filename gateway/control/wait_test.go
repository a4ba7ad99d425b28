package control_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// approver is a coordinator in memory that answers by a script, reached through pipes so that it works in fake time.
type approver struct {
	t     *testing.T
	token wire.Token
	mux   *http.ServeMux

	mu sync.Mutex
	// script is what it does with each enrolment in turn; the last step stays.
	script []step
	// asked is when each came, and dialed by which way: the address that was called.
	asked  []time.Time
	dialed []string
}

// step is an answer: one of wait in seconds, a refusal, the map; or none, and then the line is dead, or a page answers.
type step struct {
	wait    int
	refusal string
	done    bool
	page    bool
}

func newApprover(t *testing.T, script ...step) *approver {
	t.Helper()
	kem, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := wire.Identity{HPKE: kem.PublicKey().Bytes(), Network: pub}
	a := &approver{
		t: t, script: script, mux: http.NewServeMux(),
		token: wire.Token{ID: "tok_a", Secret: wire.NewSecret(), Fingerprint: id.Fingerprint(), URLs: []string{"http://one.example", "http://two.example"}},
	}
	a.mux.HandleFunc(wire.PathIdentity, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(id) })
	a.mux.HandleFunc(wire.PathEnroll, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		req, sealer, err := wire.OpenRequest(kem, b)
		if err != nil {
			t.Error(err)
			return
		}
		s := a.next()
		var resp wire.EnrollResponse
		switch {
		case s.page:
			_, _ = io.WriteString(w, "<!DOCTYPE html><html><title>Hotel</title></html>")
			return
		case s.done:
			resp = mapFor(t, req.PublicKey, key)
		case s.refusal != "":
			resp.Error = &wire.Refusal{Code: s.refusal, Message: "no"}
		default:
			resp.Wait = &wire.Wait{After: s.wait, Message: "not approved\x1b[31m yet"}
		}
		sealed, err := sealer.Seal(resp)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(sealed)
	})
	return a
}

func (a *approver) next() step {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.script[0]
	if len(a.script) > 1 {
		a.script = a.script[1:]
	}
	a.asked = append(a.asked, time.Now())
	return s
}

// dial answers one.example never, and serves two.example as the script says: a dead step refuses the connection.
func (a *approver) dial(_ context.Context, _, address string) (net.Conn, error) {
	a.mu.Lock()
	a.dialed = append(a.dialed, address)
	dead := a.script[0] == step{}
	if dead && len(a.script) > 1 && strings.HasPrefix(address, "two.") {
		a.script = a.script[1:]
	}
	a.mu.Unlock()
	if dead || strings.HasPrefix(address, "one.") {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	srv := &http.Server{Handler: a.mux, ReadHeaderTimeout: time.Minute}
	ln := &pipe{c: there, done: make(chan struct{})}
	go func() { _ = srv.Serve(ln) }()
	return &closing{here, func() { ln.once.Do(func() { close(ln.done) }); _ = srv.Close() }}, nil
}

// pipe is a listener of one connection.
type pipe struct {
	c    net.Conn
	took bool
	done chan struct{}
	once sync.Once
}

func (p *pipe) Accept() (net.Conn, error) {
	if !p.took {
		p.took = true
		return p.c, nil
	}
	<-p.done
	return nil, net.ErrClosed
}
func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return p.c.LocalAddr() }

type closing struct {
	net.Conn
	end func()
}

func (c *closing) Close() error { defer c.end(); return c.Conn.Close() }

// patiently enrolls and returns what was told, and how long it took.
func (a *approver) patiently(ctx context.Context) (told []error, took time.Duration, err error) {
	a.t.Helper()
	start := time.Now()
	got, err := control.EnrollPatiently(ctx, control.Ways{Dial: a.dial}, a.token, newKey(a.t), wire.Facts{}, func(e error) { told = append(told, e) })
	if err == nil && got.NetMap.Self.PublicKey.IsZero() {
		a.t.Error("there is no map")
	}
	return told, time.Since(start), err
}

func TestEnrollPatientlyAsksWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprover(t, step{wait: 5}, step{wait: 30}, step{wait: 7200}, step{wait: -1}, step{done: true})
		told, _, err := a.patiently(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var pauses []time.Duration
		for i := 1; i < len(a.asked); i++ {
			pauses = append(pauses, a.asked[i].Sub(a.asked[i-1]).Round(time.Second))
		}
		if want := []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Second}; !slices.Equal(pauses, want) {
			t.Errorf("it waited %v, want %v", pauses, want)
		}
		w, ok := errors.AsType[*control.WaitError](told[0])
		if len(told) != 4 || !ok || w.Message != "not approved[31m yet" {
			t.Errorf("it told %q", told)
		}
		// What worked is tried first, so the address that does not is asked once.
		if n := len(slices.DeleteFunc(slices.Clone(a.dialed), func(s string) bool { return !strings.HasPrefix(s, "one.") })); n != 1 {
			t.Errorf("the dead address was called %d times: %v", n, a.dialed)
		}
	})
}

// The coordinator restarts, has too much to do, and a hotel wants a login: what waits goes on waiting.
func TestEnrollPatientlySurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprover(t, step{wait: 10}, step{}, step{}, step{refusal: "unavailable"}, step{page: true}, step{page: true}, step{wait: 10}, step{done: true})
		told, took, err := a.patiently(t.Context())
		if err != nil || took > 2*time.Minute {
			t.Errorf("got %v after %v", err, took)
		}
		lost := slices.DeleteFunc(slices.Clone(told), func(e error) bool { _, waits := errors.AsType[*control.WaitError](e); return waits })
		if len(lost) < 3 || !slices.ContainsFunc(lost, func(e error) bool { return errors.Is(e, control.ErrPortal) }) {
			t.Errorf("it told %q", told)
		}
	})
}

func TestEnrollPatientlyEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		script []step
		within time.Duration
		check  func(error) bool
	}{
		"rejected":             {[]step{{wait: 5}, {refusal: "denied"}}, time.Minute, func(err error) bool { r, ok := errors.AsType[*wire.Refusal](err); return ok && r.Code == "denied" }},
		"refused at once":      {[]step{{refusal: "unavailable"}}, 0, func(err error) bool { _, ok := errors.AsType[*wire.Refusal](err); return ok }},
		"unreachable at once":  {[]step{{}}, 0, func(err error) bool { return errors.Is(err, control.ErrUnreachable) }},
		"unreachable for ever": {[]step{{wait: 300}, {}}, 25 * time.Hour, func(err error) bool { return errors.Is(err, control.ErrUnreachable) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, took, err := newApprover(t, tc.script...).patiently(t.Context())
				if !tc.check(err) || took > tc.within || tc.within > 24*time.Hour && took < 24*time.Hour {
					t.Errorf("got %v after %v", err, took)
				}
			})
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			told, took, err := newApprover(t, step{wait: 60}).patiently(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || took != time.Hour || len(told) < 59 {
				t.Errorf("got %v after %v, told %d times", err, took, len(told))
			}
		})
	})
}

func TestEnrollSaysThatItHasToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprover(t, step{wait: 5})
		_, err := control.Enroll(t.Context(), control.Ways{Dial: a.dial}, a.token, newKey(t), wire.Facts{})
		if w, ok := errors.AsType[*control.WaitError](err); !ok || w.After != 5*time.Second || len(a.asked) != 1 {
			t.Errorf("got %v, asked %d times", err, len(a.asked))
		}
		if strings.Contains(err.Error(), "\x1b") {
			t.Error("the coordinator writes to the terminal")
		}
	})
}
