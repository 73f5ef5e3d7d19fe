package objectstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

// Endpoints finds endpoints that only the provider can tell, from an access key (Provider.Discovery), and remembers them: a
// provider that does not answer stops nobody who was told once.
type Endpoints struct {
	// Kept keeps what was told from run to run; nil keeps nothing. plans.Records is one.
	Kept Kept

	mu    sync.Mutex
	pause time.Duration // between two tries, in tests; 0 is discoveryPause
}

// Kept keeps small files from run to run.
type Kept interface {
	// Load returns what was saved under name; nil where nothing was.
	Load(name string) ([]byte, error)
	Save(name string, content []byte) error
}

// endpointsFile is where endpoints are kept.
const endpointsFile = "endpoints.json"

// kept is what stands in endpointsFile.
type kept struct {
	Format    int                 `json:"format"`    // 1
	Endpoints map[string]endpoint `json:"endpoints"` // by the provider's question and a digest of the access key id
}

// endpoint is what a provider told.
type endpoint struct {
	Address string    `json:"address"` // "https://m2s0.tx11.idrivee2-3.com"
	At      time.Time `json:"at"`      // when it was told so first
}

// discoveryTime bounds one question, its answer read, and maxAnswer that in bytes.
const (
	discoveryTime = 20 * time.Second
	maxAnswer     = 64 << 10
)

// discoveryTries is how often a provider is asked that has told nothing yet, with a pause of discoveryPause between.
const (
	discoveryTries = 3
	discoveryPause = time.Second
)

// Find asks the provider p for the endpoint of an access key, and trusts the authorities in caFile besides the system's. Where
// there is no answer, or none that can be, the last one holds, whatever its age, and note says so; else it is "". Errors are
// *diag.Error: a missing key, or a question that was never answered.
func (e *Endpoints) Find(ctx context.Context, p *Provider, caFile string, id secret.String, now time.Time) (found, note string, err error) {
	doing := fmt.Sprintf("ask %s for the endpoint of access_key_id", p.Title)
	if m := id.Missing(); m != nil {
		return "", "", diag.Wrap(m, doing, m.Fix)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	sum := sha256.Sum256([]byte(p.Discovery + "\x00" + id.Reveal()))
	name := hex.EncodeToString(sum[:])
	all := e.load()
	known := all.Endpoints[name]
	tries := 1
	if known.Address == "" {
		tries = discoveryTries
	}
	told, err := e.ask(ctx, p, caFile, id, tries)
	switch {
	case err != nil && (known.Address == "" || ctx.Err() != nil):
		return "", "", diag.Wrap(err, doing, "Write endpoint into the object_store: the provider's console shows it for each region.")
	case err != nil:
		return known.Address, fmt.Sprintf("%s was asked for the endpoint of access_key_id, and the last answer is used, %s, first given on %s: %s",
			p.Title, known.Address, known.At.Format(time.DateOnly), err), nil
	case told != known.Address: // the same answer is not written again
		all.Endpoints[name] = endpoint{Address: told, At: now.UTC().Truncate(time.Second)}
		e.save(all)
	}
	return told, "", nil
}

// load returns what is kept. What cannot be read counts as nothing: the provider is asked in any case.
func (e *Endpoints) load() kept {
	all := kept{Format: 1}
	if e.Kept != nil {
		if text, err := e.Kept.Load(endpointsFile); err == nil {
			if json.Unmarshal(text, &all) != nil || all.Format != 1 {
				all = kept{Format: 1}
			}
		}
	}
	if all.Endpoints == nil {
		all.Endpoints = map[string]endpoint{}
	}
	for name, known := range all.Endpoints {
		if !plainAddress.MatchString(known.Address) {
			delete(all.Endpoints, name)
		}
	}
	return all
}

// save keeps all. Who may not write there, as in a plan without rights, goes on without.
func (e *Endpoints) save(all kept) {
	if e.Kept == nil {
		return
	}
	if text, err := json.MarshalIndent(all, "", "  "); err == nil {
		_ = e.Kept.Save(endpointsFile, append(text, '\n'))
	}
}

// A plain host name, with or without a port: what an endpoint is made of.
var (
	plainHost    = regexp.MustCompile(`^` + hostForm + `$`)
	plainAddress = regexp.MustCompile(`^https://` + hostForm + `$`)
)

const hostForm = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+(:[0-9]{1,5})?`

// ask asks that often at most.
func (e *Endpoints) ask(ctx context.Context, p *Provider, caFile string, id secret.String, tries int) (string, error) {
	transport, err := newTransport(caFile, discoveryTime)
	if err != nil {
		return "", diag.Wrap(err, "", "Name a readable PEM file of certificates in ca_file, or leave it out.")
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for try := 1; ; try++ {
		host, err := askForHost(ctx, client, p.Discovery, id)
		if err == nil {
			return "https://" + host, nil
		}
		var said *refusal
		if try == tries || errors.As(err, &said) || lasting(err) {
			return "", err
		}
		if err := sleep(ctx, cmp.Or(e.pause, discoveryPause)); err != nil {
			return "", err
		}
	}
}

// refusal is an answer that asking again does not change.
type refusal struct{ what string }

func (r *refusal) Error() string { return r.what }

// askForHost asks once (iDrive e2 docs, "Get Region Endpoint"): 200 whatever happened, and resp_code tells.
func askForHost(ctx context.Context, client *http.Client, address string, id secret.String) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTime)
	defer cancel()
	body, err := json.Marshal(map[string]string{"access_key": id.Reveal()})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "converge")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the answer of %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered with status %d", address, resp.StatusCode)
	}
	return hostIn(text, id)
}

// hostIn reads an answer.
func hostIn(text []byte, id secret.String) (string, error) {
	var answer struct {
		Code    int    `json:"resp_code"`
		Message string `json:"resp_msg"`
		Domain  string `json:"domain_name"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", errors.New("the answer is not that of the service: it is no JSON")
	}
	if answer.Code != 0 {
		return "", &refusal{fmt.Sprintf("it does not know this access key: it says %q (%d)", quiet(answer.Message, id), answer.Code)}
	}
	host := strings.ToLower(answer.Domain)
	if !plainHost.MatchString(host) {
		return "", &refusal{fmt.Sprintf("it told %q, which is no plain host name", quiet(answer.Domain, id))}
	}
	return host, nil
}

// quiet is what a service said, without the key that it was told and not longer than a line.
func quiet(said string, id secret.String) string {
	said = strings.ReplaceAll(said, id.Reveal(), "(sensitive)")
	return strings.ToValidUTF8(said[:min(len(said), 200)], "")
}
