package httpcheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
)

// maxBody is how much of a body is matched, in bytes.
const maxBody = 1 << 20

// Apply makes the request, and fails with all that is not as expected.
func (c *check) Apply(ctx context.Context, env resources.Env, _ resources.Change) error {
	doing := "check " + c.Method + " " + c.URL
	client, err := c.client(env.Files)
	if err != nil {
		return diag.Wrap(err, doing, "")
	}
	defer client.CloseIdleConnections()
	wrong, err := c.ask(ctx, client) // of wrong and err, the server chose some of the words
	for start := time.Now(); (err != nil || len(wrong) > 0) && time.Since(start) < c.patience; {
		if pause(ctx, again) != nil {
			break
		}
		wrong, err = c.ask(ctx, client)
	}
	if err != nil {
		return diag.Wrap(secret.RedactError(err, c.secrets...), doing, advice(err))
	}
	if len(wrong) > 0 {
		return diag.New(doing, secret.Redact(strings.Join(wrong, "; "), c.secrets...), "Look at it with: "+c.curl())
	}
	return nil
}

// patience is for how long a check that does not hold is made again, and again the time between two tries. What was reloaded
// or restarted just before answers a moment later: nginx -s reload returns before the new workers listen (nginx.org,
// Controlling nginx).
const (
	patience = 5 * time.Second
	again    = 200 * time.Millisecond
)

// ask makes the request, and for a HIT a second one: the first may have filled the cache.
func (c *check) ask(ctx context.Context, client *http.Client) ([]string, error) {
	wrong, err := c.try(ctx, client)
	if err == nil && len(wrong) > 0 && c.Expect.Cache == "HIT" {
		return c.try(ctx, client)
	}
	return wrong, err
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// client makes a client that trusts the system's authorities and those of ca_file.
func (c *check) client(files host.View) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if c.CAFile != "" {
		f, err := files.Lookup(c.CAFile)
		if err != nil {
			return nil, err
		}
		if f == nil || f.Type != host.Regular || !roots.AppendCertsFromPEM(f.Content) {
			return nil, diag.New("read ca_file "+c.CAFile, "there is no certificate in PEM in it", "Write the path of the authority's certificate.")
		}
	}
	dialer := &net.Dialer{}
	dial := dialer.DialContext
	if c.Resolve != "" {
		dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, c.Resolve)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:        dial,
			TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:  true, // as browsers do
			DisableCompression: true, // headers and body are to be seen as they come
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// try makes one request and says what of the answer is not as expected.
func (c *check) try(ctx context.Context, client *http.Client) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "converge")
	for name, value := range c.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			req.Host = value.Reveal()
			continue
		}
		req.Header.Set(name, value.Reveal())
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.unanswered(err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", c.unanswered(err))
	}
	return c.compare(resp, body), nil
}

// unanswered words the errors of a request: without the method and url, which stand before it already.
func (c *check) unanswered(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("there was no answer within %s: %w", c.Timeout, err)
	}
	return err
}

// compare lists the expectations that the answer does not meet, each with what was seen.
func (c *check) compare(resp *http.Response, body []byte) []string {
	var wrong []string
	switch want := int(c.Expect.Status); {
	case want == 0 && resp.StatusCode >= 400:
		wrong = append(wrong, fmt.Sprintf("the status is %d instead of one below 400", resp.StatusCode))
	case want != 0 && resp.StatusCode != want:
		wrong = append(wrong, fmt.Sprintf("the status is %d instead of %d", resp.StatusCode, want))
	}
	for _, name := range c.headers() {
		if w := c.compareHeader(name, resp.Header.Values(name)); w != "" {
			wrong = append(wrong, w)
		}
	}
	if c.body != nil && !c.body.Match(body) {
		wrong = append(wrong, fmt.Sprintf("the body, of which %d bytes were read, does not match %q", len(body), c.Expect.Body))
	}
	if want := c.Expect.Cache; want != "" {
		if got := resp.Header.Get("X-Cache-Status"); got != want {
			wrong = append(wrong, fmt.Sprintf("X-Cache-Status is %q instead of %q", got, want))
		}
	}
	return wrong
}

func (c *check) compareHeader(name string, got []string) string {
	want, pattern := c.Expect.Header[name], c.patterns[name]
	switch {
	case len(got) == 0:
		return name + " is missing"
	case len(got) > 1:
		return fmt.Sprintf("%s is there %d times instead of once: %q", name, len(got), got)
	case pattern != nil && !pattern.MatchString(got[0]):
		return fmt.Sprintf("%s is %q, which does not match %q", name, got[0], pattern)
	case pattern == nil && got[0] != want:
		return fmt.Sprintf("%s is %q instead of %q", name, got[0], want)
	}
	return ""
}

// advice says what to do about a request that got no answer.
func advice(err error) string {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "See whether a firewall is in the way, or write a longer timeout."
	case errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &name):
		return "Get a certificate for this host name, or correct the url."
	case errors.As(err, &authority):
		return "Get a certificate of a known authority, or name the authority's in ca_file."
	case errors.As(err, &invalid):
		return "Renew the certificate, or set the clock right."
	case errors.As(err, &dns):
		return "Make the DNS record, or say where to connect to with resolve."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Start the server, or correct the port."
	}
	return "Look at the server's log."
}

// curl is a command that makes the same request, without the headers, which may be secrets.
func (c *check) curl() string {
	args := []string{"curl", "-sSi"}
	switch c.Method {
	case http.MethodHead:
		args = append(args, "--head")
	case http.MethodOptions:
		args = append(args, "-X", c.Method)
	}
	if c.CAFile != "" {
		args = append(args, "--cacert", c.CAFile)
	}
	if c.Resolve != "" {
		args = append(args, "--connect-to", "::"+c.Resolve)
	}
	return strings.Join(args, " ") + " '" + strings.ReplaceAll(c.URL, "'", "%27") + "'"
}
