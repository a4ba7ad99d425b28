package hl7

import (
	"errors"
	"fmt"
	"strings"
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
)

const maxAttribute = 256

// store answers for a message after it is synced to disk.
func (s *session) store(r Route, h Header, msg []byte) error {
	if h.ControlID() == "" {
		return s.refuse(h, AR, "MSH-10 (message control ID) is empty; the answer could not be matched")
	}
	switch err := s.commit(r, h, msg); {
	case err == nil:
	case errors.Is(err, spool.ErrClosed):
		return &end{outcome: proxy.OutcomeAborted, detail: "the gateway is shutting down", cause: err}
	case errors.Is(err, spool.ErrFull):
		return s.refuse(h, AE, "the gateway's storage is full; send again later and tell your IT")
	default:
		s.router.log.Error("a message could not be stored", "service", r.Service, "error", err)
		return s.refuse(h, AE, "the gateway could not store the message; send again later")
	}
	s.res.Items++
	code, wanted := h.answer(AA)
	if !wanted {
		return nil
	}
	return s.reply(h.Ack(code, "stored by the gateway, will be delivered"))
}

func (s *session) commit(r Route, h Header, msg []byte) error {
	w, err := s.router.queue.Create(spool.Meta{Queue: r.QueueName, Attributes: map[string]string{
		AttrControlID: attribute(h.ControlID()), AttrType: h.Type(), AttrSender: h.Sender(), AttrReceiver: h.Receiver(),
	}})
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
