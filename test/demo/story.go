package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

// story is what all steps share.
type story struct {
	*printer
	options
	host     host
	store    *lab.S3
	acme     *lab.ACME
	instance *lab.Instance
	visitor  *visitor
	siteFile string // the media's site, once it is known
}

// tell sets the world up, goes through the steps, and ends with the first one whose outcome is not as told.
func tell(ctx context.Context, p *printer, o options, h host, agent string) error {
	start := time.Now()
	s := &story{printer: p, options: o, host: h}
	world, err := s.setUp(ctx, agent)
	if err != nil {
		return err
	}
	defer world.Close()
	for _, step := range []func(context.Context) error{
		s.world, s.plan, s.apply, s.again, s.lookThroughTheProxy, s.deletedPost, s.sabotage, s.heal,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.done(time.Since(start))
	if o.keep {
		s.wait(ctx)
	}
	return nil
}

// setUp makes the instance's files, the lab and the host.
func (s *story) setUp(ctx context.Context, agent string) (*lab.Lab, error) {
	var err error
	if s.instance, err = lab.NewInstance(s.host.disk(live), lab.InstanceSpec{Files: s.files, Seed: 1}); err != nil {
		return nil, err
	}
	if err := furnish(s.host); err != nil {
		return nil, err
	}
	if err := install(agent, s.host.disk("/usr/local/bin/converge")); err != nil {
		return nil, err
	}
	world, err := lab.Start(ctx, s.host.lab())
	if err != nil {
		return nil, err
	}
	if err := s.connect(ctx, world); err != nil {
		world.Close()
		return nil, err
	}
	return world, nil
}

func (s *story) connect(ctx context.Context, world *lab.Lab) error {
	var err error
	if s.store, err = world.S3(ctx, s.personality()); err != nil {
		return err
	}
	if err = s.host.start(ctx); err != nil {
		return err
	}
	if s.acme, err = world.ACME(ctx, lab.ACMEOptions{Resolve: map[string]string{filesName: s.host.ip()}}); err != nil {
		return err
	}
	if s.visitor, err = newVisitor(s.host, s.acme.RootFile); err != nil {
		return err
	}
	config, err := site(s.store, s.acme)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(world.CAFile)
	if err != nil {
		return err
	}
	hosts, err := s.host.read(ctx, "/etc/hosts")
	if err != nil {
		return err
	}
	hosts += fmt.Sprintf("%s %s %s.%s\n", world.IP, s.store.Name, bucketName, s.store.Name)
	files := map[string]string{configFile: config, caFile: string(ca), "/etc/hosts": hosts}
	for name, content := range files {
		if err := s.host.write(ctx, name, content, 0o644); err != nil {
			return err
		}
	}
	for name, secret := range secrets(s.store) {
		if err := s.host.write(ctx, name, secret, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// install copies a program.
func install(from, to string) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, body, 0o755)
}

// converge runs the agent as a user would type it, and checks its exit status.
func (s *story) converge(ctx context.Context, want int, args ...string) (string, error) {
	return s.show(ctx, want, func(out string) string { return out }, args...)
}

// convergePlanned is converge for an apply whose plan has just been shown.
func (s *story) convergePlanned(ctx context.Context, want int, args ...string) (string, error) {
	return s.show(ctx, want, afterPlan, args...)
}

// afterPlan is what an apply prints after the plan that it begins with.
func afterPlan(out string) string {
	plan, rest, found := strings.Cut(out, "\nPlan: ")
	if !found {
		return out
	}
	summary, rest, _ := strings.Cut(rest, "\n")
	return fmt.Sprintf("... %d lines of the plan, as above ...\nPlan: %s\n%s", strings.Count(plan, "\n")+1, summary, rest)
}

func (s *story) show(ctx context.Context, want int, part func(string) string, args ...string) (string, error) {
	line := append([]string{"converge"}, args...)
	s.command(strings.Join(line, " "))
	out, status, err := s.host.run(ctx, line...)
	if err != nil {
		return "", err
	}
	s.output(part(out))
	if status != want {
		return out, fmt.Errorf("%s ended with %d instead of %d", strings.Join(line, " "), status, want)
	}
	return out, nil
}

// requests words what the store was asked since the last call.
func (s *story) requests() (total int64, words string) {
	counts := s.store.Requests()
	s.store.ResetRequests()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		total += counts[name]
		list = append(list, fmt.Sprintf("%d %s", counts[name], strings.TrimSuffix(name, " 2xx")))
	}
	return total, strings.Join(list, ", ")
}

// wait leaves all of it running until somebody has seen enough.
func (s *story) wait(ctx context.Context) {
	s.heading("Yours", "Everything keeps running until Ctrl-C.")
	s.printf("A shell on the host:   %s\n", s.host.shell())
	s.printf("The configuration:     %s\n", configFile)
	s.printf("The store:             %s, bucket %s\n", s.store.Endpoint, bucketName)
	<-ctx.Done()
}
