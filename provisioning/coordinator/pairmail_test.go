package coordinator_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func leaveMail(to provisioning.NodeID, body string) wire.PairMail {
	return wire.PairMail{Format: 1, Post: []wire.PairMessage{{To: string(to), Body: []byte(body)}}}
}

// TestPairMailBetweenPeersOnly leaves messages among a center and two clinics, which are no peers of one another.
func TestPairMailBetweenPeersOnly(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.DICOM(t, "lab", "pacs", "PACS")
	for _, s := range []string{"nord", "sued"} {
		n.Clinic(t, s)
		n.Grant(t, "pacs", s)
	}
	lab, nord, sued := n.Node(t, "lab"), n.Node(t, "nord"), n.Node(t, "sued")
	generation := func() uint64 {
		_, m, err := n.NetMapFor(ctx, lab.ID)
		if err != nil {
			t.Fatal(err)
		}
		return m.Generation
	}
	before := generation()
	mail := func(id provisioning.NodeID, m wire.PairMail) wire.PairMailbox {
		t.Helper()
		box, err := n.PairMail(ctx, id, m)
		if err != nil {
			t.Fatal(err)
		}
		return box
	}
	if box := mail(nord.ID, leaveMail(lab.ID, "first")); !slices.Equal(box.Deaf, []string{string(lab.ID)}) || len(box.Unknown)+len(box.Mail) != 0 {
		t.Errorf("a box that has not said that it listens: %+v", box)
	}
	if err := n.Report(ctx, lab.ID, wire.Report{Format: 1, Facts: wire.Facts{PairKeys: true}}); err != nil {
		t.Fatal(err)
	}
	if box := mail(nord.ID, leaveMail(lab.ID, "second")); len(box.Deaf)+len(box.Unknown) != 0 {
		t.Errorf("a box that listens: %+v", box)
	}
	for _, to := range []provisioning.NodeID{sued.ID, nord.ID, "node_none"} {
		if box := mail(nord.ID, leaveMail(to, "x")); !slices.Equal(box.Unknown, []string{string(to)}) {
			t.Errorf("to %s, who is no peer: %+v", to, box)
		}
	}
	if box := mail(sued.ID, wire.PairMail{}); len(box.Mail) != 0 {
		t.Errorf("another clinic gets %+v", box)
	}
	box := mail(lab.ID, wire.PairMail{})
	if len(box.Mail) != 1 || box.Mail[0].From != string(nord.ID) || string(box.Mail[0].Body) != "second" {
		t.Fatalf("the center gets %+v", box)
	}
	if again := mail(lab.ID, wire.PairMail{}); len(again.Mail) != 1 {
		t.Errorf("what is not done comes again: %+v", again)
	}
	if box := mail(sued.ID, wire.PairMail{Done: []string{box.Mail[0].ID}}); len(box.Mail) != 0 {
		t.Errorf("%+v", box)
	}
	if again := mail(lab.ID, wire.PairMail{}); len(again.Mail) != 1 {
		t.Errorf("another box has taken it away: %+v", again)
	}
	if left := mail(lab.ID, wire.PairMail{Done: []string{box.Mail[0].ID}}); len(left.Mail) != 0 {
		t.Errorf("what is done: %+v", left)
	}
	if after := generation(); after != before {
		t.Errorf("mail changes maps: generation %d and then %d", before, after)
	}
}

