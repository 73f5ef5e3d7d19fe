package resources

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/converge-agent/converge/diag"
)

// timeoutError is the cause of a context whose resource took longer than its timeout lets it.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("it took longer than the timeout of %s in its block", e.after)
}

// Within returns ctx as it is for a resource with that timeout; 0 is none.
func Within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, timeout, &timeoutError{timeout})
}

// TimedOut returns err, what a Read or an Apply under ctx of Within ended with, in the words of the timeout where that is
// what ended it.
func TimedOut(ctx context.Context, err error) error {
	var timeout *timeoutError
	if err == nil || !errors.As(context.Cause(ctx), &timeout) {
		return err
	}
	return diag.Wrap(fmt.Errorf("%w: %w", timeout, err), "", "Look at what it waited for, or write a longer timeout in its block.")
}
