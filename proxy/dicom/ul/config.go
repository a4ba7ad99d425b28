package ul

import (
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// The identity that this implementation gives itself in every association and file (PS3.7 §D.3.3.2). The class UID is derived
// from a UUID (PS3.5 §B.2) that was drawn once for this purpose.
const (
	ImplementationClass   = "2.25.29159050966011388838128063443709037781"
	ImplementationVersion = "TOWPATH_1"
)

// DefaultQuiet is that of Config.Quiet.
const DefaultQuiet = 10 * time.Minute

// Config sets limits and times of an association. A zero field means its default.
type Config struct {
	// Limits bound PDUs.
	Limits pdu.Limits
	// MaxCommand is the largest command set in bytes. Default 16 KiB; real ones have a few hundred bytes.
	MaxCommand int
	// Associate is how long the whole negotiation may take: for an acceptor the ARTIM timer until the request has arrived (PS3.8
	// §9.1.5), for a requestor the wait for its answer. Default 30 s.
	Associate time.Duration
	// Progress and MinProgress are what a peer must do inside a message: move MinProgress bytes in every span of Progress. Total
	// time is not limited, so that a big object on a slow line passes. Defaults 60 s and 8 KiB.
	Progress    time.Duration
	MinProgress int
	// Quiet is how long nothing may arrive between two messages. Default 10 min: some modalities keep an association for a whole
	// exam.
	Quiet time.Duration
	// Response is how long a requestor waits for the response to a message it has sent. Default 5 min: archives compress and index.
	Response time.Duration
	// Close is how long we wait for the peer to close after a goodbye (ARTIM in Sta13), so that it can read ours. Default 2 s.
	Close time.Duration
	// Log may be nil.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.WithDefaults()
	c.MaxCommand = orDefault(c.MaxCommand, 16<<10)
	c.Associate = orDefault(c.Associate, 30*time.Second)
	c.Progress = orDefault(c.Progress, time.Minute)
	c.MinProgress = orDefault(c.MinProgress, 8<<10)
	c.Quiet = orDefault(c.Quiet, DefaultQuiet)
	c.Response = orDefault(c.Response, 5*time.Minute)
	c.Close = orDefault(c.Close, 2*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
