package provisioning

import "fmt"

// Code is a machine-readable kind of error.
type Code string

// The kinds of error an operator or a box can meet. Anything that is not an *Error is internal: logged in detail, shown as such.
const (
	Invalid     Code = "invalid"
	NotFound    Code = "not_found"
	Conflict    Code = "conflict"
	Denied      Code = "denied"
	Expired     Code = "expired"
	Unavailable Code = "unavailable"
)

// Error is an error fit for a person.
type Error struct {
	Code Code
	// Message says what is wrong, lower case, without a final stop.
	Message string
	// Hint says what to do about it.
	Hint string
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(c Code, format string, a ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, a...)}
}

// WithHint adds what to do.
func (e *Error) WithHint(format string, a ...any) *Error {
	e.Hint = fmt.Sprintf(format, a...)
	return e
}
