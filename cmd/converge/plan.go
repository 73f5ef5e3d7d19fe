package main

import (
	"github.com/spf13/cobra"
)

func newPlan(t *terminal, code *int) *cobra.Command {
	var src source
	var output outputFlags
	var detailed bool
	var out string
	view := &planView{terminal: t}
	cmd := &cobra.Command{
		Use:   "plan [PATH]",
		Short: "Show what apply would do, and change nothing",
		Long: "plan shows the difference between the configuration and this host, and what apply would do about it. It changes\n" +
			"nothing, and works without root as far as it may read.",
		Example: "  converge plan\n  converge plan --out site.plan /etc/converge",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := src.open(t, args)
			if err != nil {
				return err
			}
			defer s.close()
			p, err := s.plan(cmd.Context(), t)
			if err != nil {
				return err
			}
			t.disabled(s.disabled)
			view.print(p)
			view.sent(s.stores.Sent())
			t.lines.plan(p, s.disabled, s.stores.Sent())
			if out != "" {
				if err := s.save(cmd.Context(), t, p, out, &src, args); err != nil {
					return err
				}
			}
			*code = planExit(p, detailed)
			return nil
		},
	}
	src.flags(cmd.Flags())
	output.on(cmd, t)
	src.control.flags(cmd.Flags())
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 0 when there is nothing to do, 2 when there is, 1 on errors")
	cmd.Flags().StringVar(&out, "out", "", "save the plan to `FILE`, for apply --plan; it holds no secret and no content")
	cmd.Flags().BoolVar(&view.fullDiff, "diff", false, "show long differences in full")
	return cmd
}
