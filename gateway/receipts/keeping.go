package receipts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// round is one sync, for all that was written before it began.
type round struct {
	done chan struct{}
	err  error
}

// writeOwed writes what the disk has not taken yet, oldest first. The caller has the lock.
func (j *Journal) writeOwed() error {
	if err := j.mend(); err != nil {
		return err
	}
	for len(j.owed) > 0 {
		if j.end.size >= j.opts.FileBytes || time.Since(j.began) > j.opts.MaxAge/16 {
			if err := j.turn(); err != nil {
				return err
			}
		}
		e := j.owed[0]
		e.Seq = j.end.seq + 1
		r, err := j.sealer.seal(e)
		if err != nil {
			return err
		}
		if err := j.write(r); err != nil {
			return err
		}
		j.owed, j.fresh = j.owed[1:], append(j.fresh, e)
	}
	return nil
}

// mend cuts off what a failure has left behind the last whole line, and begins a file that has no head anew.
func (j *Journal) mend() error {
	if j.torn {
		if err := j.file.Truncate(j.end.size); err != nil {
			return err //nolint:wrapcheck // Append does
		}
		if _, err := j.file.Seek(j.end.size, io.SeekStart); err != nil {
			return err //nolint:wrapcheck // Append does
		}
		j.torn = false
	}
	if j.end.size == 0 {
		return j.writeHead()
	}
	return nil
}

// later has what is owed tried again. The caller has the lock.
func (j *Journal) later() {
	if j.retry || j.closed {
		return
	}
	j.retry = true
	time.AfterFunc(tryEvery, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.retry = false
		switch {
		case j.closed:
		case j.writeOwed() != nil:
			j.later()
		default:
			j.join()
		}
	})
}

// join returns the next sync, and sees that there is one. The caller has the lock.
func (j *Journal) join() *round {
	if j.round == nil {
		j.round = &round{done: make(chan struct{})}
	}
	if !j.busy {
		j.busy = true
		go j.sync()
	}
	return j.round
}

// sync syncs until nobody waits for it.
func (j *Journal) sync() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.round != nil {
		r, file, end, fresh := j.round, j.file, j.end, len(j.fresh)
		j.round = nil
		j.mu.Unlock()
		err := file.Sync()
		j.mu.Lock()
		switch {
		case file != j.file || errors.Is(err, os.ErrClosed): // who turned or closed has synced
		case err == nil:
			j.synced, j.fresh = end, j.fresh[fresh:]
		default:
			// Nobody knows what of it is durable: all of it is written again.
			j.log.Error("receipts could not be synced", "error", err)
			r.err = fmt.Errorf("receipts wait in memory: %w", err)
			j.owed, j.fresh = append(j.fresh, j.owed...), nil
			j.end, j.torn = j.synced, true
			j.later()
		}
		close(r.done)
	}
	j.busy = false
}
