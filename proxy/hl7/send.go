package hl7

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/proxy"
)

// SendConfig says where Send sends.
type SendConfig struct {
	Network proxy.Network
	// Target is an address and port.
	Target string
	// AckTimeout bounds the wait for the answer. Zero means DefaultAckTimeout.
	AckTimeout time.Duration
	// Commit means that the receiver uses commit acknowledgments (MLLP, release 2).
	Commit bool
	Limits Limits
}

// Send sends one message on a connection of its own and returns the answer, also a negative one. When the message asks for no
// answer (MSH-15 and MSH-16) and none comes, the Ack has no code.
func Send(ctx context.Context, cfg SendConfig, msg []byte) (Ack, error) {
	h, err := ParseHeader(msg)
	if err != nil {
		return Ack{}, fmt.Errorf("send a message: %w", err)
	}
	if h.isAck() {
		return Ack{}, errors.New("send a message: it is an acknowledgment, which nobody answers")
	}
	c := newCaller(cfg.Network, cfg.Target, cfg.AckTimeout, cfg.Limits)
	c.commit = cfg.Commit
	defer c.close()
	a, err := c.exchange(ctx, h, msg)
	if err != nil {
		return Ack{}, fmt.Errorf("send a message: %w", err)
	}
	return a, nil
}
