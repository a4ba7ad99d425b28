package hl7

import "strings"

// Acknowledgment modes (HL7 2.5.1 §2.9.2 and §2.9.3): with MSH-15 and MSH-16 both empty the original mode holds, in which each message
// gets one answer from the application. Otherwise MSH-15 says when the sender wants an accept acknowledgment (safe storage) and MSH-16
// when it wants one from the application: AL always, NE never, ER on error, SU on success. Empty beside a filled one means never.

func (h Header) enhanced() bool { return h.Field(15) != "" || h.Field(16) != "" }

// wants reports whether a condition asks for an answer of that kind. What the standard does not know counts as always.
func wants(condition string, success bool) bool {
	switch strings.ToUpper(strings.TrimSpace(condition)) {
	case "", "NE":
		return false
	case "ER":
		return !success
	case "SU":
		return success
	default:
		return true
	}
}

// answer turns what we want to say, in words of the original mode, into what the sender wants to hear. A sender that wants no accept
// acknowledgment but one from the application gets our word for storage as that, as in the original mode.
func (h Header) answer(code Code) (Code, bool) {
	switch {
	case !h.enhanced():
		return code, true
	case wants(h.Field(15), code.OK()):
		return "C" + code[1:], true
	case wants(h.Field(15), !code.OK()):
		return "", false
	default:
		return code, wants(h.Field(16), code.OK())
	}
}

// patience is what the sender of a message may expect of the receiver.
type patience int

const (
	// noAnswer comes at all.
	noAnswer patience = iota
	// onlyErrors are answered.
	onlyErrors
	// anAnswer must come.
	anAnswer
)

// expects returns which answer to this message ends the exchange.
func (h Header) expects() patience {
	if h.isAck() {
		return noAnswer
	}
	if !h.enhanced() {
		return anAnswer
	}
	for _, condition := range []string{h.Field(15), h.Field(16)} {
		switch {
		case wants(condition, true):
			return anAnswer
		case wants(condition, false):
			return onlyErrors
		}
	}
	return noAnswer
}

// answers returns how many answers may come: one in the original mode, an accept and an application acknowledgment in the enhanced one.
// Many receivers know the original mode only, so one is always possible.
func (h Header) answers() int {
	if wants(h.Field(15), true) || wants(h.Field(15), false) {
		if wants(h.Field(16), true) || wants(h.Field(16), false) {
			return 2
		}
	}
	return 1
}
