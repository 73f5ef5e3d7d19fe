// Command bench measures the figures of docs/benchmarks.md and prints them as its table: whole processes, several runs,
// median and range, and ratios within one run, for machines differ and are noisy.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

// runs is how often each command is measured, after one run to warm up.
const runs = 21

func main() {
	if err := bench(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	agent, err := filepath.Abs("../bin/converge")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "converge-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Print("| figure | measured |\n|---|---|\n")
	for _, measure := range []func(context.Context, string, string) error{binarySize, planTime, runTime, graphSizes, syncRequests} {
		if err := measure(ctx, agent, dir); err != nil {
			return err
		}
	}
	return nil
}

func binarySize(_ context.Context, agent, _ string) error {
	info, err := os.Stat(agent)
	if err != nil {
		return err
	}
	fmt.Printf("| agent binary, static and stripped | %.1f MB |\n", float64(info.Size())/1e6)
	return nil
}

// planTime plans an unchanged host of 30 local resources, beside a plan of 30 terraform_data where there is a Terraform or
// OpenTofu ($TERRAFORM, or in the PATH).
func planTime(ctx context.Context, agent, dir string) error {
	home := filepath.Join(dir, "local")
	site := filepath.Join(dir, "local.hcl")
	if err := os.WriteFile(site, []byte(localSite(home)), 0o600); err != nil {
		return err
	}
	state := filepath.Join(dir, "state")
	if out, err := exec.CommandContext(ctx, agent, "apply", "--auto-approve", "--state-dir", state, site).CombinedOutput(); err != nil {
		return fmt.Errorf("apply: %w\n%s", err, out)
	}
	plan := []string{agent, "plan", "--detailed-exitcode", "--state-dir", state, site}
	other, err := terraform(ctx, filepath.Join(dir, "terraform"))
	if err != nil {
		return err
	}
	ours, theirs, err := pairs(ctx, dir, plan, other)
	if err != nil {
		return err
	}
	fmt.Printf("| `converge plan`, unchanged host of 30 local resources, whole process | %s |\n", spread(ours))
	if theirs == nil {
		fmt.Print("| the same beside Terraform | not measured: neither terraform nor tofu in the PATH, and $TERRAFORM is not set |\n")
		return nil
	}
	fmt.Printf("| `%s plan` of 30 `terraform_data`, in turn with it | %s |\n", filepath.Base(other[0]), spread(theirs))
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i].Seconds() / theirs[i].Seconds()
	}
	slices.Sort(ratios)
	fmt.Printf("| ratio of the pairs | median %.2f (%.2f to %.2f) |\n", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	return nil
}

// localSite is a configuration of 30 resources: directories, files, links and env files.
func localSite(home string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "directory \"home\" {\n  path = %q\n}\n", home)
	for i := range 9 {
		fmt.Fprintf(&b, "file \"f%d\" {\n  path = \"${directory.home.path}/f%d\"\n  content = \"line\\n\"\n}\n", i, i)
		fmt.Fprintf(&b, "symlink \"l%d\" {\n  path = \"${directory.home.path}/l%d\"\n  target = file.f%d.path\n}\n", i, i, i)
		fmt.Fprintf(&b, "env_file \"e%d\" {\n  path = \"${directory.home.path}/e%d\"\n  set = { A = \"1\", B = \"two words\" }\n}\n", i, i)
	}
	b.WriteString("directory \"a\" {\n  path = \"${directory.home.path}/a\"\n}\ndirectory \"b\" {\n  path = \"${directory.home.path}/b\"\n}\n")
	return b.String()
}

