package services

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

// Config says what Serve serves.
type Config struct {
	// IP is the only address, besides loopback ones, that it listens on.
	IP string
	// Dir holds everything that it writes; what an earlier run left there is used again.
	Dir string
	// Provider, Resolve and CertificateLifetime are as in Options.
	Provider            string
	Resolve             map[string]string
	CertificateLifetime time.Duration
}

const (
	controlPort = "8055"
	letsEncrypt = "acme-v02.api.letsencrypt.org"
	usualLife   = 90 * 24 * time.Hour // https://letsencrypt.org/docs/faq
)

// providers are the personalities of stores and the names of their endpoints.
var providers = map[string]struct {
	personality lab.Personality
	endpoint    string
}{
	"backblaze-b2": {lab.B2, "s3.us-west-001.backblazeb2.com"},
	"minio":        {lab.MinIO, "minio.test"},
}

// host is all that one Serve has running.
type host struct {
	ip       string
	endpoint string
	lab      *lab.Lab
	store    *lab.S3
	acme     *lab.ACME
	relay    *lab.NameRelay
	names    *names
}

// Serve runs the services until ctx ends, which is no error. A process can run it once at a time, and while it does the
// working directory is not the caller's (see lab.Lab).
func Serve(ctx context.Context, c Config) error {
	p, ok := providers[c.Provider]
	if !ok {
		return fmt.Errorf("there is no provider %q; there are backblaze-b2 and minio", c.Provider)
	}
	if net.ParseIP(c.IP) == nil {
		return fmt.Errorf("%q is no IP address to listen on", c.IP)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Dir: c.Dir, Names: []string{p.endpoint, "*." + p.endpoint, letsEncrypt}, Keep: true})
	if err != nil {
		return err
	}
	defer l.Close()
	h := &host{ip: c.IP, endpoint: p.endpoint, lab: l}
	if h.store, err = l.S3(ctx, p.personality); err != nil {
		return err
	}
	ended := make(chan error, 3) // one for each server below
	if err := h.startNames(ctx, c.Resolve, ended); err != nil {
		return err
	}
	if err := h.startAuthority(ctx, c.CertificateLifetime); err != nil {
		return err
	}
	if err := h.startRelay(); err != nil {
		return err
	}
	defer h.relay.Close()
	if err := h.startControl(ctx, ended); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if ctx.Err() != nil {
			return nil // all servers end with ctx, and say so
		}
		return err
	}
}

// storeNames are the names of the store: its provider's, the lab's own, and those of buckets below both.
func (h *host) storeNames() []string {
	return []string{h.endpoint, "*." + h.endpoint, h.store.Name, "*." + h.store.Name}
}

// startNames starts the name server, by UDP and TCP.
func (h *host) startNames(ctx context.Context, resolve map[string]string, ended chan<- error) error {
	h.names = &names{byName: map[string]net.IP{}}
	for _, name := range append(h.storeNames(), letsEncrypt) {
		if err := h.names.set(name, h.ip); err != nil {
			return err
		}
	}
	for name, ip := range resolve {
		if err := h.names.set(name, ip); err != nil {
			return err
		}
	}
	return h.names.serve(ctx, net.JoinHostPort(h.ip, "53"), ended)
}

func (h *host) startAuthority(ctx context.Context, lifetime time.Duration) error {
	if lifetime == 0 {
		lifetime = usualLife
	}
	var err error
	h.acme, err = h.lab.ACME(ctx, lab.ACMEOptions{
		NameServer: net.JoinHostPort(h.ip, "53"), Profiles: map[string]time.Duration{"default": lifetime},
	})
	return err
}

// startRelay has the store and the authority, which the lab has on loopback addresses, found under their names.
func (h *host) startRelay() error {
	authority, _, _ := strings.Cut(strings.TrimPrefix(h.acme.DirectoryURL, "https://"), "/")
	h.relay = &lab.NameRelay{Addr: net.JoinHostPort(h.ip, "443"), Targets: map[string]string{letsEncrypt: authority}}
	for _, name := range h.storeNames() {
		h.relay.Targets[name] = strings.TrimPrefix(h.store.Endpoint, "https://")
	}
	return h.relay.Open()
}

func (h *host) startControl(ctx context.Context, ended chan<- error) error {
	var c net.ListenConfig
	ln, err := c.Listen(ctx, "tcp", net.JoinHostPort(h.ip, controlPort))
	if err != nil {
		return fmt.Errorf("start the control API: %w", err)
	}
	server := &http.Server{Handler: h.control(), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody is left to tell
	go func() { ended <- server.Serve(ln) }()
	return nil
}

// identity is what Start reads.
func (h *host) identity() (*Services, error) {
	ca, err := os.ReadFile(h.lab.CAFile)
	root, err2 := os.ReadFile(h.acme.RootFile)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return &Services{
		IP: h.ip, Endpoint: "https://" + h.endpoint, Region: h.store.Region,
		AgentKey: h.store.AgentKey, AgentSecret: h.store.AgentSecret, AppKey: h.store.AppKey, AppSecret: h.store.AppSecret,
		CAPEM: string(ca), ACMERootPEM: string(root), ACMEDirectory: "https://" + letsEncrypt + "/directory",
	}, nil
}
