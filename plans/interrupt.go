package plans

import (
	"context"
	"errors"

	"github.com/converge-agent/converge/diag"
)

// interruption words the end of a run's context as an admin would: it is his Ctrl-C, or systemd's SIGTERM.
type interruption struct{ cause error }

func (i *interruption) Error() string { return "the run was interrupted" }

// Unwrap returns the error of the context.
func (i *interruption) Unwrap() error { return i.cause }

// interrupted returns what became of a resource that was being worked on when the run's context ended; other errors stay.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return diag.Wrap(&interruption{err}, "", "What was done so far is whole. Run converge apply again: it does the rest.")
}