// terraform prepares a plan of 30 terraform_data that finds no changes, and returns its command line; nil without one.
func terraform(ctx context.Context, dir string) ([]string, error) {
	program := os.Getenv("TERRAFORM")
	for _, name := range []string{"terraform", "tofu"} {
		if found, err := exec.LookPath(name); program == "" && err == nil {
			program = found
		}
	}
	if program == "" {
		return nil, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	text := "resource \"terraform_data\" \"d\" {\n  count = 30\n  input = \"line\"\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init"}, {"apply", "-auto-approve"}} {
		cmd := exec.CommandContext(ctx, program, append([]string{"-chdir=" + dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s %s: %w\n%s", program, args[0], err, out)
		}
	}
	return []string{program, "-chdir=" + dir, "plan", "-detailed-exitcode"}, nil
}

// pairs runs a and b in turn, A B A B, so that a drift of the machine's speed meets both.
func pairs(ctx context.Context, dir string, a, b []string) (as, bs []time.Duration, err error) {
	for i := range runs + 1 {
		ta, err := timed(ctx, dir, a)
		if err != nil {
			return nil, nil, err
		}
		var tb time.Duration
		if b != nil {
			if tb, err = timed(ctx, dir, b); err != nil {
				return nil, nil, err
			}
		}
		if i == 0 {
			continue
		}
		as = append(as, ta)
		if b != nil {
			bs = append(bs, tb)
		}
	}
	return as, bs, nil
}

func timed(ctx context.Context, dir string, args []string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return time.Since(start), nil
}

func spread(times []time.Duration) string {
	sorted := slices.Sorted(slices.Values(times))
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("median %.1f ms (%.1f to %.1f, %d runs)", ms(sorted[len(sorted)/2]), ms(sorted[0]), ms(sorted[len(sorted)-1]), len(sorted))
}

// syncRequests copies 2,000 files into a bucket, and counts what a second run asks the store.
func syncRequests(ctx context.Context, agent, dir string) error {
	l, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(dir, "lab")})
	if err != nil {
		return err
	}
	defer l.Close()
	s3, err := l.S3(ctx, lab.B2)
	if err != nil {
		return err
	}
	instance, err := lab.NewInstance(filepath.Join(dir, "live"), lab.InstanceSpec{Files: 2000, UID: os.Getuid(), GID: os.Getgid()})
	if err != nil {
		return err
	}
	site := filepath.Join(dir, "sync.hcl")
	if err := os.WriteFile(site, []byte(syncSite(l, s3, instance)), 0o600); err != nil {
		return err
	}
	run := func(flags ...string) (time.Duration, error) {
		s3.ResetRequests()
		args := append([]string{agent, "apply", "--auto-approve", "--lock-timeout", "1m", "--state-dir", filepath.Join(dir, "sync-state")}, flags...)
		return timed(ctx, dir, append(args, site))
	}
	if _, err := run("--target", "s3_bucket.media"); err != nil { // its probes are no requests of the sync
		return err
	}
	var made int64
	for _, n := range s3.Requests() {
		made += n
	}
	fmt.Printf("| a bucket is made and looked at from outside: requests | %d |\n", made)
	for _, name := range []string{"first", "no-op"} {
		took, err := run()
		if err != nil {
			return err
		}
		objects, bucket := split(s3.Requests())
		fmt.Printf("| %s run over 2,000 files: requests of the sync, of the bucket, whole process | %d, %d, %.2f s |\n", name, objects, bucket, took.Seconds())
	}
	return nil
}

// split tells the requests of a sync (objects put, looked at and listed with a key) from those about the bucket, which is not probed
// in the same run.
func split(requests map[string]int64) (sync, bucket int64) {
	for op, n := range requests {
		switch op {
		case "PutObject 2xx", "HeadObject 2xx", "ListObjectsV2 2xx":
			sync += n
		default:
			bucket += n
		}
	}
	return sync, bucket
}

func syncSite(l *lab.Lab, s *lab.S3, i *lab.Instance) string {
	return fmt.Sprintf(`
object_store "store" {
  provider          = "backblaze-b2"
  region            = %q
  endpoint          = %q
  ca_file           = %q
  access_key_id     = sensitive(%q)
  secret_access_key = sensitive(%q)
}
s3_bucket "media" {
  store  = object_store.store
  name   = "bench-media"
  access = "public-objects"
}
s3_sync "bulk" {
  bucket = s3_bucket.media
  source = %q
}
`, s.Region, s.Endpoint, l.CAFile, s.AgentKey, s.AgentSecret, i.Media)
}
