// Package services is the host that a Mastodon host of the end-to-end suite depends on, in a machine of its own: an object
// store with the manners of a provider, the certificate authority Let's Encrypt, and the name server by which the others
// find both under the names that they have on the internet. The lab of package lab does the work; Serve is the program in
// the machine, and Start puts it there and returns the client of its control API.
package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/test/e2e/machines"
)

// Options says what a host of services has.
type Options struct {
	// Provider is the one whose store it has: "backblaze-b2" or "minio".
	Provider string
	// Resolve gives the addresses that the name server knows besides those of the host's own names. No other name exists
	// (NXDOMAIN).
	Resolve map[string]string
	// CertificateLifetime is how long certificates of the authority are good for; 0 is 90 days.
	CertificateLifetime time.Duration
}

// Services is a running host of services. Its methods speak to the control API of the host, go around the store's front,
// and so are never touched by Fault or Down.
//
// After a power cut or reboot of the host the store comes back with the same keys and buckets, and what is signed by CAPEM
// stays good; so do names that Options gave. The authority is a new one that knows no account and no certificate, with a new
// ACMERootPEM, because Pebble holds everything in memory; faults have ended. Wait reads what is new.
//
// The clocks of the hosts may be set ahead together. The certificates of the servers are good for years, and those that the
// authority issues begin an hour early, for a host whose clock is a little behind. A signature of a request may be 15
// minutes off (lab, as Amazon S3).
type Services struct {
	IP       string // of the host, where it answers on the ports 443 (HTTPS) and 53 (DNS by UDP and TCP)
	Endpoint string // of the store, by its provider's name: "https://s3.us-west-001.backblazeb2.com"
	Region   string

	AgentKey, AgentSecret string // may do everything with the store's buckets, and make new ones
	AppKey, AppSecret     string // may get, put and delete objects

	CAPEM         string // signed the servers of the store and of the authority's directory, and Certificate's
	ACMERootPEM   string // signs what the authority issues
	ACMEDirectory string // "https://acme-v02.api.letsencrypt.org/directory"

	machine machines.Machine
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	control *http.Client
}

const (
	programPath = "/opt/converge/services"
	stateDir    = "/var/lib/converge-services"
	unitName    = "converge-services.service"

	// patience is how long the program may take until it answers, in a virtual machine without hardware support.
	patience = 5 * time.Minute
)

// Start puts the program into a machine, unless it has the same already, starts it there as a unit, and waits until it
// answers. Called again it restarts it, with new options, on the same keys and buckets.
func Start(ctx context.Context, d machines.Driver, m machines.Machine, o Options) (*Services, error) {
	s := &Services{IP: m.IP(), machine: m, dial: d.DialContext}
	s.control = &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
	if err := putProgram(ctx, m); err != nil {
		return nil, err
	}
	if err := m.Put(ctx, "/etc/systemd/system/"+unitName, unit(m.IP(), o), 0o644); err != nil {
		return nil, err
	}
	if err := succeed(ctx, m, "systemctl daemon-reload && systemctl enable --quiet "+unitName+" && systemctl restart "+unitName); err != nil {
		return nil, fmt.Errorf("start the services: %w", err)
	}
	return s, s.Wait(ctx)
}

// unit is the text of the unit that runs the program.
func unit(ip string, o Options) string {
	command := []string{programPath, "--ip", ip, "--dir", stateDir, "--provider", o.Provider}
	if o.CertificateLifetime != 0 {
		command = append(command, "--certificate-lifetime", o.CertificateLifetime.String())
	}
	for _, name := range slices.Sorted(maps.Keys(o.Resolve)) {
		command = append(command, "--resolve", name+"="+o.Resolve[name])
	}
	return `[Unit]
Description=Object store, certificate authority and name server of the end-to-end suite
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=` + strings.Join(command, " ") + `
Restart=no
TimeoutStopSec=10
[Install]
WantedBy=multi-user.target
`
}

// Connect returns the client of services that run at an address already, such as those of the Vagrantfile.
func Connect(ctx context.Context, ip string) (*Services, error) {
	s := &Services{IP: ip, dial: new(net.Dialer).DialContext, control: &http.Client{}}
	if err := s.identify(ctx); err != nil {
		return nil, fmt.Errorf("ask the services at %s for their keys: %w", ip, err)
	}
	return s, nil
}

// succeed runs a script in a machine, which must end with 0.
func succeed(ctx context.Context, m machines.Machine, script string) error {
	r, err := m.Run(ctx, "sh", "-ec", script)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s on %s: exit code %d: %s%s", script, m.Name(), r.Code, r.Stdout, r.Stderr)
	}
	return err
}

// Wait waits until the program answers, at most five minutes, and reads its keys and certificates anew. It is an error when
// its unit has failed meanwhile.
func (s *Services) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := s.identify(ctx)
		if err == nil {
			return nil
		}
		if failed := s.failed(ctx); failed != nil {
			return failed
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for the services on %s: %w", s.IP, errors.Join(ctx.Err(), err))
		}
	}
}

// identify reads the keys and certificates.
func (s *Services) identify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return s.call(ctx, "identity", nil, s)
}

// failed returns why the unit has failed, or nil where it has not, or the machine cannot be asked now.
func (s *Services) failed(ctx context.Context) error {
	r, err := s.machine.Run(ctx, "systemctl", "is-failed", unitName)
	if err != nil || r.Code != 0 {
		return nil //nolint:nilerr // who waits asks again
	}
	said, _ := s.machine.Run(ctx, "journalctl", "--no-pager", "--output=cat", "--lines=30", "--unit="+unitName)
	return fmt.Errorf("the services on %s have ended: %s", s.IP, said.Stdout)
}
