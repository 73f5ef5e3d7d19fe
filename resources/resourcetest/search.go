package resourcetest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// searchChange looks for the planted secrets in all that a plan may show or keep of a change.
func (s *suite) searchChange(c resources.Change) {
	texts := []string{c.Summary, c.Digest, fmt.Sprintf("%+v %+v %+v", c.Effects, c.Attrs, c.Notes)}
	if c.Wait != nil {
		texts = append(texts, c.Wait.For)
	}
	if raw, err := json.Marshal(c.Remember); err == nil {
		texts = append(texts, string(raw))
	}
	for _, e := range c.Edits {
		if e.Shown() {
			texts = append(texts, contents(e.Before), contents(e.After))
		}
	}
	s.search(texts...)
}

func contents(f *host.File) string {
	if f == nil {
		return ""
	}
	return string(f.Content) + f.Target
}

func (s *suite) searchError(err error) { s.search(err.Error(), diag.Fix(err)) }

func (s *suite) search(texts ...string) {
	for _, text := range texts {
		for _, secret := range s.Secrets {
			if strings.Contains(text, secret) {
				s.fail("keeps secrets", "a planted secret is in what is shown: %s", strings.ReplaceAll(text, secret, "<the secret>"))
			}
		}
	}
}
