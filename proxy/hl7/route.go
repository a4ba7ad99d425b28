package hl7

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/spool"
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
	// Filed writes each message to a Folder and answers when it is there. When it cannot be written there is no answer.
	Filed Mode = "filed"
)

// Route says what happens to messages for one receiver.
type Route struct {
	// Service names the route in logs.
	Service string
	// Receiver is compared with MSH-5 and MSH-6: "APP", "APP^FACILITY", or empty for all. The most exact route wins.
	Receiver string
	// Types are compared with MSH-9: "ORU" for all triggers of a type, "ORU^R01" for one; none for all messages. Of routes whose receiver is
	// equally exact, the one with the most exact type wins.
	Types []string
	// Copy makes the route take what it matches in addition to the route that wins. Its mode must be Queued.
	Copy bool
	Mode Mode
	// QueueName is where a Queued route stores.
	QueueName string
	// Network and Target (address and port) are where a PassThrough route dials.
	Network proxy.Network
	Target  string
	// Folder is where a Filed route writes, Format what; nil writes messages as they are.
	Folder *Folder
	Format Format
	// Once makes a PassThrough route answer a message that the far end has taken already with the answer it gave then. Queries must not
	// have it: they want a new answer.
	Once bool
	// AckTimeout bounds the wait for the far end of a PassThrough route. Zero means the Router's.
	AckTimeout time.Duration
	// CommitSender and CommitTarget mean that the senders, or the far end of a PassThrough route, use commit acknowledgments (MLLP,
	// release 2).
	CommitSender, CommitTarget bool
	// UrgentStat lets messages about what cannot wait, by the priority S or A in ORC-7, OBR-27 or TQ1-9, pass others of a Queued route.
	UrgentStat bool
}

func (r Route) validate(haveQueue bool) error {
	if r.Copy && r.Mode != Queued {
		return errors.New("a route for copies must be queued")
	}
	for _, t := range r.Types {
		if code, trigger, both := strings.Cut(t, "^"); code == "" || both && trigger == "" {
			return fmt.Errorf("the message type %q is neither TYPE nor TYPE^TRIGGER", t)
		}
	}
	switch r.Mode {
	case Queued:
		if r.QueueName == "" || !haveQueue {
			return errors.New("a queued route needs a queue and its name")
		}
	case PassThrough:
		if r.Network == nil || r.Target == "" {
			return errors.New("a pass-through route needs a network and a target")
		}
	case Filed:
		if r.Folder == nil {
			return errors.New("a filed route needs a folder")
		}
	default:
		return fmt.Errorf("there is no mode %q; it must be %q, %q or %q", r.Mode, Queued, PassThrough, Filed)
	}
	return nil
}

// priority is that of a message in the route's queue.
func (r Route) priority(h Header, msg []byte) int {
	if r.UrgentStat && urgent(h, msg) {
		return spool.Urgent
	}
	return 0
}

// destination names the route for the Ledger.
func (r Route) destination() string {
	if r.Mode == Queued {
		return r.QueueName
	}
	return "to." + r.Service
}

// receiverFits returns how exactly the receiver fits: 0 not at all, 1 because the route takes all, up to 3 for application and facility.
func (r Route) receiverFits(application, facility string) int {
	app, fac, both := strings.Cut(r.Receiver, "^")
	switch {
	case r.Receiver == "":
		return 1
	case app != application || both && fac != facility:
		return 0
	case both:
		return 3
	}
	return 2
}

// typeFits does the same for the type.
func (r Route) typeFits(code, trigger string) int {
	if len(r.Types) == 0 {
		return 1
	}
	best := 0
	for _, t := range r.Types {
		c, x, both := strings.Cut(t, "^")
		switch {
		case !strings.EqualFold(c, code):
		case !both:
			best = max(best, 2)
		case strings.EqualFold(x, trigger):
			best = 3
		}
	}
	return best
}

// checkRoutes refuses routes that could both win.
func checkRoutes(routes []Route, haveQueue bool) error {
	type way struct{ receiver, kind string }
	seen := map[way]string{}
	for _, r := range routes {
		if err := r.validate(haveQueue); err != nil {
			return fmt.Errorf("route %q for receiver %q: %w", r.Service, r.Receiver, err)
		}
		if r.Copy {
			continue
		}
		types := r.Types
		if len(types) == 0 {
			types = []string{""}
		}
		for _, t := range types {
			w := way{r.Receiver, strings.ToUpper(t)}
			if other, taken := seen[w]; taken {
				return fmt.Errorf("route %q: there is another route, %q, for receiver %q and %s", r.Service, other, r.Receiver, cmp.Or(t, "all messages"))
			}
			seen[w] = r.Service
		}
	}
	return nil
}

// way is where one message goes.
type way struct {
	// main is the index of the route that wins, -1 if only copies are taken.
	main int
	// copies are the indices of the routes that take it besides.
	copies []int
}

// route finds the way of a message, or a text that says why there is none.
func (r *Router) route(h Header) (way, string) {
	application, facility := h.Component(5, 1), h.Component(6, 1)
	code, trigger := h.Component(9, 1), h.Component(9, 2)
	w, best, known := way{main: -1}, 0, false
	for i, route := range r.routes {
		receiver, kind := route.receiverFits(application, facility), route.typeFits(code, trigger)
		known = known || receiver > 0
		switch {
		case receiver == 0 || kind == 0:
		case route.Copy:
			w.copies = append(w.copies, i)
		case 4*receiver+kind > best:
			w.main, best = i, 4*receiver+kind
		}
	}
	switch {
	case w.main >= 0 || len(w.copies) > 0:
		return w, ""
	case known:
		return w, fmt.Sprintf("no route for messages of type %s to receiver %s (MSH-9, MSH-5/6)", h.Type(), h.Receiver())
	}
	return w, r.unknownReceiver(h, application, facility)
}

func (r *Router) unknownReceiver(h Header, application, facility string) string {
	for _, route := range r.routes {
		if strings.EqualFold(route.Receiver, application) || strings.EqualFold(route.Receiver, application+"^"+facility) {
			return fmt.Sprintf("MSH-5/6 %s unknown here; %s is: check upper and lower case", h.Receiver(), showable(route.Receiver))
		}
	}
	if application == "" {
		return "MSH-5 (receiving application) is empty; set it in the sender"
	}
	return fmt.Sprintf("no route for receiver %s (MSH-5/6); check its name", h.Receiver())
}

// queued returns the routes of w that store.
func (w way) queued(routes []Route) []Route {
	var out []Route
	if w.main >= 0 && routes[w.main].Mode == Queued {
		out = append(out, routes[w.main])
	}
	for _, i := range w.copies {
		out = append(out, routes[i])
	}
	return slices.Clip(out)
}
