package hl7

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/proxy"
)

// Mode is how a Route answers.
type Mode string

// The modes.
const (
	// Queued stores a message, answers for the storage, and leaves delivery to a Sink: for results and everything that must arrive even
	// when the line is down.
	Queued Mode = "queued"
	// PassThrough holds the line until the far end answers and relays that answer: for queries and for orders whose answer matters. When
	// none comes there is none, and the sender keeps its message.
	PassThrough Mode = "pass-through"
)

// Route says what happens to messages for one receiver.
type Route struct {
	// Service names the route in logs.
	Service string
	// Receiver is compared with MSH-5 and MSH-6: "APP", "APP^FACILITY", or empty for all. The most exact route wins.
	Receiver string
	Mode     Mode
	// QueueName is where a Queued route stores.
	QueueName string
	// Network and Target (address and port) are where a PassThrough route dials.
	Network proxy.Network
	Target  string
}

func (r Route) validate(haveQueue bool) error {
	switch r.Mode {
	case Queued:
		if r.QueueName == "" || !haveQueue {
			return errors.New("a queued route needs a queue and its name")
		}
	case PassThrough:
		if r.Network == nil || r.Target == "" {
			return errors.New("a pass-through route needs a network and a target")
		}
	default:
		return fmt.Errorf("there is no mode %q; it must be %q or %q", r.Mode, Queued, PassThrough)
	}
	return nil
}

// exactness sorts the most exact receivers first.
func (r Route) exactness() int {
	if r.Receiver == "" {
		return 0
	}
	return 1 + strings.Count(r.Receiver, "^")
}

func (r Route) matches(application, facility string) bool {
	app, fac, both := strings.Cut(r.Receiver, "^")
	return r.Receiver == "" || app == application && (!both || fac == facility)
}

// sortRoutes checks the routes and puts the most exact first.
func sortRoutes(routes []Route, haveQueue bool) ([]Route, error) {
	sorted := slices.Clone(routes)
	slices.SortStableFunc(sorted, func(a, b Route) int { return cmp.Compare(b.exactness(), a.exactness()) })
	seen := map[string]bool{}
	for _, r := range sorted {
		if err := r.validate(haveQueue); err != nil {
			return nil, fmt.Errorf("route %q for receiver %q: %w", r.Service, r.Receiver, err)
		}
		if seen[r.Receiver] {
			return nil, fmt.Errorf("route %q: there is another route for receiver %q", r.Service, r.Receiver)
		}
		seen[r.Receiver] = true
	}
	return sorted, nil
}

// route returns the index of the route for a message, or a text that says why there is none.
func (r *Router) route(h Header) (int, string) {
	application, facility := h.Component(5, 1), h.Component(6, 1)
	for i, route := range r.routes {
		if route.matches(application, facility) {
			return i, ""
		}
	}
	for _, route := range r.routes {
		if strings.EqualFold(route.Receiver, application) || strings.EqualFold(route.Receiver, application+"^"+facility) {
			return -1, fmt.Sprintf("MSH-5/6 %s unknown here; %s is: check upper and lower case", h.Receiver(), showable(route.Receiver))
		}
	}
	if application == "" {
		return -1, "MSH-5 (receiving application) is empty; set it in the sender"
	}
	return -1, fmt.Sprintf("no route for receiver %s (MSH-5/6); check its name", h.Receiver())
}
