// Package ceph tests converge, as the program that users run, against a real Ceph object gateway over TLS.
package ceph

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/lab"
	"github.com/converge-agent/converge/test/lab/rgw"
)

// What all tests share: a gateway takes longer to start than they take. Each has a user and a bucket of its own.
var (
	world   *lab.Lab
	gateway *rgw.Server
	program string // converge
	visitor *http.Client
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ceph-test")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := start(context.Background(), dir); err != nil {
		fmt.Println(err)
		return 1
	}
	defer world.Close()
	defer gateway.Stop()
	code := m.Run()
	if err := gateway.Ended(); err != nil {
		fmt.Println(err)
		return 1
	}
	return code
}

// start builds converge and starts the servers.
func start(ctx context.Context, dir string) error {
	program = filepath.Join(dir, "converge")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/converge")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build converge: %w\n%s", err, out)
	}
	var err error
	if world, err = lab.Start(ctx, lab.Options{Dir: filepath.Join(dir, "lab")}); err != nil {
		return err
	}
	if visitor, err = client(world.CAFile); err == nil {
		var certificate, key []byte
		if certificate, key, err = world.Certificate("127.0.0.1"); err == nil {
			gateway, err = rgw.Start(ctx, rgw.Options{Dir: dir, Certificate: certificate, Key: key, Client: visitor})
		}
	}
	if err != nil {
		world.Close()
	}
	return err
}

// client trusts one authority, and sends nothing by itself that tells who it is.
func client(caFile string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("the CA file holds no certificate")
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		IdleConnTimeout: 10 * time.Second, // long before the gateway closes a connection, which a PUT could just be using
	}}, nil
}
