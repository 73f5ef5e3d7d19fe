package objectstore

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
)

const discoveredKey = "e2KeyIdOfSomebody0001"

// told is a provider that tells endpoints, over TLS.
type told struct {
	*testing.T
	*Endpoints
	provider *Provider
	ca       string
	server   *httptest.Server
	kept     map[string][]byte
	saved    int
	note     string // of the last question

	mu     sync.Mutex
	asked  int
	answer func(w http.ResponseWriter, n int) // to the nth question
}

func (d *told) Load(name string) ([]byte, error) { return d.kept[name], nil }

func (d *told) Save(name string, content []byte) error {
	d.saved++
	d.kept[name] = content
	return nil
}

func newTold(t *testing.T) *told {
	d := &told{T: t, kept: map[string][]byte{}}
	d.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked++
		var q map[string]string
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || q["access_key"] != discoveredKey || len(q) != 1 {
			t.Errorf("asked was %s %v, %v", r.Method, q, err)
		}
		d.answer(w, d.asked)
	}))
	t.Cleanup(d.server.Close)
	d.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.server.Certificate().Raw})
	if err := os.WriteFile(d.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d.provider = &Provider{Name: "idrive-e2", Title: "iDrive e2", Discovery: d.server.URL + "/api"}
	d.Endpoints = &Endpoints{Kept: d, pause: time.Millisecond}
	d.says("m2s0.tx11.idrivee2-3.com")
	return d
}

func (d *told) says(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = func(w http.ResponseWriter, _ int) {
		_ = json.NewEncoder(w).Encode(map[string]any{"resp_code": 0, "resp_msg": "success", "domain_name": host})
	}
}

func (d *told) find(at time.Time) (string, error) {
	d.Helper()
	found, note, err := d.Find(d.Context(), d.provider, d.ca, secret.New(discoveredKey), at)
	d.note = note
	return found, err
}

func (d *told) want(at time.Time, endpoint string) {
	d.Helper()
	if got, err := d.find(at); got != endpoint || err != nil {
		d.Errorf("found %q, %v; want %q", got, err, endpoint)
	}
}

func TestEndpointsAreAskedForAndKept(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	d := newTold(t)
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	const first, second = "https://m2s0.tx11.idrivee2-3.com", "https://q0y5.fra.idrivee2-8.com"
	d.want(start, first)
	if d.saved != 1 || !bytes.Contains(d.kept[endpointsFile], []byte(`"at": "2026-11-21T12:00:00Z"`)) || bytes.Contains(d.kept[endpointsFile], []byte(discoveredKey)) {
		t.Errorf("kept is\n%s", d.kept[endpointsFile])
	}
	d.want(start.Add(23*time.Hour), first)
	if d.saved != 1 || d.asked != 2 {
		t.Errorf("the same answer on the same day: saved %d times, asked %d", d.saved, d.asked)
	}
	d.want(start.Add(10000*time.Hour), first)
	if d.saved != 1 || d.note != "" {
		t.Errorf("the same answer a year later: saved %d times, note %q", d.saved, d.note)
	}
	d.says("q0y5.fra.idrivee2-8.com")
	d.want(start.Add(26*time.Hour), second)
	d.server.Close()
	d.want(start.Add(10000*time.Hour), second)
	if d.saved != 2 || !strings.Contains(d.note, second+", first given on 2026-11-22: ") || strings.Contains(d.note, discoveredKey) {
		t.Errorf("without an answer: saved %d times, note %q", d.saved, d.note)
	}
	asked := d.asked
	if _, _, err := d.Find(t.Context(), d.provider, d.ca, secret.New("another"), start); err == nil || !strings.Contains(diag.Fix(err), "endpoint") {
		t.Errorf("a key of which nothing is known, and nobody to ask: %v", err)
	}
	if d.asked != asked {
		t.Error("the server was not down")
	}
}

