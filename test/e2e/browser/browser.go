// Package browser shows pages to a real browser, headless Chromium, and reports what a visitor would see and what the
// browser complains about. It reaches only the hosts it is told of, at the addresses it is told.
package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/chromedp"
)

// Options say what a browser may reach, and whom it trusts.
type Options struct {
	// Dial connects to an address ("ip:port") that Hosts maps to.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Hosts maps names to IP addresses; every port is allowed. The browser reaches no other name, and no address by number
	// unless that is mapped to itself.
	Hosts map[string]string
	// CAPEM are certificates of authorities, in PEM form, that the browser trusts besides the public ones.
	CAPEM []string
	// Patience is how long a page may take until it is complete. Zero means five minutes: virtual machines without the
	// help of hardware are slow.
	Patience time.Duration
}

// Browser is a running Chromium with an empty profile.
type Browser struct {
	patience time.Duration
	dir      string // profile, home and temporary files
	proxy    *proxy
	ctx      context.Context // chromedp's, of the browser and not of a page
	end      func()
	output   *lines
}

// Open starts a browser. The context bounds the start only; the caller ends the browser with Close.
func Open(ctx context.Context, o Options) (*Browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, fmt.Errorf("starting a browser: %w (test/e2e/packages.sh installs it)", err)
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Minute
	}
	b := &Browser{patience: o.Patience, output: &lines{}, end: func() {}}
	if b.dir, err = os.MkdirTemp("", "browser-"); err != nil {
		return nil, fmt.Errorf("making a directory for the browser: %w", err)
	}
	if err := b.start(ctx, path, o); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w\n%s", path, err, b.output), b.Close())
	}
	return b, nil
}

func (b *Browser) start(ctx context.Context, path string, o Options) error {
	home, profile := filepath.Join(b.dir, "home"), filepath.Join(b.dir, "profile")
	for _, dir := range []string{home, profile} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := trust(ctx, home, o.CAPEM); err != nil {
		return err
	}
	var err error
	if b.proxy, err = startProxy(o.Hosts, o.Dial); err != nil {
		return err
	}
	options := append(flags(profile, b.proxy.addr),
		chromedp.ExecPath(path),
		chromedp.NoInheritEnv, // the environment of tests is none of its business, and XDG_* would lead it out of its home
		chromedp.Env("HOME="+home, "TMPDIR="+b.dir, "PATH="+os.Getenv("PATH"), "LANG=C.UTF-8"),
		chromedp.CombinedOutput(b.output),
		chromedp.ModifyCmdFunc(asGroup))
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	allocator, endAllocator := chromedp.NewExecAllocator(life, options...)
	browser, endBrowser := chromedp.NewContext(allocator, chromedp.WithErrorf(b.output.printf))
	b.ctx, b.end = browser, func() { end(); endBrowser(); endAllocator() }
	defer context.AfterFunc(ctx, end)()
	return errors.Join(chromedp.Do(browser), ctx.Err())
}

// asGroup makes a command's processes a group that ends as one, at the latest with this process. They are not asked: there is
// nothing that they should save.
func asGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error {
		if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}
}

// flags are Chromium's command line. What a visitor's browser enforces stays on: certificates, CORS, mixed content, CSP.
func flags(profile, proxy string) []chromedp.ExecAllocatorOption {
	values := []struct {
		name  string
		value any
	}{
		{"headless", "new"},
		{"user-data-dir", profile},
		{"proxy-server", "http://" + proxy},
		{"proxy-bypass-list", "<-loopback>"}, // not even this host without the proxy
		{"disable-quic", true},               // which would not go through the proxy
		{"no-sandbox", true},                 // which root cannot have; the pages are the tests' own
		{"disable-gpu", true},
		{"no-first-run", true},
		{"no-default-browser-check", true},
		{"disable-background-networking", true},
		{"disable-component-update", true},
		{"disable-sync", true},
		{"disable-extensions", true},
		{"disable-breakpad", true},
		{"password-store", "basic"},
		{"disable-background-timer-throttling", true},
		{"disable-backgrounding-occluded-windows", true},
		{"disable-renderer-backgrounding", true},
		{"disable-hang-monitor", true}, // a slow page is no reason to end it
		{"hide-scrollbars", true},
		{"mute-audio", true},
		{"window-size", "1280,1024"},
	}
	options := make([]chromedp.ExecAllocatorOption, 0, len(values))
	for _, v := range values {
		options = append(options, chromedp.Flag(v.name, v.value))
	}
	return options
}

// Close ends the browser, all its processes and connections, and removes what it wrote.
func (b *Browser) Close() error {
	b.end() // returns when the browser is gone
	err := outlive(b.dir)
	if b.proxy != nil {
		err = errors.Join(err, b.proxy.close())
	}
	if err := errors.Join(err, os.RemoveAll(b.dir)); err != nil {
		return fmt.Errorf("ending the browser: %w", err)
	}
	return nil
}

// outlive waits until no process has a directory in its arguments. The crash handlers leave the browser's group, and end by
// themselves when the browser has. (The flag that would do without them, --disable-crashpad-for-testing, breaks the network
// service.)
func outlive(dir string) error {
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		running, err := using(dir)
		if err != nil || len(running) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("these processes have not ended: %s", strings.Join(running, ", "))
		}
	}
}

// using returns the process numbers of those who have a directory in their arguments. Of zombies the kernel tells no arguments.
func using(dir string) ([]string, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var numbers []string
	for _, process := range processes {
		arguments, err := os.ReadFile(filepath.Join(process, "cmdline"))
		if err == nil && bytes.Contains(arguments, []byte(dir)) { // else it has ended meanwhile
			numbers = append(numbers, filepath.Base(process))
		}
	}
	return numbers, nil
}

// lines keeps the end of what the browser prints, for the error when it does not start.
type lines struct {
	mutex sync.Mutex
	text  []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - 8<<10; over > 0 {
		l.text = bytes.Clone(l.text[over:])
	}
	return len(p), nil
}

func (l *lines) printf(format string, args ...any) { _, _ = fmt.Fprintf(l, format+"\n", args...) }

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return string(l.text)
}
