package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTendSpeaksOncePerChange: nine minutes of which the middle three fail one way and the next two another.
func TestTendSpeaksOncePerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		var calls atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			tend(ctx, tendEvery, func(context.Context) error {
				switch calls.Add(1) {
				case 4, 5, 6:
					return errors.New("the disk is full")
				case 7, 8:
					return errors.New("the database is locked")
				}
				return nil
			}, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls at the start, want 1", n)
		}
		time.Sleep(9*tendEvery + time.Second)
		cancel()
		<-done
		if n := calls.Load(); n != 10 {
			t.Errorf("%d calls in nine minutes, want 10", n)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			for _, s := range []string{"disk is full", "database is locked", "tended again"} {
				if strings.Contains(line, s) {
					got = append(got, s)
				}
			}
		}
		if s := strings.Join(got, ", "); s != "disk is full, database is locked, tended again" {
			t.Errorf("the log says %s:\n%s", s, &log)
		}
	})
}
