package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

const planPath = configFile

func (s *story) world(ctx context.Context) error {
	s.heading("The world, and the one file that says how it should be", "")
	s.printf("host        %s\n", s.host.what())
	s.printf("instance    Mastodon %s in %s: %d media files, %d of them private archives and imports\n",
		s.instance.Version, live, len(s.instance.Keys()), len(s.instance.Private()))
	s.printf("store       %s, simulated on a real S3 server; bucket %s does not exist yet\n", s.provider, bucketName)
	s.printf("authority   an ACME server (Pebble)\n")
	s.command("cat " + planPath)
	text, err := s.host.read(ctx, planPath)
	if err != nil {
		return err
	}
	s.output(text)
	_, err = s.converge(ctx, 0, "validate", planPath)
	return err
}

func (s *story) plan(ctx context.Context) error {
	s.heading("Plan", "What would be done. A plan changes nothing: not on the host, and not at the store.")
	before, err := s.env(ctx)
	if err != nil {
		return err
	}
	if _, err := s.converge(ctx, 2, "plan", "--detailed-exitcode", planPath); err != nil {
		return err
	}
	after, err := s.env(ctx)
	if err != nil {
		return err
	}
	if before != after || len(s.store.Buckets()) > 0 {
		return errors.New("the plan changed something")
	}
	s.ok("nothing was changed: no bucket was made, and .env.production is as it was")
	return nil
}

func (s *story) env(ctx context.Context) (string, error) {
	return s.host.read(ctx, path.Join(live, ".env.production"))
}

func (s *story) apply(ctx context.Context) error {
	s.heading("Apply", "The bucket, the copy of all media, the certificate, the proxy, the switch, the restart: in that order.")
	s.store.ResetRequests()
	if _, err := s.convergePlanned(ctx, 0, "apply", "--auto-approve", planPath); err != nil {
		return err
	}
	total, words := s.requests()
	if err := s.checkBucket(); err != nil {
		return err
	}
	s.ok("all %d public files are in the bucket, byte for byte, and none of backups/ and imports/", len(s.instance.Public()))
	if err := s.checkSwitch(ctx); err != nil {
		return err
	}
	s.ok("Mastodon's settings name the bucket, and its services were restarted with them")
	s.note("the store counted %d requests: %s", total, words)
	return nil
}

// checkBucket compares the bucket with the instance's files.
func (s *story) checkBucket() error {
	got, want := s.store.Keys(bucketName), s.instance.Public()
	if !slices.Equal(got, want) {
		return fmt.Errorf("the bucket holds %d objects, and not the instance's %d public files", len(got), len(want))
	}
	for _, key := range want {
		file, err := s.file(key)
		if err != nil {
			return err
		}
		if object, _, ok := s.store.Object(bucketName, key); !ok || !bytes.Equal(object, file) {
			return fmt.Errorf("the object %s is not what the file is", key)
		}
	}
	return nil
}

// file is the content of one of the instance's media files.
func (s *story) file(key string) ([]byte, error) {
	return os.ReadFile(s.host.disk(path.Join(live, "public/system", key)))
}

// checkSwitch looks at the settings, and at what the services were started with.
func (s *story) checkSwitch(ctx context.Context) error {
	env, err := s.env(ctx)
	if err != nil {
		return err
	}
	for _, line := range []string{"S3_ENABLED=true", "S3_BUCKET=" + bucketName, "S3_ALIAS_HOST=" + filesName, "LOCAL_DOMAIN=" + s.instance.Domain} {
		if !hasSetting(env, line) {
			return fmt.Errorf(".env.production lacks %s", line)
		}
	}
	for _, name := range mastodonUnits {
		loaded, err := s.host.read(ctx, path.Join(live, "tmp", name+".loaded"))
		if err != nil {
			return err
		}
		if !hasSetting(loaded, "S3_BUCKET="+bucketName) {
			return fmt.Errorf("%s was not restarted after the switch", name)
		}
	}
	return nil
}

// hasSetting reports whether a file of settings has a line, with or without quotes around its value.
func hasSetting(env, line string) bool {
	name, value, _ := strings.Cut(line, "=")
	return slices.ContainsFunc(strings.Split(env, "\n"), func(l string) bool {
		return l == line || l == name+"='"+value+"'" || l == name+`="`+value+`"`
	})
}

func (s *story) again(ctx context.Context) error {
	s.heading("Apply again", "Nothing has moved since, so nothing is done: no file is written, nothing is restarted, and the store is hardly asked.")
	invocations, err := s.invocations(ctx)
	if err != nil {
		return err
	}
	s.store.ResetRequests()
	if _, err := s.converge(ctx, 0, "apply", "--auto-approve", "--detailed-exitcode", planPath); err != nil {
		return err
	}
	after, err := s.invocations(ctx)
	if err != nil {
		return err
	}
	if invocations != after {
		return errors.New("a service was restarted although nothing had changed")
	}
	total, words := s.requests()
	if total > 20 {
		return fmt.Errorf("an unchanged host cost %d requests at the store: %s", total, words)
	}
	s.ok("no change, no restart; %d requests at the store for %d files: %s", total, len(s.instance.Keys()), words)
	return nil
}

// invocations stands for the runs that the services are in.
func (s *story) invocations(ctx context.Context) (string, error) {
	var all strings.Builder
	for _, name := range append([]string{"nginx"}, mastodonUnits...) {
		state, err := s.host.service(ctx, "invocation", name)
		if err != nil {
			return "", err
		}
		all.WriteString(state + "\n")
	}
	return all.String(), nil
}

