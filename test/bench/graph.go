package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// goalSize is how many resources the goal is about; the other sizes of large graphs show how it grows.
const goalSize = 10_000

var sizes = []int{1_000, goalSize, 20_000}

// largeRuns is how often each large graph is planned; the best counts, for a machine that does other things only adds.
const largeRuns = 5

// usage is what one process took.
type usage struct {
	wall, user, system time.Duration
	peak               int64 // resident set, in bytes
}

// large is a plan of a large graph.
type large struct {
	n       int
	records string // whether there are any
	args    []string
	best    usage // of all its runs; of the memory the largest
}

// graphSizes plans unchanged hosts of more and more resources, in turn, and prints how each grows beside the first. The one
// without records is the goal's size as it is before the first apply.
func graphSizes(ctx context.Context, agent, dir string) error {
	var plans []*large
	for _, n := range sizes {
		at := filepath.Join(dir, fmt.Sprint(n))
		site, err := largeHost(ctx, agent, at, n)
		if err != nil {
			return err
		}
		plan := func(state string) []string {
			return []string{agent, "plan", "--detailed-exitcode", "--state-dir", filepath.Join(at, state), site}
		}
		plans = append(plans, &large{n: n, records: "with", args: plan("state")})
		if n == goalSize {
			plans = append(plans, &large{n: n, records: "without", args: plan("none")})
		}
	}
	for run := range largeRuns {
		for _, p := range plans {
			u, err := measured(ctx, dir, p.args)
			if err != nil {
				return err
			}
			if run == 0 {
				p.best = u
			}
			p.best = usage{min(p.best.wall, u.wall), min(p.best.user, u.user), min(p.best.system, u.system), max(p.best.peak, u.peak)}
		}
	}
	var before *large
	for _, p := range plans {
		u := p.best
		fmt.Printf("| `converge plan`, unchanged host of %d resources, %s records, whole process | %.2f s; CPU %.2f s user, %.2f s system; peak %.0f MB |\n",
			p.n, p.records, u.wall.Seconds(), u.user.Seconds(), u.system.Seconds(), float64(u.peak)/1e6)
		if p.records != "with" {
			continue
		}
		if before != nil {
			b := before.best
			fmt.Printf("| %d times as many resources: CPU, memory | %.1f times, %.1f times |\n", p.n/before.n,
				(u.user+u.system).Seconds()/(b.user+b.system).Seconds(), float64(u.peak)/float64(b.peak))
		}
		before = p
	}
	return nil
}

// largeHost makes a host what a configuration of n resources says, by an apply that finds the files there and writes the
// records of all, and returns the path of the configuration.
func largeHost(ctx context.Context, agent, dir string, n int) (site string, err error) {
	home, site := filepath.Join(dir, "home"), filepath.Join(dir, "site.hcl")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	text, files := largeSite(home, n)
	files[site] = text
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	_, err = measured(ctx, dir, []string{agent, "apply", "--auto-approve", "--lock-timeout", "10m", "--state-dir", filepath.Join(dir, "state"), site})
	return site, err
}

// largeSite is a configuration of n resources, with the files that it describes: a directory, half of the files by for_each, and
// the others in chains of fifty, each of which depends on the one before it.
func largeSite(home string, n int) (text string, files map[string]string) {
	var b strings.Builder
	files = map[string]string{}
	fmt.Fprintf(&b, "directory \"home\" {\n  path = %q\n}\nlocals {\n  names = toset([\n", home)
	half := n / 2
	for i := range half {
		name := fmt.Sprintf("n%05d", i)
		files[filepath.Join(home, name)] = name + "\n"
		fmt.Fprintf(&b, "    %q,\n", name)
	}
	b.WriteString("  ])\n}\nfile \"each\" {\n  for_each = local.names\n  path     = \"${directory.home.path}/${each.key}\"\n  content  = \"${each.key}\\n\"\n}\n")
	for i := range n - half - 1 {
		before, name := "directory.home", fmt.Sprintf("c%d", i)
		if i%50 > 0 {
			before = fmt.Sprintf("file.c%d", i-1)
		}
		files[filepath.Join(home, name)] = name + "\n"
		fmt.Fprintf(&b, "file %q {\n  path       = \"${directory.home.path}/%s\"\n  content    = \"%s\\n\"\n  depends_on = [%s]\n}\n", name, name, name, before)
	}
	return b.String(), files
}

// measured runs a command that must succeed.
func measured(ctx context.Context, dir string, args []string) (usage, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	start := time.Now()
	out, err := cmd.CombinedOutput()
	u := usage{wall: time.Since(start)}
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	u.user, u.system = cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()
	u.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024 // KiB: getrusage(2)
	return u, nil
}

// changes is how many files somebody has edited before a run that has something to do.
const changes = 5

// runTime measures, in turn, a plan, an apply that has nothing to do, and one with a few changes, on the host of 30 resources:
// what an apply takes beyond its plan is the lock, reading again, the records and the journal.
func runTime(ctx context.Context, agent, dir string) error {
	home, site, state := filepath.Join(dir, "local"), filepath.Join(dir, "local.hcl"), filepath.Join(dir, "state")
	plan := []string{agent, "plan", "--state-dir", state, site}
	apply := []string{agent, "apply", "--auto-approve", "--lock-timeout", "1m", "--state-dir", state, site}
	var plans, idle, busy []time.Duration
	for i := range runs + 1 {
		for _, m := range []struct {
			args  []string
			edits int
			times *[]time.Duration
		}{{plan, 0, &plans}, {apply, 0, &idle}, {apply, changes, &busy}} {
			for k := range m.edits {
				if err := os.WriteFile(filepath.Join(home, fmt.Sprintf("f%d", k)), []byte("edited\n"), 0o600); err != nil {
					return err
				}
			}
			took, err := timed(ctx, dir, m.args)
			if err != nil {
				return err
			}
			if i > 0 {
				*m.times = append(*m.times, took)
			}
		}
	}
	fmt.Printf("| `converge apply` of the same host, nothing to do, in turn with its plan | %s |\n", spread(idle))
	fmt.Printf("| what it takes beyond the plan of its turn: lock, reading again, records, journal | %s |\n", spread(beyond(idle, plans)))
	fmt.Printf("| `converge apply` with %d drifted files, in turn with them, beyond the one with nothing to do | %s |\n", changes, spread(beyond(busy, idle)))
	return nil
}

// beyond is how much longer each of a took than its turn of b.
func beyond(a, b []time.Duration) []time.Duration {
	out := slices.Clone(a)
	for i := range out {
		out[i] -= b[i]
	}
	return out
}
