// Command instance makes the machine that it runs on an instance host, for people who look around in the machines of the
// Vagrantfile: the Mastodon stand-in of package instance, the keys of the services' store in /etc/credstore, and an example
// in /etc/converge that is still to be applied. It runs as root, once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/converge-agent/converge/test/e2e/instance"
	"github.com/converge-agent/converge/test/e2e/machines"
	"github.com/converge-agent/converge/test/e2e/services"
	"github.com/converge-agent/converge/test/machine"
)

func main() {
	var o instance.Options
	ip := flag.String("ip", "", "the address of this machine")
	at := flag.String("services", "", "the address of the services' host, whose store is Backblaze's")
	example := flag.String("example", "", "the configuration that is put into /etc/converge")
	flag.StringVar(&o.Domain, "domain", "example.com", "of the instance")
	flag.StringVar(&o.FilesDomain, "files-domain", "files.example.com", "of its media")
	flag.IntVar(&o.Files, "files", 400, "how many media files it has")
	flag.Parse()
	if err := run(context.Background(), *ip, *at, *example, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ip, at, example string, o instance.Options) error {
	s, err := services.Connect(ctx, at)
	if err != nil {
		return err
	}
	if o.CertPEM, o.KeyPEM, err = s.Certificate(ctx, o.Domain); err != nil {
		return err
	}
	o.CAPEM, o.Resolver = []string{s.CAPEM, s.ACMERootPEM}, at
	if _, err := instance.Install(ctx, here{ip: ip}, here{ip: ip}, o); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"b2.agent.id": s.AgentKey, "b2.agent.key": s.AgentSecret, "b2.app.id": s.AppKey, "b2.app.key": s.AppSecret,
	} {
		if err := (here{}).Put(ctx, "/etc/credstore/"+name, value+"\n", 0o600); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(example)
	if err != nil {
		return err
	}
	return here{}.Put(ctx, "/etc/converge/"+filepath.Base(example), string(text), 0o644)
}

// here is the machine that the program runs on, as far as an installation needs one, and what makes it: everything else
// that a machine or a driver can do is nil.
type here struct {
	machines.Machine
	machines.Driver
	ip string
}

func (here) Name() string { return "here" }
func (h here) IP() string { return h.ip }

func (here) Run(ctx context.Context, command ...string) (machine.Result, error) {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	r := machine.Result{Stdout: string(out)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
		return r, nil
	}
	return r, err
}

func (here) Put(_ context.Context, path, content string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), mode)
}

func (here) Get(_ context.Context, path string) (string, error) {
	content, err := os.ReadFile(path)
	return string(content), err
}

func (here) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}
