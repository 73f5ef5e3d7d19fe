package nginx_test

import (
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/nginx"
)

// rollout writes to a host whose nginx refuses what holds the word bad.
func rollout(m *hosttest.Memory) nginx.Rollout {
	return nginx.Rollout{
		Files: m, Users: hosttest.Users{}, What: "the site", Main: "/etc/nginx/nginx.conf", Undo: "/var/lib/converge/undo",
		Commands: &hosttest.Commands{Answer: func(host.Command) (host.Result, error) {
			for _, name := range []string{"/etc/nginx/a", "/etc/nginx/b"} {
				if f, err := m.Lookup(name); err != nil || f != nil && strings.Contains(string(f.Content), "bad") {
					return host.Result{Code: 1, Stderr: []byte("nginx: [emerg] bad in " + name)}, err
				}
			}
			return host.Result{}, nil
		}},
	}
}

func file(text string) *host.File { return &host.File{Content: []byte(text), Mode: 0o644} }

// TestRolloutAfterAKill: a run was killed between its writing and the verdict. The next one finds what it wrote, or what
// somebody has made of that, which stays.
func TestRolloutAfterAKill(t *testing.T) {
	for name, c := range map[string]struct {
		found string // in /etc/nginx/a, where the killed run wrote "bad"
		wants string // what the next run writes there; "" for nothing
		then  string
		fails string
	}{
		"as it was written":           {found: "bad", then: "good", fails: "bad in"},
		"written once more":           {found: "bad", wants: "bad too", then: "good", fails: "bad in"},
		"edited by somebody":          {found: "bad edit", then: "bad edit", fails: "was changed by somebody else"},
		"edited and written again":    {found: "an edit", wants: "bad", then: "an edit", fails: "bad in"},
		"mended by somebody":          {found: "mended", then: "mended"},
		"put back by somebody":        {found: "good", then: "good"},
		"now written rightly instead": {found: "bad", wants: "fine", then: "fine"},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory(map[string]string{"/etc/nginx/nginx.conf": "", "/etc/nginx/a": "good"}, nil)
			m.Put("/var/lib", host.File{Type: host.Directory, Mode: 0o755})
			killed := rollout(m)
			killed.Commands = &hosttest.Commands{Answer: func(host.Command) (host.Result, error) { panic("killed") }}
			func() {
				defer func() { _ = recover() }()
				_ = killed.Make(t.Context(), []host.Edit{{Path: "/etc/nginx/a", Before: file("good"), After: file("bad")}})
				t.Error("it was not killed")
			}()
			if left, err := nginx.Unjudged(m, killed.Undo); err != nil || !left {
				t.Fatal("the killed run left nothing", err)
			}
			m.Put("/etc/nginx/a", *file(c.found))
			var edits []host.Edit
			if c.wants != "" {
				edits = []host.Edit{{Path: "/etc/nginx/a", Before: file(c.found), After: file(c.wants)}}
			}
			err := rollout(m).Make(t.Context(), edits)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
			if f, err := m.Lookup("/etc/nginx/a"); err != nil || string(f.Content) != c.then {
				t.Errorf("got %q, want %q: %v", f.Content, c.then, err)
			}
			// What nobody could put back stays on record.
			if left, err := nginx.Unjudged(m, killed.Undo); err != nil || left != strings.Contains(c.fails, "somebody") {
				t.Errorf("left on record: %t, %v", left, err)
			}
		})
	}
}

// TestRolloutIsWhole: of two files of which nginx refuses one, neither stays, whatever was there before.
func TestRolloutIsWhole(t *testing.T) {
	m := memory(map[string]string{"/etc/nginx/nginx.conf": "", "/etc/nginx/b": "b"}, nil)
	m.Put("/var/lib", host.File{Type: host.Directory, Mode: 0o755})
	err := rollout(m).Make(t.Context(), []host.Edit{
		{Path: "/etc/nginx/a", After: file("new")}, {Path: "/etc/nginx/b", Before: file("b"), After: file("bad")},
	})
	if err == nil {
		t.Error("nginx refused nothing")
	}
	a, _ := m.Lookup("/etc/nginx/a")
	if b, err := m.Lookup("/etc/nginx/b"); a != nil || err != nil || string(b.Content) != "b" {
		t.Errorf("got %v and %v, %v", a, b, err)
	}
}
