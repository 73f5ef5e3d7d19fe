package main

import (
	"github.com/converge-agent/converge/resources/all"
	"github.com/spf13/cobra"
)

func newValidate(t *terminal) *cobra.Command {
	var src source
	var output outputFlags
	cmd := &cobra.Command{
		Use:     "validate [PATH]",
		Short:   "Check a configuration without looking at the host",
		Long:    "validate checks everything that can be checked without this host, its secrets and its object store.",
		Example: "  converge validate /etc/converge",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := src.load(t, all.Kinds(all.Deps{}), args)
			if err == nil {
				err = report(t, cfg.Sources(), cfg.Validate())
			}
			t.lines.validated()
			if err != nil {
				return err
			}
			t.printf("The configuration is valid.\n")
			return nil
		},
	}
	src.flags(cmd.Flags())
	output.on(cmd, t)
	return cmd
}
