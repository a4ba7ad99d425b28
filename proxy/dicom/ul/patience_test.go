package ul_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/dicom/ul"
)

func TestAlive(t *testing.T) {
	rq, ac, _, acConn := connect(t, ul.Config{}, ul.Config{})
	if !rq.Alive() {
		t.Error("a resting association is taken for dead")
	}
	if _, err := rq.Send(t.Context(), 1, []byte("still works"), nil); err != nil {
		t.Error(err)
	}
	if _, _, err := ac.Receive(t.Context()); err != nil {
		t.Error(err)
	}
	_ = acConn.Close()
	if rq.Alive() {
		t.Error("an association whose peer has hung up is taken for alive")
	}
	if _, err := ul.Request(t.Context(), acConn, ul.Proposal{CallingAE: "", CalledAE: "X"}, ul.Config{}); err == nil {
		t.Error("an empty AE title is sent")
	}
}

// TestSlowDiskIsNotThePeersFault spends longer than Progress between reads of a data set that is there all the time.
func TestSlowDiskIsNotThePeersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac, _, _ := connect(t, ul.Config{Progress: time.Hour}, ul.Config{Progress: 10 * time.Second})
		go func() { _, _ = rq.Send(context.Background(), 1, []byte("c"), bytes.NewReader(make([]byte, 500000))) }()
		id, _, err := ac.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slow := writerFunc(func(b []byte) (int, error) {
			time.Sleep(30 * time.Second) // fake time
			return len(b), nil
		})
		if _, err := ac.Data(t.Context(), id).WriteTo(slow); err != nil {
			t.Error(err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
