// Package diag words failures for a tired admin at night: what was being done and to what, what happened, and what to do
// next. Every package of converge returns its failures in this form, so that a library's bare error never reaches a terminal.
package diag

import (
	"errors"
	"fmt"
)

// Error is one failure. Doing and Fix may be empty where the caller above adds them.
type Error struct {
	// Doing says what was being done and to what, as a verb phrase in lower case: "write /etc/nginx/sites-available/files".
	Doing string
	// Err is what happened.
	Err error
	// Fix says what to do next, as a full sentence in the imperative: "Free some space on /var."
	Fix string
}

// New returns a failure whose cause is the sentence what.
func New(doing, what, fix string) error {
	return &Error{Doing: doing, Err: errors.New(what), Fix: fix}
}

// Wrap returns err as a failure of doing something; nil stays nil. An empty fix keeps the fix that err carries already.
func Wrap(err error, doing, fix string) error {
	if err == nil {
		return nil
	}
	return &Error{Doing: doing, Err: err, Fix: fix}
}

// Error gives the failure without its fix, on one line: "write /etc/x: no space left on device".
func (e *Error) Error() string {
	switch {
	case e.Doing == "":
		return e.Err.Error()
	case e.Err == nil:
		return e.Doing
	}
	return fmt.Sprintf("%s: %s", e.Doing, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fix returns what to do about err: the outermost advice in its chain, or "" where nobody gave any.
func Fix(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Fix != "" {
			return e.Fix
		}
		err = e.Err
	}
	return ""
}
