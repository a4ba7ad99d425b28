package localapi_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/receipts"
)

// keeper has three receipts, and may fail behind the second.
type keeper struct {
	nobody
	fail bool
}

func (k keeper) Receipts(_ context.Context, fn func(receipts.Entry) error) (receipts.Summary, error) {
	for n := range uint64(3) {
		if k.fail && n == 2 {
			return receipts.Summary{}, errors.New("the disk is broken")
		}
		if err := fn(receipts.Entry{Seq: n + 1, Queue: "q", Signed: []byte{1}}); err != nil {
			return receipts.Summary{}, err
		}
	}
	return receipts.Summary{Receipts: 3, Hash: "ff", Broken: "line 7"}, nil
}

func TestReceiptsBySocket(t *testing.T) {
	for _, fail := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		path, done := filepath.Join(t.TempDir(), "s"), make(chan error, 1)
		go func() { done <- localapi.Serve(ctx, path, keeper{fail: fail}, localapi.QueuesOf(newSpool(t))) }()
		c := localapi.NewClient(path)
		var got []receipts.Entry
		sum, err := receipts.Summary{}, localapi.ErrNotRunning
		for errors.Is(err, localapi.ErrNotRunning) {
			sum, err = c.Receipts(ctx, func(e receipts.Entry) error { got = append(got, e); return nil })
		}
		if fail && (err == nil || len(got) > 2) {
			t.Errorf("a journal that cannot be read: %+v, %v", sum, err)
		}
		if !fail && (err != nil || len(got) != 3 || got[2].Seq != 3 || got[0].Queue != "q" || sum.Broken != "line 7" || sum.Receipts != 3) {
			t.Errorf("%+v, %v, %v", sum, got, err)
		}
		enough := errors.New("enough")
		if _, err := c.Receipts(ctx, func(receipts.Entry) error { return enough }); !fail && !errors.Is(err, enough) {
			t.Errorf("the caller's error: %v", err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
