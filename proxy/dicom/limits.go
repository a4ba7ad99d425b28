package dicom

import (
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// Limits bound what one peer can cost. A zero field means its default. One association holds at most about 0.5 MB plus what the
// spool keeps for one object; see package ul.
type Limits struct {
	// PDU are the limits of negotiation and of the size of PDUs.
	PDU pdu.Limits
	// MaxObject is the largest data set in bytes. Default 16 GiB. What exceeds it is refused with A700 and read to its end, up to
	// twice the limit, after which the association is aborted.
	MaxObject int64

	// Dial is how long connecting may take. Default 10 s.
	Dial time.Duration
	// Associate, Progress, MinProgress, Quiet, Response and Close are those of ul.Config.
	Associate   time.Duration
	Progress    time.Duration
	MinProgress int
	Quiet       time.Duration
	Response    time.Duration
	Close       time.Duration
	// PassThroughQuiet is how long a passed-through association may be silent in both directions. Default 30 min: a C-MOVE from a
	// slow archive may not say anything until it is done. PassThroughEnd is how long the other direction may go on, and be
	// silent, once one has ended. Default 30 s.
	PassThroughQuiet time.Duration
	PassThroughEnd   time.Duration
}

// The defaults of Limits that are not those of ul.
const (
	DefaultMaxObject        = 16 << 30
	DefaultDial             = 10 * time.Second
	DefaultPassThroughQuiet = 30 * time.Minute
	DefaultPassThroughEnd   = 30 * time.Second
)

// releaseTime bounds the goodbye of an association that is no longer needed.
const releaseTime = 5 * time.Second

func (l Limits) withDefaults() Limits {
	l.PDU = l.PDU.WithDefaults()
	if l.MaxObject == 0 {
		l.MaxObject = DefaultMaxObject
	}
	if l.Dial == 0 {
		l.Dial = DefaultDial
	}
	if l.PassThroughQuiet == 0 {
		l.PassThroughQuiet = DefaultPassThroughQuiet
	}
	if l.PassThroughEnd == 0 {
		l.PassThroughEnd = DefaultPassThroughEnd
	}
	return l
}

// quiet is how long an association may say nothing.
func (l Limits) quiet() time.Duration {
	if l.Quiet == 0 {
		return ul.DefaultQuiet
	}
	return l.Quiet
}

// upper returns the configuration of the upper layer.
func (l Limits) upper(log *slog.Logger) ul.Config {
	return ul.Config{
		Limits: l.PDU, Associate: l.Associate, Progress: l.Progress, MinProgress: l.MinProgress,
		Quiet: l.Quiet, Response: l.Response, Close: l.Close, Log: log,
	}
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