func TestPairMailLimits(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Clinic(t, "nord")
	n.Grant(t, "pacs", "nord")
	lab, nord := n.Node(t, "lab"), n.Node(t, "nord")
	long := leaveMail(lab.ID, string(bytes.Repeat([]byte("x"), wire.MaxPairMessage+1)))
	many := wire.PairMail{Post: slices.Repeat(leaveMail(lab.ID, "x").Post, wire.MaxPairMessages+1)}
	for name, m := range map[string]wire.PairMail{
		"long": long, "empty": leaveMail(lab.ID, ""), "many": many, "newer": {Format: 9}, "done": {Done: make([]string, wire.MaxPairDone+1)},
	} {
		_, err := n.PairMail(ctx, nord.ID, m)
		wantCode(t, err, provisioning.Invalid)
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// Over and over, one message is kept.
	for range 3 {
		if _, err := n.PairMail(ctx, nord.ID, wire.PairMail{Post: slices.Repeat(leaveMail(lab.ID, "x").Post, wire.MaxPairMessages)}); err != nil {
			t.Fatal(err)
		}
	}
	if box, err := n.PairMail(ctx, lab.ID, wire.PairMail{}); err != nil || len(box.Mail) != 1 || box.More {
		t.Errorf("%d messages wait, more %v (%v)", len(box.Mail), box.More, err)
	}
	n.Remove(t, nord.ID)
	if box, err := n.PairMail(ctx, lab.ID, wire.PairMail{}); err != nil || len(box.Mail) != 0 {
		t.Errorf("of a box that was removed: %+v (%v)", box, err)
	}
	_, err := n.PairMail(ctx, nord.ID, leaveMail(lab.ID, "x"))
	wantCode(t, err, provisioning.Denied)
}

// TestPairKeysPolicy: every map says what was decided, and one of a plain device or relay does not.
func TestPairKeysPolicy(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Clinic(t, "nord")
	nord := n.Node(t, "nord")
	says := func(want wire.PairKeys) {
		t.Helper()
		_, m, err := n.NetMapFor(ctx, nord.ID)
		if err != nil || m.Self.PairKeys != want {
			t.Errorf("the map says %q (%v), want %q", m.Self.PairKeys, err, want)
		}
		if info, err := n.Network(ctx); err != nil || info.PairKeys != want {
			t.Errorf("the network says %q (%v)", info.PairKeys, err)
		}
	}
	says(wire.PairKeysPreferred)
	for _, p := range []wire.PairKeys{wire.PairKeysRequired, wire.PairKeysOff, wire.PairKeysPreferred} {
		if err := n.SetPairKeys(ctx, "test", p); err != nil {
			t.Fatal(err)
		}
		says(p)
	}
	wantCode(t, n.SetPairKeys(ctx, "test", "perhaps"), provisioning.Invalid)
	says(wire.PairKeysPreferred)
}

// A Node that watches hears at once that there is a message, once, and nobody else does.
func TestWatchTellsOfPairMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Center(t, "lab", "")
		n.DICOM(t, "lab", "pacs", "PACS")
		n.Clinic(t, "nord")
		n.Grant(t, "pacs", "nord")
		lab, nord := n.Node(t, "lab"), n.Node(t, "nord")
		at, from := lab.Watch(t.Context(), lab.Generation()), nord.Watch(t.Context(), nord.Generation())
		defer at.Close()
		defer from.Close()
		if a, b := next(t, at), next(t, from); a.Mail || b.Mail {
			t.Error("mail before there is any")
		}
		start := time.Now()
		if _, err := n.PairMail(t.Context(), nord.ID, leaveMail(lab.ID, "sealed")); err != nil {
			t.Fatal(err)
		}
		if f := next(t, at); !f.Mail || f.NetMap != nil || time.Since(start) != 0 {
			t.Errorf("after %v the frame is %+v", time.Since(start), f)
		}
		if f := next(t, at); f.Mail {
			t.Error("the same message is told of again")
		}
		if f := next(t, from); f.Mail || time.Since(start) != wire.HeartbeatEvery {
			t.Errorf("the sender is told after %v: %+v", time.Since(start), f)
		}
		// What is kept from no peer wakes nobody.
		if _, err := n.PairMail(t.Context(), nord.ID, leaveMail("node_none", "x")); err != nil {
			t.Fatal(err)
		}
		if f := next(t, at); f.Mail {
			t.Error("told of a message that was not kept")
		}
	})
}