func TestEndpointsWithWrongAnswers(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	said := func(text string) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, _ int) { _, _ = fmt.Fprint(w, text) }
	}
	host := func(name string) func(http.ResponseWriter, int) {
		text, _ := json.Marshal(map[string]any{"resp_code": 0, "domain_name": name})
		return said(string(text))
	}
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter, int)
		asked  int
		says   string
	}{
		"a URL":                   {host("https://evil.example.com"), 1, "no plain host name"},
		"a path":                  {host("s3.example.com/bucket"), 1, "no plain host name"},
		"a user":                  {host("user@s3.example.com"), 1, "no plain host name"},
		"a line break":            {host("s3.example.com\nX: y"), 1, "no plain host name"},
		"one label":               {host("localhost"), 1, "no plain host name"},
		"nothing":                 {host(""), 1, "no plain host name"},
		"a key that it repeats":   {host(discoveredKey + "!"), 1, "(sensitive)!"},
		"a key that is not known": {said(`{"resp_code":-3,"resp_msg":"Invalid Access Key ` + discoveredKey + `"}`), 1, `"Invalid Access Key (sensitive)" (-3)`},
		"no JSON":                 {said("<html>"), discoveryTries, "no JSON"},
		"without end":             {said(strings.Repeat(" ", 2*maxAnswer)), discoveryTries, "no JSON"},
		"a fault":                 {func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusServiceUnavailable) }, discoveryTries, "status 503"},
		"a redirect": {func(w http.ResponseWriter, _ int) {
			w.Header().Set("Location", "https://127.0.0.1:1/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, discoveryTries, "status 307"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTold(t)
			d.answer = tt.answer
			_, err := d.find(start)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), discoveredKey) || d.asked != tt.asked || d.saved != 0 {
				t.Errorf("asked %d times, saved %d; error %v; want one that says %q", d.asked, d.saved, err, tt.says)
			}
			d.says("known.example.com")
			d.want(start, "https://known.example.com")
			d.answer = tt.answer
			before := d.asked
			d.want(start, "https://known.example.com")
			if d.asked != before+1 {
				t.Errorf("with a known answer it was asked %d times", d.asked-before)
			}
		})
	}
}

func TestEndpointsAfterAFault(t *testing.T) {
	d := newTold(t)
	says := d.answer
	d.answer = func(w http.ResponseWriter, n int) {
		if n < discoveryTries {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		says(w, n)
	}
	d.want(time.Now(), "https://m2s0.tx11.idrivee2-3.com")
}

func TestEndpointsWithWrongRecords(t *testing.T) {
	for name, text := range map[string]string{
		"torn":           `{"format":1,"endp`,
		"another format": `{"format":2,"endpoints":[]}`,
		"null":           "null",
		"no host":        `{"format":1,"endpoints":{"%s":{"address":"http://evil/","at":"2026-11-21T12:00:00Z"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := newTold(t)
			d.want(time.Now(), "https://m2s0.tx11.idrivee2-3.com")
			var all kept
			if err := json.Unmarshal(d.kept[endpointsFile], &all); err != nil {
				t.Fatal(err)
			}
			for key := range all.Endpoints {
				text = strings.ReplaceAll(text, "%s", key)
			}
			d.kept[endpointsFile] = []byte(text)
			d.want(time.Now(), "https://m2s0.tx11.idrivee2-3.com")
			d.kept[endpointsFile] = []byte(text)
			d.server.Close()
			if got, err := d.find(time.Now()); err == nil {
				t.Errorf("found %q in what is none", got)
			}
		})
	}
}

func TestEndpointsOfAMissingKey(t *testing.T) {
	d := newTold(t)
	missing := &secret.Missing{Name: `credential("e2.id")`, Err: errors.New("nowhere"), Fix: "Write it."}
	if _, _, err := d.Find(t.Context(), d.provider, d.ca, secret.Absent(missing), time.Now()); !errors.Is(err, missing) || d.asked != 0 {
		t.Errorf("asked %d times: %v", d.asked, err)
	}
}
