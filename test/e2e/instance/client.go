package instance

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/test/e2e/machines"
)

// The states of media.
const (
	StateLive    = "live"
	StateDeleted = "deleted"
)

// Media is a file that the instance knows. An attachment has several, its styles, with the same ID.
type Media struct {
	ID     string `json:"id"`
	Key    string `json:"key"` // its path below public/system, and in a bucket
	URL    string `json:"url"` // as the instance's pages have it at the moment
	SHA256 string `json:"sha256"`
	// State is "live", or "deleted" from the moment on in which the deletion was accepted.
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	// Times are zero before: DeletedAt is when the deletion was accepted, RemovedAt when the files were gone. All are by
	// the clock of the machine.
	DeletedAt time.Time `json:"deleted_at"`
	RemovedAt time.Time `json:"removed_at"`
}

// known is all that the instance knows.
type known struct {
	Unsettled int     `json:"unsettled"` // attachments with something left to do
	Media     []Media `json:"media"`
}

// Start is how a process of the instance was started.
type Start struct {
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Storage   string    `json:"storage"` // "filesystem", "s3", and "none" for streaming
	// Env are the settings of storage. In the place of a secret is "sha256:" and its digest.
	Env map[string]string `json:"env"`
}

// newClient returns a client for which the names are at one address of a driver's machines.
func newClient(d machines.Driver, ip string, names []string, config *tls.Config) *http.Client {
	return &http.Client{
		Timeout: 3 * time.Minute, // an upload that is told to slow down takes half a minute
		Transport: &http.Transport{
			TLSClientConfig:     config,
			MaxIdleConnsPerHost: 16,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				if !slices.Contains(names, host) {
					return nil, fmt.Errorf("dial %s: only %s are known", addr, strings.Join(names, " and "))
				}
				return d.DialContext(ctx, network, net.JoinHostPort(ip, port))
			},
		},
	}
}

// HTTPClient returns the client of a visitor: it finds the instance's two names, and no others, at the machine, and trusts
// the authorities of the options alone.
func (i *Instance) HTTPClient() *http.Client { return i.client }

// Post has the instance take a new picture, which its web process stores. It returns the original; its background jobs then
// store a second file, which is known from then on; they give up when its original cannot be read for two minutes, because it
// is in a storage that is not used any more. After an error the picture is not known, unless it was the answer that
// got lost.
func (i *Instance) Post(ctx context.Context) (Media, error) {
	var m Media
	return m, i.do(ctx, http.MethodPost, "/api/media", &m)
}

// Delete has the instance delete an attachment: its background jobs delete the files from the storage that they use then.
// Without an error that will happen, whatever comes between. To delete it again is no error.
func (i *Instance) Delete(ctx context.Context, id string) error {
	return i.do(ctx, http.MethodDelete, "/api/media/"+url.PathEscape(id), nil)
}

// Known returns all files that the instance knows, the oldest first, and the deleted ones too. Those that only the owner of
// an account may see, archives and imports, are not among them.
func (i *Instance) Known(ctx context.Context) ([]Media, error) {
	var k known
	return k.Media, i.do(ctx, http.MethodGet, "/api/known", &k)
}

// Settle waits until the background jobs have nothing left to do: they have stored the second files or given up, and those
// of deleted attachments are gone.
func (i *Instance) Settle(ctx context.Context) error {
	return eventually(ctx, func() error {
		var k known
		if err := i.do(ctx, http.MethodGet, "/api/known", &k); err != nil {
			return err
		}
		if k.Unsettled != 0 {
			return fmt.Errorf("background jobs are left for %d attachments", k.Unsettled)
		}
		return nil
	})
}

// Started returns how the current process of a unit, such as "mastodon-web", was started.
func (i *Instance) Started(ctx context.Context, unit string) (Start, error) {
	var s Start
	name := path.Join(Live, "tmp", unit+".loaded")
	text, err := i.machine.Get(ctx, name)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("read %s of machine %s: %w", name, i.machine.Name(), err)
	}
	return s, nil
}

// do makes a request to the instance, and decodes its answer into what answer points to, if anything.
func (i *Instance) do(ctx context.Context, method, path string, answer any) error {
	if err := i.request(ctx, method, "https://"+i.domain+path, answer); err != nil {
		return fmt.Errorf("%s %s of the instance: %w", method, path, err)
	}
	return nil
}

func (i *Instance) request(ctx context.Context, method, url string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.300s", resp.Status, body)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}
