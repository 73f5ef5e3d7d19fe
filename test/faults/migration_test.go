package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/converge-agent/converge/test/lab"
)

//go:embed migration.hcl.tmpl
var migrationSite string

const (
	live       = "/home/mastodon/live"
	filesName  = "files.social.test"
	bucketName = "social-test-media"
	webroot    = "/var/lib/converge-acme"
	mastodon   = 991 // the user
)

// unitFile has the form of Mastodon's dist/*.service.
const unitFile = `[Service]
Type=simple
User=mastodon
WorkingDirectory=` + live + `
Environment="RAILS_ENV=production"
ExecStart=/bin/sh ` + standIn + `
[Install]
WantedBy=multi-user.target
`

// media is a store, and the instance whose media move there.
type media struct {
	store    *lab.S3
	instance *lab.Instance
}

// migrationStory is a Mastodon whose media lie on its disk, and what brings them to a bucket behind a proxy.
func migrationStory(w *world) error {
	ctx := context.Background()
	instance, err := lab.NewInstance(live, lab.InstanceSpec{Files: 20, Seed: 7, UID: mastodon, GID: mastodon})
	if err != nil {
		return err
	}
	l, err := lab.Start(ctx, lab.Options{Dir: "/lab/lab"}) // ends with the worker
	if err != nil {
		return err
	}
	store, err := l.S3(ctx, lab.MinIO)
	if err != nil {
		return err
	}
	authority, err := l.ACME(ctx, lab.ACMEOptions{Resolve: map[string]string{filesName: "127.0.0.1"}})
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(l.CAFile)
	if err != nil {
		return err
	}
	put("/etc/converge/ca.pem", string(ca), 0o644, 0, 0)
	put("/etc/hosts", fmt.Sprintf("127.0.0.1 localhost social %s %s.%[1]s\n", store.Name, bucketName), 0o644, 0, 0)
	for _, name := range []string{"mastodon-web", "mastodon-sidekiq"} {
		put("/etc/systemd/system/"+name+".service", unitFile, 0o644, 0, 0)
	}
	if w.config, err = migrationConfig(store, authority); err != nil {
		return err
	}
	w.secrets = map[string]string{
		"store.agent.id": store.AgentKey, "store.agent.key": store.AgentSecret, "store.app.id": store.AppKey, "store.app.key": store.AppSecret,
	}
	w.services = map[string][]string{"mastodon-web": {instance.EnvPath}, "mastodon-sidekiq": {instance.EnvPath}}
	w.opaque = []string{"/etc/ssl/" + filesName}
	w.passing = []string{webroot, "/etc/nginx/conf.d/converge-acme-" + filesName + ".conf"}
	m := &media{store, instance}
	w.check = func(final bool) error { return errors.Join(m.check(final), certificate(final)) }
	w.store = func(gone bool) {
		store.Fault(nil)
		if gone {
			store.Fault(func(*http.Request) *lab.Fault { return &lab.Fault{Reset: true} })
		}
	}
	w.reset = func() error { m.store.RemoveBucket(bucketName); return nil }
	return nil
}

func migrationConfig(s *lab.S3, a *lab.ACME) (string, error) {
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil {
		return "", err
	}
	endpoint.Host = net.JoinHostPort(s.Name, endpoint.Port()) // nginx checks certificates by name alone
	t, err := template.New("site").Parse(migrationSite)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]string{
		"Region": s.Region, "Endpoint": endpoint.String(), "Directory": a.DirectoryURL, "CAFile": "/etc/converge/ca.pem",
		"Bucket": bucketName, "Files": filesName,
	})
	return b.String(), err
}

// check looks at the bucket: whatever is in it is a public file of the instance, whole; in the end all of them are.
func (m *media) check(final bool) error {
	var keys []string
	if slices.Contains(m.store.Buckets(), bucketName) {
		keys = m.store.Keys(bucketName)
	}
	public := m.instance.Public()
	if final && !slices.Equal(keys, public) {
		return fmt.Errorf("the bucket holds %d objects, and the instance has %d public files", len(keys), len(public))
	}
	for _, key := range keys {
		if strings.Contains(key, "/converge-probe-") { // of the probes that were going on
			continue
		}
		file, err := os.ReadFile(m.instance.Path(key))
		if err != nil {
			return err
		}
		object, _, _ := m.store.Object(bucketName, key)
		if !slices.Contains(public, key) || !bytes.Equal(object, file) {
			return fmt.Errorf("the object %s is not a public file as it stands on the disk", key)
		}
	}
	return nil
}

// certificate checks that the certificate and its key belong together, as soon as the link to them is there.
func certificate(final bool) error {
	dir := filepath.Join("/etc/ssl", filesName, "live")
	if _, err := os.Stat(dir); os.IsNotExist(err) && !final {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"))
	if err != nil {
		return fmt.Errorf("the certificate is not whole: %w", err)
	}
	if names := strings.Join(pair.Leaf.DNSNames, " "); names != filesName {
		return fmt.Errorf("the certificate is for %s", names)
	}
	return nil
}
