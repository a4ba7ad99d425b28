package rotation_test

import (
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/rotation"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	a, b, c := wgkey.PublicKey{1}, wgkey.PublicKey{2}, wgkey.PublicKey{3}
	plan := func(key wgkey.PublicKey, step wire.RotateStep, next wgkey.PublicKey) wire.Self {
		return wire.Self{PublicKey: key, Rotate: step, NextKey: next}
	}
	type box = rotation.Box
	for _, x := range []struct {
		name string
		box  box
		want rotation.Step
	}{
		{"nothing to do", box{Own: a, Self: plan(a, "", wgkey.PublicKey{})}, rotation.Nothing},
		{"asked for a key", box{Own: a, Self: plan(a, wire.RotateMake, wgkey.PublicKey{})}, rotation.Make},
		{"the plan waits for a lost key", box{Own: a, Self: plan(a, wire.RotateWait, b)}, rotation.Lost},
		{"the plan turns to a lost key", box{Own: a, Self: plan(a, wire.RotateTurn, b)}, rotation.Lost},
		{"another box's map", box{Own: a, Self: plan(c, wire.RotateMake, wgkey.PublicKey{})}, rotation.Nothing},

		{"made, not told", box{Own: a, Next: b, Self: plan(a, wire.RotateMake, wgkey.PublicKey{})}, rotation.Tell},
		{"told", box{Own: a, Next: b, Self: plan(a, wire.RotateWait, b), Connected: true}, rotation.Nothing},
		{"told another one", box{Own: a, Next: b, Self: plan(a, wire.RotateWait, c), Connected: true}, rotation.Lost},
		{"the change was called off", box{Own: a, Next: b, Self: plan(a, "", wgkey.PublicKey{}), Connected: true}, rotation.Nothing},
		{"all know it", box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, b), Connected: true}, rotation.Turn},
		{"all know another one", box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, c), Connected: true}, rotation.Lost},
		{"the hub has just gone", box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, b), Since: ago(119 * time.Second)}, rotation.Nothing},
		{"the hub is gone", box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, b), Since: ago(2 * time.Minute)}, rotation.Turn},
		{
			"went back a while ago",
			box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, b), Connected: true, Back: ago(599 * time.Second)},
			rotation.Nothing,
		},
		{"went back long ago", box{Own: a, Next: b, Self: plan(a, wire.RotateTurn, b), Connected: true, Back: ago(10 * time.Minute)}, rotation.Turn},
		{"the plan has changed while it was back", box{Own: a, Next: b, Self: plan(b, "", wgkey.PublicKey{}), Back: now}, rotation.Turn},

		{"turned, the device is not configured yet", box{Own: b, Former: a, Self: plan(a, wire.RotateTurn, b)}, rotation.Nothing},
		{"turned, waiting for the hub", box{Own: b, Former: a, Self: plan(a, wire.RotateTurn, b), Turned: ago(119 * time.Second)}, rotation.Nothing},
		{"turned, the hub is silent", box{Own: b, Former: a, Self: plan(a, wire.RotateTurn, b), Turned: ago(2 * time.Minute)}, rotation.Back},
		{
			"turned, the hub has heard it and the coordinator takes its time",
			box{Own: b, Former: a, Self: plan(a, wire.RotateTurn, b), Turned: ago(time.Hour), Reached: true},
			rotation.Nothing,
		},
		{"turned, the change was called off", box{Own: b, Former: a, Self: plan(a, "", wgkey.PublicKey{}), Turned: now}, rotation.Back},
		{"turned, done", box{Own: b, Former: a, Self: plan(b, "", wgkey.PublicKey{}), Turned: now}, rotation.Settle},
		{"turned, done, and the next begins", box{Own: b, Former: a, Self: plan(b, wire.RotateMake, wgkey.PublicKey{})}, rotation.Settle},
	} {
		if got := rotation.Decide(x.box, now); got != x.want {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}
