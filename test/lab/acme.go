package lab

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/letsencrypt/challtestsrv"
	pebbleca "github.com/letsencrypt/pebble/v2/ca"
	pebbledb "github.com/letsencrypt/pebble/v2/db"
	pebbleva "github.com/letsencrypt/pebble/v2/va"
	pebblewfe "github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// ACMEOptions says how an authority validates and what it issues.
type ACMEOptions struct {
	// HTTPPort and TLSPort are where it looks for the answers to HTTP-01 and TLS-ALPN-01 challenges; 80 and 443 where 0.
	HTTPPort, TLSPort int
	// Resolve gives the addresses of names; "*" is every other name. Where it is nil all names are at the lab's address.
	Resolve map[string]string
	// NameServer, where it is not "", is the address ("ip:port") of a name server that the authority asks by TCP. It then
	// has none of its own, and Resolve is not used. This is not for a lab with Dial.
	NameServer string
	// Profiles gives the lifetime of certificates by profile; {"default": 90 days} where it is nil. With more than one,
	// orders that name none get one by chance (Pebble 2.10.1).
	Profiles map[string]time.Duration
	// ReuseAuthorizations lets an order use valid authorizations of earlier ones, as Let's Encrypt does.
	ReuseAuthorizations bool
	// Seen, where it is not nil, is called with each request before anything is done, from several goroutines at once.
	Seen func(*http.Request)
	// ExternalAccounts, where it is not nil, are the HMAC keys in base64url by key ID, one of which an account must have.
	ExternalAccounts map[string]string
}

// ACME is a running authority: Pebble.
type ACME struct {
	DirectoryURL string
	// CAFile verifies the server of the directory.
	CAFile string
	// RootFile verifies the certificates that it issues.
	RootFile string
	// DNS is the address of its name server, by UDP and TCP.
	DNS string

	store  *pebbledb.MemoryStore
	names  *challtestsrv.ChallSrv // nil where it asks another name server
	relays *relays                // nil where the authority reaches hosts itself
}

// ACME starts an authority. It ends with the lab.
func (l *Lab) ACME(ctx context.Context, o ACMEOptions) (*ACME, error) {
	a := &ACME{CAFile: l.CAFile, store: pebbledb.NewMemoryStore()}
	o.HTTPPort, o.TLSPort = or(o.HTTPPort, 80), or(o.TLSPort, 443)
	nameServer := l.IP
	if l.dial != nil {
		var err error
		if a.relays, err = newRelays(l.ctx, l.dial, o.HTTPPort); err != nil {
			return nil, fmt.Errorf("start the ACME authority: %w", err)
		}
		l.atClose(a.relays.close)
		o.HTTPPort, nameServer = a.relays.here, "127.0.0.1"
	}
	if o.Resolve == nil {
		o.Resolve = map[string]string{"*": l.IP}
	}
	if a.DNS = o.NameServer; a.DNS != "" {
		if l.dial != nil {
			return nil, errors.New("start the ACME authority: a lab with Dial needs the authority's own name server")
		}
	} else if err := l.startDNS(ctx, a, nameServer, o.Resolve); err != nil {
		return nil, fmt.Errorf("start the name server of the ACME authority: %w", err)
	}
	for id, key := range o.ExternalAccounts {
		if err := a.store.AddExternalAccountKeyByID(id, key); err != nil {
			return nil, fmt.Errorf("add the external account %s: %w", id, err)
		}
	}
	handler, roots, err := a.pebble(o)
	if err != nil {
		return nil, err
	}
	addr, err := l.serve(seenBy(o.Seen, a.backdate(askAgainSoon(knownDirectory(handler)))))
	if err != nil {
		return nil, fmt.Errorf("start the ACME authority: %w", err)
	}
	_, port, _ := net.SplitHostPort(addr) // it is a listener's
	a.RootFile = filepath.Join(l.Dir, "acme-root-"+port+".pem")
	if err := os.WriteFile(a.RootFile, roots, 0o644); err != nil {
		return nil, err
	}
	a.DirectoryURL = "https://" + addr + pebblewfe.DirectoryPath
	return a, nil
}

// pebbleEnv guards the environment, which is where Pebble takes some of its settings from when it is made.
var pebbleEnv sync.Mutex

// pebble makes the parts of Pebble, and returns its handler and the root that it issues from, in PEM.
func (a *ACME) pebble(o ACMEOptions) (http.Handler, []byte, error) {
	pebbleEnv.Lock()
	defer pebbleEnv.Unlock()
	reuse := "0"
	if o.ReuseAuthorizations {
		reuse = "100"
	}
	restore, err := setenv(map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1", // else up to 5 s before each validation
		"PEBBLE_VA_ALWAYS_VALID": "0",
		"PEBBLE_WFE_NONCEREJECT": "0", // else 5 % of good nonces are refused
		"PEBBLE_AUTHZREUSE":      reuse,
	})
	if err != nil {
		return nil, nil, err
	}
	defer restore()
	ca := pebbleca.New(silent, a.store, "", "ecdsa", 0, 1, profiles(o.Profiles))
	va := pebbleva.New(silent, o.HTTPPort, o.TLSPort, false, a.DNS, a.store)
	wfe := pebblewfe.New(silent, a.store, va, ca, []string{"acme.test"}, false, o.ExternalAccounts != nil, 1, 1)
	return wfe.Handler(), ca.GetRootCert(0).PEM(), nil
}

func profiles(lifetimes map[string]time.Duration) map[string]pebbleca.Profile {
	if lifetimes == nil {
		lifetimes = map[string]time.Duration{"default": 90 * 24 * time.Hour}
	}
	out := map[string]pebbleca.Profile{}
	for name, lifetime := range lifetimes {
		out[name] = pebbleca.Profile{Description: name, ValidityPeriod: uint64(lifetime / time.Second)}
	}
	return out
}

