package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

func newVersion(t *terminal) *cobra.Command {
	var output outputFlags
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of converge",
		Args:  cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			t.printf("converge %s%s (%s, %s/%s)\n", version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			t.lines.version()
		},
	}
	output.on(cmd, t)
	return cmd
}

// revision is the commit that the binary was built from, where the build noted one.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return " " + s.Value[:12]
		}
	}
	return ""
}
