// Package instance makes a machine a Mastodon host, as far as an agent that moves its media can tell: the user, the directory
// and the settings of an instance, its units with Mastodon's names and hardening, and its site of nginx. In the place of
// Mastodon's programs are small ones in Ruby, which read their settings, store and delete media, and write pages by the same
// rules and with the same libraries.
//
// Facts are from Mastodon 4.6.5 (dist, config/initializers, app/lib) and kt-paperclip 7.3.0 unless it says otherwise.
package instance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/converge-agent/converge/test/e2e/machines"
)

// Options says what an instance is like.
type Options struct {
	Domain      string // of its pages, "example.com"
	FilesDomain string // of its media, once they have a site of their own, "files.example.com"
	// Files is how many media files it has from before; 2000 where it is 0. Seed decides what they are.
	Files int
	Seed  uint64
	// CertPEM and KeyPEM are the certificate of Domain, with its chain.
	CertPEM, KeyPEM string
	// CAPEM are the authorities, beside Debian's, that the host and its visitors trust.
	CAPEM []string
	// Resolver is the address of the host's name server; the host's own one stays where it is empty.
	Resolver string
}

// Places on an instance host.
const (
	Live    = "/home/mastodon/live"
	EnvFile = Live + "/.env.production"
	System  = Live + "/public/system"
	Site    = "/etc/nginx/sites-available/mastodon"
)

// Instance is an instance on a machine.
type Instance struct {
	machine machines.Machine
	domain  string
	client  *http.Client
}

// patience is how long a host may take to come up: virtual machines are emulated.
const patience = 10 * time.Minute

// installScript is run as root once all files are on the machine, in an archive. The user is the one of Mastodon's own image.
const installScript = `getent group mastodon >/dev/null || groupadd --gid 991 mastodon
getent passwd mastodon >/dev/null ||
	useradd --uid 991 --gid mastodon --home-dir /home/mastodon --create-home --shell /bin/bash mastodon
tar --extract --preserve-permissions --numeric-owner --file "$1" --directory /
rm "$1"
chmod o+x /home/mastodon
update-ca-certificates
ln --symbolic --force ../sites-available/mastodon /etc/nginx/sites-enabled/mastodon
rm --force /etc/nginx/sites-enabled/default
nginx -t
systemctl daemon-reload
systemctl enable --now mastodon-web.service mastodon-sidekiq.service mastodon-streaming.service
systemctl unmask nginx.service
systemctl enable nginx.service
systemctl restart nginx.service
`

// Install makes a fresh machine of d an instance host, and returns when it answers.
func Install(ctx context.Context, d machines.Driver, m machines.Machine, o Options) (*Instance, error) {
	i := &Instance{machine: m, domain: o.Domain}
	err := i.install(ctx, d, o)
	if err != nil {
		return nil, fmt.Errorf("install the instance %s on machine %s: %w", o.Domain, m.Name(), err)
	}
	return i, nil
}

func (i *Instance) install(ctx context.Context, d machines.Driver, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	roots := x509.NewCertPool()
	for n, pem := range o.CAPEM {
		if !roots.AppendCertsFromPEM([]byte(pem)) {
			return fmt.Errorf("CAPEM[%d] holds no certificate", n)
		}
	}
	i.client = newClient(d, i.machine.IP(), []string{o.Domain, o.FilesDomain}, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	files, err := archive(o)
	if err != nil {
		return fmt.Errorf("pack its files: %w", err)
	}
	const at = "/root/instance.tar"
	if err := i.machine.Put(ctx, at, files, 0o600); err != nil {
		return err
	}
	r, err := i.machine.Run(ctx, "sh", "-ec", installScript, "sh", at)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("the script ended with %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err != nil {
		return err
	}
	return i.waitUp(ctx)
}

// Units are the units of the instance that run programs.
func Units() []string {
	return []string{"mastodon-web", "mastodon-sidekiq", "mastodon-streaming@4000"}
}

// waitUp waits until all units have started and the site answers.
func (i *Instance) waitUp(ctx context.Context) error {
	answers := func(path string) func() error {
		return func() error { return i.do(ctx, http.MethodGet, path, nil) }
	}
	conditions := []func() error{answers("/"), answers("/api/v1/streaming/health")}
	for _, unit := range Units() {
		conditions = append(conditions, func() error {
			_, err := i.Started(ctx, unit)
			return err
		})
	}
	for _, holds := range conditions {
		if err := eventually(ctx, holds); err != nil {
			return errors.Join(err, i.journal())
		}
	}
	return nil
}

// journal returns the end of what the units said, as an error.
func (i *Instance) journal() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := i.machine.Run(ctx, "journalctl", "--no-pager", "--lines=40", "--unit=mastodon-*", "--unit=nginx")
	return errors.Join(fmt.Errorf("its journal: %s", r.Stdout), err)
}

// eventually waits until a function has no error, and returns its last one when ctx ends before.
func eventually(ctx context.Context, f func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
