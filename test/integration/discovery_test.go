package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/secret"
	"github.com/converge-agent/converge/test/lab"
)

// TestEndpointThatTheProviderTells asks iDrive's service as an object_store without an endpoint does, and keeps the answer in a state
// directory: the next run knows it though the service is gone.
func TestEndpointThatTheProviderTells(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.S3(t.Context(), lab.IDrive)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	records, err := plans.OpenRecords(dir, host.System(), host.SystemUsers())
	if err != nil {
		t.Fatal(err)
	}
	table, _ := objectstore.Lookup("idrive-e2")
	p := *table
	p.Discovery = s.Discovery
	var notes []string
	find := func(id string) (string, error) {
		e := objectstore.Endpoints{Kept: records} // of a run of its own
		found, note, err := e.Find(t.Context(), &p, l.CAFile, secret.New(id), time.Now())
		notes = append(notes, note)
		return found, err
	}
	if got, err := find(s.AgentKey); err != nil || got != s.Endpoint {
		t.Fatalf("found %q, %v; want %q", got, err, s.Endpoint)
	}
	if _, err := find("nobody"); err == nil || !strings.Contains(err.Error(), "does not know this access key") {
		t.Errorf("a key of nobody: %v", err)
	}
	l.Close()
	if got, err := find(s.AgentKey); err != nil || got != s.Endpoint {
		t.Errorf("without the service: %q, %v", got, err)
	}
	if notes[0] != "" || !strings.Contains(notes[2], "the last answer is used, "+s.Endpoint) {
		t.Errorf("noted was %q", notes)
	}
	text, err := records.Load("endpoints.json")
	if err != nil || strings.Contains(string(text), s.AgentKey) || !strings.Contains(string(text), s.Endpoint) {
		t.Errorf("kept is %v\n%s", err, text)
	}
}
