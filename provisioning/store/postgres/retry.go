package postgres

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// tries is how often Update runs a transaction that meets conflicts.
	tries = 8
	// firstPause doubles with every further try, to 640 ms before the last.
	firstPause = 10 * time.Millisecond
)

// pause waits before the next try, for a random time so that two who met do not meet again. It returns false if ctx ended.
func pause(ctx context.Context, try int) bool {
	d := firstPause << (try - 1)
	return sleep(ctx, d/2+rand.N(d/2+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// isConflict says that the database gave up the transaction because of another.
func isConflict(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01") // serialization_failure, deadlock_detected
}

// isLost says that the connection is gone, or the server going.
func isLost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "57P01" || e.Code == "57P02" || e.Code == "57P03" // admin_shutdown, crash_shutdown, cannot_connect_now
	}
	_, isNet := errors.AsType[net.Error](err)
	return isNet || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
