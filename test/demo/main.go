// Command demo tells the story of converge on a host of its own: plan, apply, apply again, sabotage, healing, and what the
// proxy lets through. It builds the agent, starts a lab (an S3 store, an ACME authority, a Mastodon's files) and a host, and
// checks the outcome of every step.
//
// As root the host is a container with a real systemd. Everybody else gets a sandbox: namespaces of one's own, with the
// host's programs, a directory for a disk, and a stand-in for systemd. Nothing outside the demo's directory is touched.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == insideArg {
		os.Exit(inside(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %s\n", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	keep     bool
	sandbox  bool
	provider string
	files    int
	agent    string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.BoolVar(&o.keep, "keep", false, "leave everything running afterwards, to play with")
	f.BoolVar(&o.sandbox, "sandbox", os.Geteuid() != 0, "use a sandbox instead of a container, as those who are not root do")
	f.StringVar(&o.provider, "provider", lab.B2.String(), "whose store to simulate: backblaze-b2 or minio")
	f.IntVar(&o.files, "files", 2000, "how many media files the instance has")
	f.StringVar(&o.agent, "agent", "", "use this program instead of building the agent")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.provider != lab.B2.String() && o.provider != lab.MinIO.String() {
		return o, errors.New("usage: demo [--keep] [--sandbox] [--provider backblaze-b2|minio] [--files N] [--agent FILE]")
	}
	return o, nil
}

func (o options) personality() lab.Personality {
	if o.provider == lab.MinIO.String() {
		return lab.MinIO
	}
	return lab.B2
}

// run builds the agent and tells the story in a directory of its own.
func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "converge-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	p := &printer{out: os.Stdout, styled: isTerminal(os.Stdout)}
	p.title("converge: the story of a Mastodon whose media move to an object store")
	agent := filepath.Join(dir, "converge")
	if o.agent != "" {
		err = install(o.agent, agent)
	} else {
		start := time.Now()
		err = build(ctx, agent)
		p.note("built the agent in %s", time.Since(start).Round(100*time.Millisecond))
	}
	if err != nil {
		return err
	}
	if o.sandbox {
		return runInside(ctx, dir, args)
	}
	h, err := newContainer(ctx, dir)
	if err != nil {
		return err
	}
	defer h.close()
	return tell(ctx, p, o, h, agent)
}

// build builds the agent from the repository that this program was built from, with the flags of the Makefile, so that what
// was compiled before is used.
func build(ctx context.Context, to string) error {
	root, err := repository(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, "./cmd/converge")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return nil
}

// repository is the directory of the agent's module: the one above this module's.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/converge-agent/converge").Output()
	if err != nil {
		return "", fmt.Errorf("find the agent's sources; run the demo from the folder test: %w", err)
	}
	return filepath.Clean(string(out[:len(out)-1])), nil
}
