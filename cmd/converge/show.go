package main

import (
	"strconv"

	"github.com/converge-agent/converge/diag"
	"github.com/spf13/cobra"
)

func newShow(t *terminal) *cobra.Command {
	var src source
	var output outputFlags
	cmd := &cobra.Command{
		Use:     "show RUN|FILE",
		Short:   "Show what a run changed on this host, or a saved plan",
		Long:    "show prints the journal of a run, by its number, or a plan that plan --out has saved, by its file.",
		Example: "  converge show 7\n  converge show site.plan",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := strconv.Atoi(args[0]); err != nil {
				return t.showPlan(args[0], src.stateDir)
			}
			number, err := runNumber(args[0])
			if err != nil {
				return err
			}
			s, err := src.onHost()
			if err != nil {
				return err
			}
			defer s.close()
			return t.showRun(s.journal, number)
		},
	}
	src.stateFlag(cmd.Flags())
	output.on(cmd, t)
	return cmd
}

// runNumber reads the number of a run.
func runNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, diag.New("read the argument "+strconv.Quote(text), "it is not the number of a run", "converge history lists them.")
	}
	return n, nil
}