func (s *story) lookThroughTheProxy(ctx context.Context) error {
	s.heading("Look through the proxy", "Anyone may get a file that they know. Nobody may list, write or delete, and archives are nobody's.")
	key := s.instance.Public()[len(s.instance.Public())/3]
	file, err := s.file(key)
	if err != nil {
		return err
	}
	private := s.instance.Private()[0]
	for _, v := range []visit{
		{"GET", "/" + key, 200, "MISS", file},
		{"GET", "/" + key, 200, "HIT", file},
		{"GET", "/", 404, "", nil},
		{"GET", "/?list-type=2", 404, "", nil},
		{"PUT", "/media_attachments/files/new.png", 405, "", nil},
		{"DELETE", "/" + key, 405, "", nil},
		{"GET", "/" + private, 404, "", nil},
	} {
		if err := s.visit(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) deletedPost(ctx context.Context) error {
	s.heading("A deleted post stays deleted", "Mastodon deletes from the bucket. The file still lies on the old disk, and even looks new;\na copy that only compared the two would bring it back, and a proxy that asked the disk would serve it.")
	key := s.instance.Public()[len(s.instance.Public())/2]
	s.store.Delete(bucketName, key)
	s.note("Mastodon deletes %s", key)
	at := path.Join(live, "public/system", key)
	s.command("touch " + at)
	if _, status, err := s.host.run(ctx, "touch", at); err != nil || status != 0 {
		return errors.Join(fmt.Errorf("touch ended with %d", status), err)
	}
	if _, err := s.converge(ctx, 0, "apply", "--auto-approve", planPath); err != nil {
		return err
	}
	if _, _, there := s.store.Object(bucketName, key); there {
		return fmt.Errorf("%s is back in the bucket", key)
	}
	s.ok("it is not in the bucket again")
	return s.visit(ctx, visit{"GET", "/" + key, 404, "", nil})
}

// damage is one act of sabotage.
type damage struct {
	file, from, to string // an edit
	stop           string // or a service to stop
}

func (s *story) damages() []damage {
	return []damage{
		{file: path.Join(live, ".env.production"), from: "S3_ALIAS_HOST=", to: "S3_ALIAS_HOST=old-"},
		{file: s.siteFile, from: "X-Content-Type-Options nosniff", to: "X-Content-Type-Options sniff"},
		{stop: "mastodon-sidekiq"},
	}
}

func (s *story) sabotage(ctx context.Context) error {
	s.heading("Sabotage", "Somebody edits a setting and the site by hand, and a service is down. The plan finds all three.")
	if err := s.findSite(ctx); err != nil {
		return err
	}
	for _, d := range s.damages() {
		if err := s.damage(ctx, d); err != nil {
			return err
		}
	}
	out, err := s.converge(ctx, 2, "plan", "--detailed-exitcode", planPath)
	if err != nil {
		return err
	}
	for _, address := range []string{"env_file.mastodon", "nginx_site.files", `systemd_service.mastodon["mastodon-sidekiq"]`} {
		if !strings.Contains(out, address) {
			return fmt.Errorf("the plan does not name %s", address)
		}
	}
	s.ok("the plan names the setting, the site and the service")
	return nil
}

func (s *story) damage(ctx context.Context, d damage) error {
	if d.stop != "" {
		s.command("systemctl stop " + d.stop)
		_, err := s.host.service(ctx, "stop", d.stop)
		return err
	}
	s.command(fmt.Sprintf("sed -i 's/%s/%s/' %s", d.from, d.to, d.file))
	text, err := s.host.read(ctx, d.file)
	if err != nil {
		return err
	}
	if !strings.Contains(text, d.from) {
		return fmt.Errorf("%s has no %q in it", d.file, d.from)
	}
	_, status, err := s.host.run(ctx, "sed", "-i", fmt.Sprintf("s/%s/%s/", d.from, d.to), d.file)
	if err == nil && status != 0 {
		err = fmt.Errorf("sed ended with %d", status)
	}
	return err
}

// findSite finds the file of the media's site by its name in it.
func (s *story) findSite(ctx context.Context) error {
	out, _, err := s.host.run(ctx, "grep", "-lr", "X-Cache-Status", "/etc/nginx/sites-available", "/etc/nginx/conf.d")
	if err != nil {
		return err
	}
	s.siteFile, _, _ = strings.Cut(out, "\n")
	if s.siteFile == "" {
		return errors.New("there is no site with a cache below /etc/nginx")
	}
	return nil
}

func (s *story) heal(ctx context.Context) error {
	s.heading("Heal", "One apply puts all of it right, and one more finds nothing to do.")
	if _, err := s.convergePlanned(ctx, 0, "apply", "--auto-approve", planPath); err != nil {
		return err
	}
	if err := s.checkSwitch(ctx); err != nil {
		return err
	}
	for _, d := range s.damages()[:2] {
		if text, err := s.host.read(ctx, d.file); err != nil || strings.Contains(text, d.to) {
			return errors.Join(fmt.Errorf("%s is still damaged", d.file), err)
		}
	}
	if state, err := s.host.service(ctx, "state", "mastodon-sidekiq"); err != nil || state != "active" {
		return errors.Join(fmt.Errorf("mastodon-sidekiq is %s", state), err)
	}
	s.ok("the setting, the site and the service are as the configuration says")
	_, err := s.converge(ctx, 0, "plan", "--detailed-exitcode", planPath)
	if err == nil {
		s.ok("nothing is left to do")
	}
	return err
}
