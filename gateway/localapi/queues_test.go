package localapi_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/gateway/doctor"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel/capture"
)

type nobody struct{}

func (nobody) ProbeService(context.Context, string) (dicom.TwinStatus, error) {
	return dicom.TwinStatus{}, errors.New("no service")
}

func (nobody) Doctor(context.Context) doctor.Report {
	return doctor.Report{{Check: "uplink", Verdict: doctor.Failed, Says: "no cable", Do: "plug it in"}}
}

func (nobody) Status(context.Context) localapi.Status { return localapi.Status{} }
func (nobody) Probe(context.Context, localapi.ProbeRequest) localapi.ProbeResult {
	return localapi.ProbeResult{}
}

func (nobody) FirewallRules(context.Context) (string, error) { return "", localapi.ErrNoFirewall }
func (nobody) Capture(context.Context, localapi.CaptureRequest, io.Writer) (capture.Result, error) {
	return capture.Result{}, capture.ErrBusy
}

func newSpool(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *spool.Spool, queue, payload string) string {
	t.Helper()
	w, err := s.Create(spool.Meta{Queue: queue, Attributes: map[string]string{"uid": "1.2.3"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, payload); err != nil {
		t.Fatal(err)
	}
	i, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return string(i.ID)
}

// TestQueues is the contract of both ways to the queues: straight, and through the socket.
func TestQueues(t *testing.T) {
	for name, via := range map[string]func(*testing.T, *spool.Spool) localapi.Queues{
		"straight": func(_ *testing.T, s *spool.Spool) localapi.Queues { return localapi.QueuesOf(s) },
		"by socket": func(t *testing.T, s *spool.Spool) localapi.Queues {
			ctx, stop := context.WithCancel(t.Context())
			path, done := filepath.Join(t.TempDir(), "s"), make(chan error, 1)
			go func() { done <- localapi.Serve(ctx, path, nobody{}, localapi.QueuesOf(s)) }()
			t.Cleanup(func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			c := localapi.NewClient(path)
			for {
				if _, err := c.Stats(ctx); !errors.Is(err, localapi.ErrNotRunning) {
					return c
				}
				select {
				case err := <-done:
					t.Fatal(err)
				default:
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpool(t)
			q := via(t, s)
			testQueues(t, s, q)
			testPriorities(t, s, q)
		})
	}
}

func testQueues(t *testing.T, s *spool.Spool, q localapi.Queues) {
	ctx := t.Context()
	first, second := put(t, s, "dicom.a", "one"), put(t, s, "dicom.a", strings.Repeat("two", 1<<20))
	other := put(t, s, "hl7.b", "three")

	list, err := q.Items(ctx, "dicom.a", 10)
	if err != nil || len(list) != 2 || list[0].ID != first || list[1].ID != second || list[0].Attributes != nil {
		t.Fatalf("the queue holds %+v (%v)", list, err)
	}
	if list, err := q.Items(ctx, "dicom.a", 1); err != nil || len(list) != 1 || list[0].ID != first {
		t.Errorf("the first of the queue: %+v (%v)", list, err)
	}
	if list, err := q.Items(ctx, "none", 10); err != nil || len(list) != 0 {
		t.Errorf("a queue that is not there: %+v (%v)", list, err)
	}
	if i, err := q.Item(ctx, first); err != nil || i.Attributes["uid"] != "1.2.3" || i.Queue != "dicom.a" || i.Size != 3 || i.State != "queued" {
		t.Errorf("one item: %+v (%v)", i, err)
	}
	p, err := q.Payload(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(p); len(b) != 3<<20 || err != nil {
		t.Errorf("read %d bytes (%v)", len(b), err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}

	if err := q.Hold(ctx, first); err != nil {
		t.Fatal(err)
	}
	stats, err := q.Stats(ctx)
	if err != nil || len(stats) != 2 || stats[0].Parked != 1 || stats[0].Queued != 1 || stats[0].ParkedError != "held by an operator" {
		t.Errorf("after a hold: %+v (%v)", stats, err)
	}
	if err := q.Retry(ctx, first); err != nil {
		t.Error(err)
	}
	if err := q.Hold(ctx, second); err != nil {
		t.Error(err)
	}
	if n, err := q.RetryAll(ctx, "dicom.a"); n != 1 || err != nil {
		t.Errorf("%d were retried (%v)", n, err)
	}
	if err := q.Drop(ctx, other); err != nil {
		t.Error(err)
	}
	l, err := s.Next(ctx, "dicom.a")
	if err != nil {
		t.Fatal(err)
	}
	busy := string(l.Item().ID)
	for what, err := range map[string]error{"hold": q.Hold(ctx, busy), "retry": q.Retry(ctx, busy), "drop": q.Drop(ctx, busy)} {
		if !errors.Is(err, spool.ErrLeased) {
			t.Errorf("%s of what is being delivered: %v", what, err)
		}
	}
	_, itemErr := q.Item(ctx, other)
	_, payloadErr := q.Payload(ctx, other)
	for what, err := range map[string]error{
		"item": itemErr, "payload": payloadErr, "hold": q.Hold(ctx, other), "retry": q.Retry(ctx, other), "drop": q.Drop(ctx, other),
		"a path": q.Drop(ctx, "../"+second),
	} {
		if !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("%s of what is gone: %v", what, err)
		}
	}
}
