package hl7

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/spool"
)

// Attributes of a spooled message. The payload is the message as it was received, without its frame.
const (
	AttrControlID = "hl7.control_id"
	AttrType      = "hl7.type"
	AttrSender    = "hl7.sender"
	AttrReceiver  = "hl7.receiver"
	// AttrKey is what a Ledger knows the message by.
	AttrKey = "hl7.key"
)

const maxAttribute = 256

const noControlID = "MSH-10 (message control ID) is empty; the answer could not be matched"

// store answers for a message after it is synced to disk, once for each route.
func (s *session) store(ctx context.Context, routes []Route, h Header, msg []byte) error {
	again, err := s.storeAll(ctx, routes, h, msg)
	if err != nil {
		return s.notStored(routes[0], h, err)
	}
	text := "stored by the gateway, will be delivered"
	if again {
		text = "taken before, not delivered again"
	} else {
		s.res.Items++
	}
	return s.accept(h, text)
}

// accept says yes.
func (s *session) accept(h Header, text string) error {
	if err := s.commitment(true); err != nil {
		return err
	}
	code, wanted := h.answer(AA)
	if !wanted {
		return nil
	}
	return s.reply(h.Ack(code, text))
}

func (s *session) notStored(r Route, h Header, err error) error {
	if e, ok := errors.AsType[*end](err); ok {
		return e
	}
	switch {
	case errors.Is(err, spool.ErrClosed), errors.Is(err, context.Canceled):
		return &end{outcome: proxy.OutcomeAborted, detail: "the gateway is shutting down", cause: err}
	case errors.Is(err, spool.ErrFull):
		return s.refuse(h, AE, "the gateway's storage is full; send again later and tell your IT")
	case errors.Is(err, ErrUnsuited):
		return s.refuse(h, AR, err.Error())
	}
	s.router.log.Error("a message could not be stored", "service", r.Service, "error", err)
	return s.refuse(h, AE, "the gateway could not store the message; send again later")
}

// storeAll stores a message where it is not stored yet and reports whether it was everywhere.
func (s *session) storeAll(ctx context.Context, routes []Route, h Header, msg []byte) (again bool, err error) {
	again = true
	for _, r := range routes {
		known, err := s.router.storeOnce(ctx, r, h, msg)
		if err != nil {
			return false, err
		}
		again = again && known
	}
	return again, nil
}

func (r *Router) storeOnce(ctx context.Context, to Route, h Header, msg []byte) (known bool, err error) {
	id := identify(to.destination(), h, msg)
	v, _, release, err := r.ledger.begin(ctx, id)
	if err != nil {
		return false, err
	}
	defer release()
	r.note(v, to.Service)
	switch {
	case to.Mode == Filed:
		return v == repeated, r.file(to, id, v, msg)
	case v == repeated:
		return true, nil
	}
	if err := commit(r.queue, spool.Meta{Queue: to.QueueName, Priority: to.priority(h, msg)}, id, h, msg); err != nil {
		return false, err
	}
	// The queue holds the message, and so its identity, too: see Ledger.
	if err := r.ledger.add(id, nil); err != nil {
		r.log.Warn("a message could not be remembered; if its sender repeats it, it may be delivered twice", "service", to.Service, "error", err)
	}
	return false, nil
}

// file writes a message to its folder. When that fails there is no answer, since a negative one could end the sender's attempts: the
// message waits where it is until there is room.
func (r *Router) file(to Route, id identity, v verdict, msg []byte) error {
	var err error
	if v == repeated {
		err = to.Folder.finish(id, r.ledger)
	} else {
		err = to.Folder.put(id, r.ledger, msg, to.Format)
	}
	if err == nil || errors.Is(err, ErrUnsuited) {
		return err
	}
	r.counters.count(to.Service, func(c *Counts) { c.Unfiled++; c.LastUnfiled = time.Now() })
	r.log.Error("a message could not be written to its folder", "service", to.Service, "error", err)
	detail := "the folder of " + to.Service + " cannot be written; the message was not answered, the sender will try again"
	if errors.Is(err, ErrFolderFull) {
		detail = "the folder of " + to.Service + " is full: its software must collect the files; the message was not answered, the sender will try again"
	}
	return &end{outcome: proxy.OutcomeRefused, detail: detail, cause: err}
}

// note counts what the Ledger says of a message.
func (r *Router) note(v verdict, service string) {
	switch v {
	case repeated:
		r.counters.count(service, func(c *Counts) { c.Duplicates++; c.LastDuplicate = time.Now() })
		r.log.Info("a message was sent again and is not delivered again", "service", service)
	case reused:
		r.counters.count(service, func(c *Counts) { c.Reused++; c.LastReused = time.Now() })
		r.log.Info("a message has the control ID of another one of its sender; both are delivered", "service", service)
	case unknown:
	}
}

// commit stores a message in a queue, synced.
func commit(q spool.Queue, m spool.Meta, id identity, h Header, msg []byte) error {
	m.Attributes = map[string]string{
		AttrControlID: attribute(h.ControlID()), AttrType: h.Type(), AttrSender: h.Sender(), AttrReceiver: h.Receiver(), AttrKey: id.key.String(),
	}
	w, err := q.Create(m)
	if err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	defer w.Abort()
	if _, err := w.Write(msg); err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	if _, err := w.Commit(); err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	return nil
}

// attribute makes valid UTF-8 of a field in any character set: bytes that are not are taken as ISO 8859-1.
func attribute(s string) string {
	s = s[:min(len(s), maxAttribute)]
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteRune(rune(c))
	}
	return b.String()
}
