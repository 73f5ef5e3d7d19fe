// Command services is the host of services of the end-to-end suite, see package services.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/converge-agent/converge/test/e2e/services"
)

func main() {
	c := services.Config{Resolve: map[string]string{}}
	flag.StringVar(&c.IP, "ip", "", "the address to listen on")
	flag.StringVar(&c.Dir, "dir", "/var/lib/converge-services", "where everything is kept")
	flag.StringVar(&c.Provider, "provider", "", "the provider of the store: backblaze-b2 or minio")
	flag.DurationVar(&c.CertificateLifetime, "certificate-lifetime", 0, "of what the authority issues; 0 is 90 days")
	flag.Func("resolve", "a name and its address, NAME=IP; may be given often", func(s string) error {
		name, ip, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=IP", s)
		}
		c.Resolve[name] = ip
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := services.Serve(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
