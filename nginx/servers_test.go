package nginx_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/nginx"
	"github.com/google/go-cmp/cmp"
)

const included = "/etc/nginx/converge/mastodon-system.conf"

// include adds the lines to every server block that serves name, "" meaning every one.
func include(t *testing.T, text, name string) string {
	t.Helper()
	servers, err := nginx.Servers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	servers = slices.DeleteFunc(servers, func(s nginx.Server) bool { return name != "" && !s.Serves(name) })
	out, err := nginx.Include([]byte(text), servers, included)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestInclude(t *testing.T) {
	const line = "include " + included + "; # converge\n"
	for name, c := range map[string]struct{ text, server, want string }{
		"two blocks": {
			text: "upstream a { server 127.0.0.1:1; }\nserver {\n  listen 80; # server {\n}\n\nserver\n{\n\tlisten 443;\n}\n",
			want: "upstream a { server 127.0.0.1:1; }\nserver {\n  " + line + "  listen 80; # server {\n}\n\nserver\n{\n\t" + line + "\tlisten 443;\n}\n",
		},
		"a comment behind the brace":   {text: "server { # main\n  root /x;\n}", want: "server { # main\n  " + line + "  root /x;\n}"},
		"all on one line":              {text: "server { listen 80; }", want: "server { include " + included + "; listen 80; }"},
		"begun on the line":            {text: "server {listen 80;\n}\n", want: "server { include " + included + ";listen 80;\n}\n"},
		"empty":                        {text: "http {\n  server {\n  }\n}\n", want: "http {\n  server {\n      " + line + "  }\n}\n"},
		"an empty line first":          {text: "server {\n\n  root /x;\n}\n", want: "server {\n  " + line + "\n  root /x;\n}\n"},
		"lines of another system":      {text: "server {\r\n  root /x;\r\n}\r\n", want: "server {\r\n  " + line + "  root /x;\r\n}\r\n"},
		"of that name":                 {server: "a.b", text: "server {\n server_name x.b;\n}\nserver {\n server_name C.b A.b;\n}\n", want: "server {\n server_name x.b;\n}\nserver {\n " + line + " server_name C.b A.b;\n}\n"},
		"servers of another kind":      {text: "stream { server {\n listen 1;\n} }\nmail {\n server {\n }\n}\n", want: "stream { server {\n listen 1;\n} }\nmail {\n server {\n }\n}\n"},
		"a server in a word and quote": {text: "map $x $server {\n default 'server {';\n}\n", want: "map $x $server {\n default 'server {';\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := include(t, c.text, c.server)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if back := string(nginx.Exclude([]byte(got), included)); back != c.text {
				t.Errorf("taken out again: %q, want %q", back, c.text)
			}
		})
	}
}

func TestServes(t *testing.T) {
	servers, err := nginx.Servers([]byte(`server { server_name a.example *.b.example .c.example "d.example" ~^e; location / { } }`))
	if err != nil || len(servers) != 1 {
		t.Fatal(servers, err)
	}
	for name, want := range map[string]bool{
		"a.example": true, "x.b.example": true, "b.example": false, "c.example": true, "x.y.c.example": true, "d.example": true,
		"xc.example": false, "e": false, "x.a.example": false,
	} {
		if got := servers[0].Serves(name); got != want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

// TestExclude: lines that somebody has moved or joined go too, and what merely speaks of the file stays.
func TestExclude(t *testing.T) {
	for text, want := range map[string]string{
		"server {\n  root /x;\n  include " + included + ";\n}":              "server {\n  root /x;\n}",
		"server {\n  include  \"" + included + "\" ;  # converge\n}":        "server {\n}",
		"server {\n  include " + included + "; root /x;\n}":                 "server {\n  root /x;\n}",
		"server {\n  include " + included + "; # mine\n}":                   "server {\n  # mine\n}",
		"server {\n  # include " + included + ";\n  include other.conf;\n}": "server {\n  # include " + included + ";\n  include other.conf;\n}",
		"server { include " + included + "; include " + included + "; }":    "server { }",
	} {
		got := string(nginx.Exclude([]byte(text), included))
		if strings.ReplaceAll(got, "   ", "  ") != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestServersOfWhatIsNoConfiguration(t *testing.T) {
	for _, text := range []string{"server {", "}", "server { location / { }"} {
		if _, err := nginx.Servers([]byte(text)); err == nil {
			t.Errorf("%q: want an error", text)
		}
	}
}

// FuzzInclude: what is added can be taken out again, byte for byte, and nothing is added twice.
func FuzzInclude(f *testing.F) {
	for _, s := range []string{"server {\n a;\n}", "server { a; }", "server {#\n}", "http { server\n{\n}\nserver{} }", "server {\r\n\t}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bare := nginx.Exclude([]byte(text), included)
		servers, err := nginx.Servers(bare)
		if err != nil {
			return
		}
		once, err := nginx.Include(bare, servers, included)
		if err != nil {
			t.Fatal(err)
		}
		if back := nginx.Exclude(once, included); string(back) != string(bare) {
			t.Errorf("%q became %q and then %q", bare, once, back)
		}
		if again, err := nginx.Servers(once); err != nil || len(again) != len(servers) {
			t.Errorf("%q has %d servers, %q has %d: %v", bare, len(servers), once, len(again), err)
		}
	})
}
