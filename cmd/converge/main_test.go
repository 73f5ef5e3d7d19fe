package main

import (
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"converge": main})
}

// TestScripts runs the program as a user would, one file a behaviour.
func TestScripts(t *testing.T) {
	var err error
	if schemaOf, err = outputSchema(); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":  checkStatus,
			"waitfor": waitFor,
			"lines":   checkLines,
			"metrics": checkMetrics,
		},
		Setup: func(e *testscript.Env) error {
			// All scripts run beside each other, and one apply at a time may run on a host.
			e.Setenv("APPLY", "apply --auto-approve --lock-timeout 5m --state-dir "+e.WorkDir+"/state")
			return nil
		},
	})
}

// checkStatus runs a program and compares its exit status: status 2 converge plan …
func checkStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM ARGS")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = exitStatus(err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

func exitStatus(err error) string {
	text := err.Error()
	const prefix = "exit status "
	if len(text) > len(prefix) && text[:len(prefix)] == prefix {
		return text[len(prefix):]
	}
	return text
}

// waitFor waits until a file is there.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor FILE")
	}
	deadline := time.After(6 * time.Minute)
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%s did not come", args[0])
		case <-time.After(10 * time.Millisecond):
		}
	}
}