// setenv sets variables and returns the function that puts them back.
func setenv(vars map[string]string) (restore func(), err error) {
	var undo []func() error
	restore = func() {
		for _, f := range undo {
			_ = f() // the same calls worked a moment ago
		}
	}
	for name, value := range vars {
		if old, ok := os.LookupEnv(name); ok {
			undo = append(undo, func() error { return os.Setenv(name, old) })
		} else {
			undo = append(undo, func() error { return os.Unsetenv(name) })
		}
		if err := os.Setenv(name, value); err != nil {
			restore()
			return nil, err
		}
	}
	return restore, nil
}

func or(port, otherwise int) int {
	if port == 0 {
		return otherwise
	}
	return port
}

// seenBy shows each request to see, where that is not nil.
func seenBy(see func(*http.Request), h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if see != nil {
			see(r)
		}
		h.ServeHTTP(w, r)
	})
}

// askAgainSoon has clients look at a challenge again after 1 s. Pebble does not say, and lego then waits 5 s or more
// (lego 4.35.2, challenge/resolver).
func askAgainSoon(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/chalZ/") {
			w.Header().Set("Retry-After", "1")
		}
		h.ServeHTTP(w, r)
	})
}

// knownDirectory answers on Let's Encrypt's path of the directory as well as on Pebble's
// (https://acme-v02.api.letsencrypt.org/directory).
func knownDirectory(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/directory" {
			r.URL.Path = pebblewfe.DirectoryPath
		}
		h.ServeHTTP(w, r)
	})
}

// backdate has certificates begin an hour before they are issued, as Let's Encrypt's do, for hosts whose clocks are behind
// (https://letsencrypt.org/docs/faq, boulder's backdate). Pebble lets an order ask for it (RFC 8555 section 7.1.3).
func (a *ACME) backdate(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok {
			if order := a.store.GetOrderByID(id); order != nil {
				order.Lock()
				if order.NotBefore == "" {
					order.NotBefore = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
				}
				order.Unlock()
			}
		}
		h.ServeHTTP(w, r)
	})
}

// startDNS starts the authority's name server on a free port.
func (l *Lab) startDNS(ctx context.Context, a *ACME, ip string, resolve map[string]string) error {
	var err error
	for range 20 { // the port that was free for both protocols may be taken before the server has it
		if err = l.tryDNS(ctx, a, ip, resolve); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (l *Lab) tryDNS(ctx context.Context, a *ACME, ip string, resolve map[string]string) error {
	var err error
	if a.DNS, err = freePort(ctx, ip); err != nil {
		return err
	}
	a.names, err = challtestsrv.New(challtestsrv.Config{Log: silent, DNSAddrs: []string{a.DNS}})
	if err != nil {
		return err
	}
	a.names.SetDefaultDNSIPv4("")
	a.names.SetDefaultDNSIPv6("")
	for name, address := range resolve {
		if err := a.Resolve(name, address); err != nil {
			return err
		}
	}
	a.names.AddDNSARecord(probeName, []string{ip})
	a.names.Run()
	l.atClose(a.names.Shutdown)
	return a.dnsReady(ctx, ip)
}

// probeName is a name that only the lab's own server knows.
const probeName = "ready.lab.test"

// dnsReady waits until the name server answers by TCP, which is how Pebble asks.
func (a *ACME) dnsReady(ctx context.Context, ip string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	question := new(dns.Msg).SetQuestion(dns.Fqdn(probeName), dns.TypeA)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, _, err := client.ExchangeContext(ctx, question, a.DNS)
		if err == nil && len(answer.Answer) == 1 && strings.HasSuffix(answer.Answer[0].String(), ip) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// freePort returns an address whose port is free for TCP and UDP.
func freePort(ctx context.Context, ip string) (string, error) {
	var c net.ListenConfig
	udp, err := c.ListenPacket(ctx, "udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return "", err
	}
	addr := udp.LocalAddr().String()
	tcp, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", errors.Join(err, udp.Close())
	}
	return addr, errors.Join(tcp.Close(), udp.Close())
}

// Resolve gives a name an address; "*" is every name without one. An empty ip takes it away. An authority that asks another
// name server refuses it.
func (a *ACME) Resolve(name, ip string) error {
	if a.names == nil {
		return fmt.Errorf("resolve %s: the authority asks the name server %s", name, a.DNS)
	}
	if a.relays != nil && ip != "" {
		var err error
		if ip, err = a.relays.address(ip); err != nil {
			return err
		}
	}
	switch {
	case name == "*":
		a.names.SetDefaultDNSIPv4(ip)
	case ip == "":
		a.names.DeleteDNSARecord(name)
	default:
		a.names.DeleteDNSARecord(name)
		a.names.AddDNSARecord(name, []string{ip})
	}
	return nil
}

// SetTXT gives a name one TXT record, for DNS-01; an empty value takes it away. It is for an authority with its own name
// server.
func (a *ACME) SetTXT(name, value string) {
	a.names.DeleteDNSTXTRecord(name)
	if value != "" {
		a.names.AddDNSTXTRecord(name, value)
	}
}

// SetRenewalWindow has the authority suggest to renew a certificate (in PEM, the first one counts) between two times: its
// renewal information, RFC 9773.
func (a *ACME) SetRenewalWindow(certificate []byte, start, end time.Time) error {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("set a renewal window: no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("set a renewal window: %w", err)
	}
	answer, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": start.UTC(), "end": end.UTC()}})
	if err != nil {
		return err
	}
	return a.store.SetARIResponse(cert.SerialNumber, string(answer))
}
