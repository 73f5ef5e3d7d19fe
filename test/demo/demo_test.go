package main

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestMain lets the story run this test program anew inside the sandbox's namespaces.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == insideArg {
		os.Exit(inside(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestStory tells the whole story in a sandbox, with either provider.
func TestStory(t *testing.T) {
	for _, provider := range []string{"backblaze-b2", "minio"} {
		t.Run(provider, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			if err := run(ctx, []string{"--sandbox", "--files", "60", "--provider", provider}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAfterPlan(t *testing.T) {
	got := afterPlan("  + a\n  + b\nPlan: 2 to change.\n  ok  a\n")
	if want := "... 2 lines of the plan, as above ...\nPlan: 2 to change.\n  ok  a\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := afterPlan("nothing to do\n"); got != "nothing to do\n" {
		t.Errorf("without a plan: %q", got)
	}
}

func TestHasSetting(t *testing.T) {
	const env = "# A=1\nA=1\nB='two'\nC=\"3\"\nAB=4\n"
	for line, want := range map[string]bool{"A=1": true, "B=two": true, "C=3": true, "A=2": false, "B=4": false, "D=": false} {
		if got := hasSetting(env, line); got != want {
			t.Errorf("%s: got %v, want %v", line, got, want)
		}
	}
}
