package acme

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// Webroot is the usual directory that a web server answers challenges from: the path of a challenge is appended to it. It
// lies outside the state directory, which the web server's user may not enter.
const Webroot = "/var/lib/converge-acme"

// ChallengePath is where an authority looks for the answer to a token, by HTTP on port 80 (RFC 8555, section 8.3).
const ChallengePath = "/.well-known/acme-challenge/"

// ProbeToken begins the tokens with which converge itself looks whether challenges are answered.
const ProbeToken = "converge-"

// Presenter puts the answer to a challenge where the authority finds it.
type Presenter interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}

// tokenForm is what a token consists of (RFC 8555, section 8.3: base64url). It becomes the name of a file.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

func checkToken(token string) error {
	if !tokenForm.MatchString(token) {
		return fmt.Errorf("the authority sent the token %q, which is not base64url", token)
	}
	return nil
}

// InWebroot answers challenges by files below a directory that a web server serves.
type InWebroot struct {
	Files    host.Files
	Dir      string
	UID, GID int
}

func (w InWebroot) file(token string) string { return path.Join(w.Dir, ChallengePath, token) }

// Present writes the answer, readable by everybody.
func (w InWebroot) Present(ctx context.Context, _, token, keyAuth string) error {
	if err := checkToken(token); err != nil {
		return err
	}
	name := w.file(token)
	edits, err := host.MissingDirs(w.Files, path.Dir(name), 0o755, w.UID, w.GID)
	if err != nil {
		return err
	}
	before, err := w.Files.Lookup(name)
	if err != nil {
		return err
	}
	after := &host.File{Content: []byte(keyAuth), Mode: 0o644, UID: w.UID, GID: w.GID}
	for _, e := range append(edits, host.Edit{Path: name, Before: before, After: after}) {
		if err := w.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// CleanUp removes the answer.
func (w InWebroot) CleanUp(ctx context.Context, _, token, _ string) error {
	if err := checkToken(token); err != nil {
		return err
	}
	before, err := w.Files.Lookup(w.file(token))
	if err != nil || before == nil {
		return err
	}
	return w.Files.Commit(ctx, host.Edit{Path: w.file(token), Before: before})
}

// Sweep removes what killed runs have left of their answers. In Webroot, which is converge's alone, that is every file;
// elsewhere those whose names begin as converge's own do, for others may answer challenges from there, too.
func (w InWebroot) Sweep(ctx context.Context) error {
	dir := path.Join(w.Dir, ChallengePath)
	names, err := w.Files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if w.Dir != Webroot && !strings.HasPrefix(name, ProbeToken) && !strings.HasPrefix(name, ".converge-") {
			continue
		}
		f, err := w.Files.Lookup(path.Join(dir, name))
		if err != nil {
			return err
		}
		if f == nil || f.Type != host.Regular {
			continue
		}
		if err := w.Files.Commit(ctx, host.Edit{Path: path.Join(dir, name), Before: f}); err != nil {
			return err
		}
	}
	return nil
}

// Standalone answers challenges by a listener of its own, while it is open.
type Standalone struct {
	listener net.Listener
	server   *http.Server
	mu       sync.Mutex
	answer   map[string]string // by domain and path
}

// Listen opens a listener for challenges on addr: "203.0.113.7:80", or ":80" for every address.
func Listen(ctx context.Context, addr string) (*Standalone, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		fix := "Run converge as root, which may listen on port 80."
		if errors.Is(err, syscall.EADDRINUSE) {
			fix = fmt.Sprintf("See who listens there with ss -ltnp 'sport = %s': let nginx have the port, or stop the other while the "+
				"certificate is issued.", addr[strings.LastIndexByte(addr, ':'):])
		}
		return nil, diag.Wrap(err, "listen on "+addr+" for the authority's challenge", fix)
	}
	s := &Standalone{listener: l, answer: map[string]string{}}
	s.server = &http.Server{Handler: s, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // ends with Close, and then says only that
	return s, nil
}

// Close ends the listener, also where the server has not come to know of it yet.
func (s *Standalone) Close() error {
	err := s.listener.Close()
	if closed := s.server.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// ServeHTTP answers what was presented, under the name that it was presented for, and nothing else.
func (s *Standalone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	s.mu.Lock()
	text, ok := s.answer[strings.ToLower(name)+r.URL.Path]
	s.mu.Unlock()
	if !ok || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, text) // a client that hangs up asks again
}

// Present adds an answer.
func (s *Standalone) Present(_ context.Context, domain, token, keyAuth string) error {
	if err := checkToken(token); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer[domain+ChallengePath+token] = keyAuth
	return nil
}

// CleanUp takes an answer away.
func (s *Standalone) CleanUp(_ context.Context, domain, token, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answer, domain+ChallengePath+token)
	return nil
}

// Answers reports whether what listens on addr answers token with keyAuth, for a request that names domain.
func Answers(ctx context.Context, addr, domain, token, keyAuth string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+ChallengePath+token, nil)
	if err != nil {
		return false
	}
	req.Host = domain
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	return err == nil && res.StatusCode == http.StatusOK && string(body) == keyAuth
}

// cleaner is a presenter for lego, which knows no context. It sees to it that every answer is taken away in the end, and
// that none is presented after that.
type cleaner struct {
	ctx context.Context
	Presenter
	mu     sync.Mutex
	closed bool
	open   map[[3]string]bool // domain, token, answer
}

// Present implements challenge.Provider.
func (c *cleaner) Present(domain, token, keyAuth string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return context.Canceled
	}
	if c.open == nil {
		c.open = map[[3]string]bool{}
	}
	c.open[[3]string{domain, token, keyAuth}] = true
	return c.Presenter.Present(c.ctx, domain, token, keyAuth)
}

// CleanUp implements challenge.Provider. What it could not take away, cleanAll tries once more.
func (c *cleaner) CleanUp(domain, token, keyAuth string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [3]string{domain, token, keyAuth}
	if !c.open[key] {
		return nil
	}
	err := c.Presenter.CleanUp(context.WithoutCancel(c.ctx), domain, token, keyAuth)
	if err == nil {
		delete(c.open, key)
	}
	return err
}

// cleanAll takes away what is still presented. That it cannot be done is no reason to throw a certificate away: an answer
// to a challenge that is over gives nobody anything.
func (c *cleaner) cleanAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for key := range c.open {
		_ = c.Presenter.CleanUp(context.WithoutCancel(c.ctx), key[0], key[1], key[2])
	}
}
