package prove_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/prove"
)

// TestSafety holds which ways to break a network only keep something from working, and that all others may do worse.
func TestSafety(t *testing.T) {
	harmless := []string{
		"a workstation's use dropped", "also dropped, though used", "boxes are mapped", "grant doubled", "hub's former dropped", "hub's next key dropped", "map dropped", "mapped forgotten",
		"offer dropped", "offer's from one", "own address not offered", "own address not offered, and not used", "peer dropped", "peer's addresses gone", "peer's mapped dropped", "peer's next key dropped",
		"use dropped", "shared dropped", "shared is less", "used place missing at the second",
	}
	// What these do depends on the network.
	either := []string{"hub peer dropped", "peer's mapped at another peer", "service dropped", "node's next key is another's", "node's next key is the hub's"}
	for name, mutate := range mutants() {
		if slices.Contains(either, name) {
			continue
		}
		want := !slices.Contains(harmless, name)
		applied := 0
		rapid.Check(t, func(t *rapid.T) {
			if applied == 4 {
				return
			}
			in := cloned(t, compiled(t, genSnapshot().Draw(t, "network")))
			if !mutate(t, &in) {
				return
			}
			applied++
			_, err := prove.Prove(in, stamp)
			bad, ok := errors.AsType[*prove.RefutedError](err)
			if !ok {
				t.Fatal(name, err)
			}
			if got := slices.ContainsFunc(bad.CounterExamples, prove.CounterExample.Safety); got != want {
				t.Fatalf("%s: safety is %v, want %v: %v", name, got, want, bad.CounterExamples)
			}
		})
	}
}
