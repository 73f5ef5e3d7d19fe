package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/spf13/cobra"
)

func newDisable(t *terminal) *cobra.Command {
	src := source{}
	var length string
	cmd := &cobra.Command{
		Use:   "disable WHY",
		Short: "Have applies on this host change nothing for a while",
		Long: "While converge is disabled, plan shows what there is to do as ever, and apply does nothing of it, says so, and ends\n" +
			"with 0, so that a timer stays silent. Only certificates are renewed, and what serves them is reloaded.\n" +
			"converge enable ends it, and so does the time of --for.",
		Example: "  converge disable \"mending the database by hand\" --for 2h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := host.SystemClock().Now()
			why := strings.Join(strings.Fields(args[0]), " ")
			until, err := endOf(length, now)
			if err == nil && why == "" {
				err = diag.New("disable converge", "no reason is given", "Say for others why: converge disable \"mending the database by hand\"")
			}
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(src.stateDir)
			if err != nil {
				return err
			}
			if err := plans.Disable(host.System(), host.SystemUsers(), dir, why, now, until); err != nil {
				return err
			}
			d, err := plans.DisabledAt(host.System(), dir, now)
			if err != nil {
				return err
			}
			t.printf("Converge is %s. Only certificates are renewed.\n", d)
			return src.tellOfRun(cmd.Context(), t, cmd)
		},
	}
	cmd.Flags().StringVar(&length, "for", "", "for this `TIME`, such as 2h or 7d; not written: until converge enable")
	cmd.Flags().StringVar(&src.stateDir, "state-dir", defaultStateDir, "the `DIR` where converge keeps what it remembers")
	return cmd
}

// endOf is when a time of that length from now is over; zero where none is given.
func endOf(length string, now time.Time) (time.Time, error) {
	if length == "" {
		return time.Time{}, nil
	}
	d, err := resources.ParseDuration(length)
	if err == nil && d == 0 {
		err = errors.New("it is no time at all")
	}
	return now.Add(d), diag.Wrap(err, "read --for "+length, "Write how long, such as 2h or 7d.")
}

// tellOfRun says when an apply is at work that began before, and so goes on.
func (s *source) tellOfRun(ctx context.Context, t *terminal, cmd *cobra.Command) error {
	lock, err := s.lock(ctx, cmd, 0)
	if errors.Is(err, host.ErrLocked) {
		_, _ = fmt.Fprintf(t.err, "Note: a run that began before goes on to its end: %s.\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	return lock.Release()
}

func newEnable(t *terminal) *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "enable",
		Short: "Have applies on this host change things again",
		Long:  "enable ends what converge disable, or a rollback, began: the next apply does again all that there is to do.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := filepath.Abs(stateDir)
			if err != nil {
				return err
			}
			was, err := plans.Enable(host.System(), dir, host.SystemClock().Now())
			switch {
			case err != nil:
				return err
			case was == nil:
				t.printf("Converge was not disabled.\n")
			default:
				t.printf("Converge is enabled again; it was %s.\n", was)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", defaultStateDir, "the `DIR` where converge keeps what it remembers")
	return cmd
}

// disabled says on top of a plan or an apply that converge is disabled.
func (t *terminal) disabled(d *plans.Disabled) {
	if d != nil && !t.quiet {
		t.printf("Converge is %s, since %s: apply only renews certificates.\n", d, d.Since.UTC().Format("2006-01-02 15:04 MST"))
	}
}
