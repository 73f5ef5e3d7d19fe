// Command converge makes a host be what one file says, proves it, and keeps it so.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/converge-agent/converge/diag"
	"github.com/spf13/cobra"
)

// gcPercent is how much the heap grows between two collections, in percent of what is in use; Go's default is 100. Most of
// what is allocated stays until the end (the configuration, its resources), so a collection frees little: a plan of 10,000
// resources takes a quarter less CPU, and a third more memory. $GOGC overrides it.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := newTerminal(stdin, stdout, stderr)
	ctx, stop := interruptible(context.Background(), t.interrupted)
	defer stop()
	code := exitOK
	root := newRoot(t, &code)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(t.out)
	root.SetErr(t.err)
	if err := root.ExecuteContext(ctx); err != nil {
		t.failed(err)
		code = exitError
	}
	if err := t.lines.close(); err != nil {
		printError(stderr, "", err) // there is no other place for it
		code = spoilt(code)
	}
	return code
}

// failed tells why a command could not do its work, unless that has been told.
func (t *terminal) failed(err error) {
	if errors.Is(err, errReported) {
		return
	}
	t.lines.message("error", err.Error(), diag.Fix(err))
	printError(t.err, "", err)
}

// interrupted tells that the first signal came.
func (t *terminal) interrupted() {
	const doing, next = "Interrupted: stopping cleanly.", "Once more stops at once; files stay whole either way."
	t.lines.message("warning", doing, next)
	_, _ = fmt.Fprintln(t.err, doing, next)
}

// errReported ends a command whose errors have been printed.
var errReported = errors.New("reported")

// interruptible cancels its context on the first SIGINT or SIGTERM; a second one ends the program at once.
func interruptible(parent context.Context, tell func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		tell()
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
	addGroup(root, "Commands for every day:", newValidate(t), newPlan(t, code), newApply(t, code))
	addGroup(root, "Commands about what was done:", newHistory(t), newShow(t), newRollback(t, code))
	addGroup(root, "Commands for a pause:", newDisable(t), newEnable(t))
	const other = "Other commands:"
	addGroup(root, other, newVersion(t))
	root.SetHelpCommandGroupID(other)
	root.SetCompletionCommandGroupID(other)
	return root
}

// addGroup adds commands that the help lists together.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
		root.AddCommand(c)
	}
}
