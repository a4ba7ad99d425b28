package main

import (
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
)

func TestPlanState(t *testing.T) {
	now := time.Unix(1000, 0)
	for want, n := range map[string]adminapi.Node{
		"":                      {State: "waiting", Desired: 7},
		"current":               {State: "active", Applied: 812, Desired: 812},
		"811 of 812":            {State: "active", Applied: 811, Desired: 812},
		"811 of 812 since 14 s": {State: "active", Applied: 811, Desired: 812, BehindSince: now.Add(-14 * time.Second)},
	} {
		if got := planState(n, now); got != want {
			t.Errorf("%d of %d is %q, want %q", n.Applied, n.Desired, got, want)
		}
	}
}
