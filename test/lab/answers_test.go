package lab_test

import (
	"errors"
	"testing"

	"github.com/aws/smithy-go"
)

// answered is one call to a store, and what it is to be answered: "" for success, else "status Code: message".
type answered struct {
	name, want string
	do         func() error
}

func expectAnswers(t *testing.T, calls []answered) {
	t.Helper()
	for _, c := range calls {
		if got := answer(c.do()); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// answer is code with the message.
func answer(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return code(err)
	}
	return code(err) + ": " + api.ErrorMessage()
}
