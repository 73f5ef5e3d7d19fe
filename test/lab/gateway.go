package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// gatewayRegion is the region that requests to the gateway are signed for; clients never see it.
const gatewayRegion = "us-east-1"

// gateway is the S3 server behind the fronts: versitygw on a directory, reached by a Unix socket, so that it takes no port.
type gateway struct {
	iam    *accounts
	root   account
	client *http.Transport
	data   string // the directory of the buckets
	socket string
	done   chan struct{}
	err    error // why it ended; read after done

	mu     sync.Mutex
	stores []*S3
}

// startGateway starts the gateway and waits until it answers. It ends with ctx.
func startGateway(ctx context.Context, dir string) (*gateway, error) {
	data := filepath.Join(dir, "s3")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	sockets, err := os.MkdirTemp("", "lab") // a socket's path must be short, 108 bytes at most: unix(7)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		iam:    newAccounts(),
		root:   account{key: "root", secret: randomText(40)},
		data:   data,
		socket: filepath.Join(sockets, "gateway"),
		done:   make(chan struct{}),
	}
	g.client = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", g.socket)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
	storage, err := posix.New(data, meta.XattrMeta{}, posix.PosixOpts{NewDirPerm: 0o755, Concurrency: 100, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return nil, fmt.Errorf("the gateway needs a file system with user attributes: %w", err)
	}
	go func() {
		defer close(g.done)
		defer func() { _ = os.RemoveAll(sockets) }() // nothing but a dead socket is in it
		defer g.client.CloseIdleConnections()
		g.err = embedgw.RunVersityGW(ctx, storage, &embedgw.Config{
			RootUserAccess:    g.root.key,
			RootUserSecret:    g.root.secret,
			IAMService:        g.iam,
			Region:            gatewayRegion,
			Ports:             []string{g.socket},
			SocketPerm:        "0600",
			Quiet:             true,
			KeepAlive:         true,
			MaxConnections:    1000,
			MaxRequests:       1000,
			MultipartMaxParts: 10000,
		})
	}()
	return g, g.ready(ctx)
}

// taken reports whether a bucket is another store's of the same provider.
func (g *gateway) taken(bucket string, by *S3) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.stores, func(s *S3) bool {
		return s != by && s.Personality == by.Personality && s.has(bucket)
	})
}

// ready waits until the gateway takes connections.
func (g *gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "unix", g.socket); err == nil {
			return conn.Close()
		}
		select {
		case <-g.done:
			return fmt.Errorf("the S3 gateway ended at once: %w", g.err)
		case <-ctx.Done():
			return fmt.Errorf("the S3 gateway does not answer: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// wait returns when the gateway has ended.
func (g *gateway) wait() { <-g.done }
