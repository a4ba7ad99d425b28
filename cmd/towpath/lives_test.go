package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/towpath/towpath/gateway"
)

func TestLives(t *testing.T) {
	broken := errors.New("broken")
	const auto, carried = "auto give=true stand=false", "userspace give=false stand=true"
	for name, c := range map[string]struct {
		o     gatewayOptions
		ends  []error
		lives []string
		err   error
	}{
		"one":             {gatewayOptions{Backend: "auto"}, []error{nil}, []string{auto}, nil},
		"it fails":        {gatewayOptions{Backend: "auto"}, []error{broken}, []string{auto}, broken},
		"a choice":        {gatewayOptions{Backend: "kernel"}, []error{nil}, []string{"kernel give=false stand=false"}, nil},
		"called by port":  {gatewayOptions{Backend: "auto", Port: 51820}, []error{nil}, []string{"auto give=false stand=false"}, nil},
		"blocked":         {gatewayOptions{Backend: "auto"}, []error{gateway.ErrBlocked, nil}, []string{auto, carried}, nil},
		"and back":        {gatewayOptions{Backend: "auto"}, []error{gateway.ErrBlocked, gateway.ErrUnblocked, nil}, []string{auto, carried, auto}, nil},
		"and on":          {gatewayOptions{Backend: "auto"}, []error{gateway.ErrBlocked, gateway.ErrUnblocked, gateway.ErrBlocked, nil}, []string{auto, carried, auto, carried}, nil},
		"no other device": {gatewayOptions{Backend: "auto"}, []error{gateway.ErrBlocked, broken, nil}, []string{auto, carried, "auto give=false stand=false"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := lives(t.Context(), c.o, slog.New(slog.DiscardHandler), func(o gatewayOptions) error {
				got = append(got, fmt.Sprintf("%s give=%v stand=%v", o.Backend, o.GiveWay, o.StandIn))
				if (o.Why != "") != o.StandIn {
					t.Errorf("the reason for %s: %q", o.Backend, o.Why)
				}
				return c.ends[len(got)-1]
			})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || !slices.Equal(got, c.lives) {
				t.Errorf("lives %q, %v; want %q, %v", got, err, c.lives, c.err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if err := lives(ctx, gatewayOptions{Backend: "auto"}, slog.New(slog.DiscardHandler), func(gatewayOptions) error {
		n++
		cancel()
		return gateway.ErrBlocked
	}); n != 1 || err != nil {
		t.Errorf("after the end: %d lives, %v", n, err)
	}
}
