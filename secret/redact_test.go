package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/converge-agent/converge/secret"
)

// TestLaw6RedactsWhatOthersSay: whatever form somebody else writes a secret in, no 8 bytes of it are left.
func TestLaw6RedactsWhatOthersSay(t *testing.T) {
	const text = "wX9k\"4v/L'm+Q7=p2\nRzt&YbnH<5d"
	inJSON, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(before int) string {
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", before) + text + "zz"))
	}
	for name, said := range map[string]string{
		"text": text, "the beginning": text[:12], "the end": text[len(text)-9:], "lines apart": "> " + strings.ReplaceAll(text, "\n", "\n> "),
		"hex": fmt.Sprintf("%x", text), "HEX": fmt.Sprintf("%X", text), "spaced hex": fmt.Sprintf("% x", text),
		"base64": encode(0), "base64, shifted": encode(1), "base64, shifted twice": encode(2), "query": url.QueryEscape(text),
		"path": url.PathEscape(text), "Go": strconv.Quote(text), "JSON": string(inJSON), "shell": strings.ReplaceAll(text, `'`, `'\''`),
		"base64 for URLs": base64.URLEncoding.EncodeToString([]byte(text)), "twice": text + " and " + text,
	} {
		got := secret.Redact("before "+said+" behind", secret.New(text), secret.String{}, secret.New("another secret"))
		rest := strings.ReplaceAll(got, secret.Redacted, "")
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " behind") || len(rest) > len("before  behind")+12 {
			t.Errorf("%s: got %q", name, got)
		}
		for i := 0; i+8 <= len(said); i++ {
			if strings.Contains(got, said[i:i+8]) {
				t.Errorf("%s: %q is left in %q", name, said[i:i+8], got)
				break
			}
		}
	}
}

// TestRedactLeavesTheRest: what is no secret stays as it was, and of two secrets one within the other leaves nothing.
func TestRedactLeavesTheRest(t *testing.T) {
	const said = "the server says: 7 bytes in common are chance"
	for name, tc := range map[string]struct {
		said, want string
		secrets    []string
	}{
		"no secret":        {said, said, nil},
		"an empty one":     {said, said, []string{""}},
		"another":          {said, said, []string{"hunter2hunter2"}},
		"a short one":      {"PIN 4711!", "PIN (sensitive)!", []string{"4711"}},
		"one in the other": {"key abcdefghijkl.", "key (sensitive).", []string{"abcdefgh", "abcdefghijkl"}},
		"7 of 14":          {"hunter2", "hunter2", []string{"hunter2hunter3"}},
	} {
		var secrets []secret.String
		for _, s := range tc.secrets {
			secrets = append(secrets, secret.New(s))
		}
		if got := secret.Redact(tc.said, secrets...); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestRedactedErrorsStayWhatTheyAre(t *testing.T) {
	err := secret.RedactError(fmt.Errorf("the key hunter2hunter2: %w", fs.ErrPermission), secret.New("hunter2hunter2"))
	if err.Error() != "the key (sensitive): permission denied" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if secret.RedactError(nil) != nil {
		t.Error("nil became an error")
	}
}
