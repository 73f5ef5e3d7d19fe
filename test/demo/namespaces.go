package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/converge-agent/converge/test/lab/sandbox"
)

// insideArg is the first argument of the demo when it runs itself inside the sandbox's namespaces.
const insideArg = "__inside__"

// runInside tells the story inside namespaces of one's own.
func runInside(ctx context.Context, dir string, args []string) error {
	cmd, err := sandbox.Enclosed(ctx, append([]string{insideArg, dir}, args...)...)
	if err != nil {
		return err
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return nil // also after Ctrl-C, when it was only kept
	}
	if errors.As(err, &exit) {
		return fmt.Errorf("the story in the sandbox ended with %d", exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("make the sandbox's namespaces; %s, or run the demo as root: %w", sandbox.Refused, err)
	}
	return nil
}

// inside is the demo inside the namespaces, as their process 1.
func inside(args []string) int {
	ctx, stop := signalContext()
	defer stop()
	if err := tellInside(ctx, args[0], args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %s\n", err)
		return 1
	}
	return 0
}

func tellInside(ctx context.Context, dir string, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if err := sandbox.Enter(dir, "/demo"); err != nil {
		return err
	}
	h := &sandboxHost{}
	defer h.close()
	p := &printer{out: os.Stdout, styled: isTerminal(os.Stdout)}
	return tell(ctx, p, o, h, "/demo/converge")
}
