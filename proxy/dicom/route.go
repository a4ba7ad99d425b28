package dicom

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/spool"
)

// Mode says what a Route does with associations.
type Mode uint8

// The modes.
const (
	// Queued answers for the far side: objects go to a durable queue.
	Queued Mode = iota + 1
	// PassThrough connects the far side at once and forwards bytes.
	PassThrough
)

// String returns the word of the configuration.
func (m Mode) String() string {
	switch m {
	case Queued:
		return "queued"
	case PassThrough:
		return "pass-through"
	}
	return "unknown"
}

// Route is where associations with one called AE title go.
type Route struct {
	// Service is the name shown to people.
	Service string
	// AETitle is the called AE title; empty takes all that no other Route names.
	AETitle string
	Mode    Mode
	// QueueName is the queue of a Queued route.
	QueueName string
	// Network and Target, a host and port that the Network understands, are the far side of a PassThrough route.
	Network proxy.Network
	Target  string
	// Twin stands for the archive of the route; it may be nil. A Queued route accepts what the archive does, a PassThrough one tells other
	// gateways of it. Hold makes a Queued route accept everything: what the archive then refuses is parked.
	Twin *Twin
	Hold bool
	// Pledges takes requests for storage commitment on a Queued route; nil refuses them.
	Pledges *Pledges
	// Rules say who may use the route.
	Rules Rules
	// Urgent says which objects of a Queued route pass others.
	Urgent Urgency
	// FarEcho, if not nil, is asked for the state of the archive when a device sends a C-ECHO to a Queued route; else the answer is the
	// gateway's own.
	FarEcho func(ctx context.Context, calling string) error
}

func (r Route) check(queue spool.Queue) error {
	if r.AETitle != "" {
		if err := pdu.CheckAETitle(r.AETitle); err != nil {
			return err
		}
	}
	switch r.Mode {
	case Queued:
		if r.QueueName == "" || queue == nil {
			return errors.New("a queued route needs a queue")
		}
	case PassThrough:
		if r.Network == nil {
			return errors.New("a pass-through route needs a network")
		}
		if _, _, err := net.SplitHostPort(r.Target); err != nil {
			return fmt.Errorf("target: %w", err)
		}
	default:
		return fmt.Errorf("mode %q", r.Mode)
	}
	return nil
}

// pick returns the Route for a called AE title.
func pick(routes []Route, called string) (Route, bool) {
	for _, wanted := range []string{called, ""} {
		if i := slices.IndexFunc(routes, func(r Route) bool { return r.AETitle == wanted }); i >= 0 {
			return routes[i], true
		}
	}
	return Route{}, false
}

// unknownAE explains to an operator why a called AE title was refused, naming the one that was probably meant.
func unknownAE(called string, known []string) string {
	for _, k := range known {
		switch {
		case strings.EqualFold(k, called):
			return fmt.Sprintf("the called AE title %q is unknown, but %q is known and upper and lower case count: "+
				"correct the called AE title in the sending device", printable(called), k)
		case strings.EqualFold(squeeze(k), squeeze(called)):
			return fmt.Sprintf("the called AE title %q is unknown, but %q is known and differs only in blanks, hyphens or "+
				"underscores: correct the called AE title in the sending device", printable(called), k)
		}
	}
	const show = 8
	names := known
	if len(names) > show {
		names = names[:show]
	}
	list := strings.Join(names, ", ")
	if len(known) > show {
		list += ", ..."
	}
	return fmt.Sprintf("the called AE title %q is unknown; known are: %s. Correct the called AE title in the sending device, "+
		"or add a service with this AE title", printable(called), list)
}

// squeeze removes what people mix up.
func squeeze(s string) string {
	return strings.NewReplacer(" ", "", "-", "", "_", "", ".", "").Replace(s)
}

// printable makes a peer's text safe to show: 64 characters at most, anything outside printable ASCII as "?".
func printable(s string) string {
	b := []byte(s)
	if len(b) > 64 {
		b = b[:64]
	}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
