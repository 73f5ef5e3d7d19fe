// Command converge makes a host be what one file says, proves it, and keeps it so.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(context.Background(), stderr)
	defer stop()
	code := exitOK
	root := newRoot(&terminal{in: stdin, out: stdout, err: stderr}, &code)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			printError(stderr, "", err)
		}
		return exitError
	}
	return code
}

// errReported ends a command whose errors have been printed.
var errReported = errors.New("reported")

// interruptible cancels its context on the first SIGINT or SIGTERM; a second one ends the program at once.
func interruptible(parent context.Context, stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		_, _ = fmt.Fprintln(stderr, "Interrupted: stopping cleanly. Once more stops at once; files stay whole either way.")
		cancel()
		if _, ok := <-signals; ok {
			os.Exit(exitError)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel() }
}

func newRoot(t *terminal, code *int) *cobra.Command {
	root := &cobra.Command{
		Use:   "converge",
		Short: "Make a host be what one file says, prove it, and keep it so",
		Long: "converge reads a configuration (a file or a directory of *.hcl), compares it with this host and its object store,\n" +
			"shows the difference (plan), and makes it so (apply). Running it again changes nothing.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(newValidate(t), newPlan(t, code), newApply(t, code), newHistory(t), newShow(t), newRollback(t, code),
		newDisable(t), newEnable(t), newVersion(t))
	return root
}
