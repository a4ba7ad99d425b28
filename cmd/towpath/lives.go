package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/towpath/towpath/cmd/towpath/internal/box"
	"github.com/towpath/towpath/gateway"
)

// lives runs a gateway, and others after it where the backend is left to us: one on the kernel's WireGuard that finds UDP blocked gives way to
// one that can be carried over TCP, and that to the fast one again when UDP has worked for a while.
func lives(ctx context.Context, o gatewayOptions, log *slog.Logger, live func(gatewayOptions) error) error {
	first := o
	o.GiveWay = o.Backend == box.Auto && o.Port == 0 && o.Relay == nil
	for {
		err := live(o)
		blocked, unblocked := errors.Is(err, gateway.ErrBlocked), errors.Is(err, gateway.ErrUnblocked)
		switch {
		case ctx.Err() != nil && (blocked || unblocked):
			return nil
		case blocked:
			log.Warn("UDP is blocked here: the tunnel is built again with a backend that can be carried over TCP", "backend", box.Userspace)
			o.GiveWay, o.StandIn = false, true
			o.Backend, o.Why = box.Userspace, "UDP was blocked here, and the kernel's WireGuard cannot be carried over TCP"
		case unblocked:
			log.Info("UDP works again: the tunnel is built again with the backend that fits this machine")
			o = first
			o.GiveWay = true
		case err != nil && o.StandIn:
			log.Error("the tunnel cannot be carried over TCP here, and stays as it was", "error", err)
			o = first
		default:
			return err
		}
	}
}
