package secrets

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// body is the least that a block of a kind needs besides its secrets, which are added from the registry: every attribute that
// may hold one gets one. A value stands for a name of the world's: ${N} for the number of the round, and so on.
type body struct {
	// attrs are the attributes by the block that they stand in, "" for the kind's own.
	attrs map[string]string
	// failing takes the place of attrs in a configuration whose resources are to fail while they have their secrets at hand.
	// A kind that may hold secrets must have it.
	failing map[string]string
	// exports says that the kind only exports: those fail that use it.
	exports bool
	// slow says that failing takes seconds, so that it is tried once for each command and not with each of its flags.
	slow bool
	// merged is an expression that is merged into the attribute of this name, a map.
	merged map[string]string
	// more is what else the configuration needs to put the kind's exports to use.
	more string
}

// top is a body with attributes of its own only.
func top(attrs string) map[string]string { return map[string]string{"": attrs} }

// bodies has every kind of the registry.
var bodies = map[string]body{
	"mastodon_instance": {attrs: top(`path = "/home/mastodon/live"`)},
	"object_store": {
		attrs:   top("provider = \"minio\"\nendpoint = \"${STORE}\"\nca_file = \"/lab/lab/ca.pem\""),
		failing: top("provider = \"minio\"\nendpoint = \"${STORE}\"\nca_file = \"/lab/lab/ca.pem\""), // it is the store that refuses
		exports: true,
	},
	"s3_bucket": {
		attrs:   top("store = object_store.it\nname = \"media\"\naccess = \"public-objects\""),
		failing: top("store = object_store.it\nname = \"media\"\naccess = \"public-objects\""),
		more:    "env_file \"app\" {\n  path = \"/etc/app/app.env\"\n  set  = s3_bucket.it.mastodon_env\n}\n",
	},
	"s3_sync": {
		attrs:   top("bucket = s3_bucket.it\nsource = mastodon_instance.it.system_path"),
		failing: top("bucket = s3_bucket.it\nsource = mastodon_instance.it.system_path"),
	},
	"acme_certificate": {
		attrs: map[string]string{
			"": "domains = [\"files.example.com\"]\ndirectory_url = \"${ACME}\"\nca_file = \"/lab/lab/ca.pem\"", "eab": `key_id = "lab"`,
		},
		failing: map[string]string{
			"":    "domains = [\"other.example.com\"]\ndirectory_url = \"${REFUSING_ACME}\"\nca_file = \"/lab/target.pem\"",
			"eab": `key_id = "lab"`,
		},
	},
	"nginx_site": {
		attrs: top("server_name = \"files.example.com\"\ncertificate = acme_certificate.it\nmedia_proxy {\n  bucket = s3_bucket.it\n" +
			"  inactive = \"${N}h\"\n  cache_size = \"2MB\"\n}"),
		failing: top("server_name = \"own.example.com\"\ncontent = \"return 404; # ${N}\""),
	},
	"nginx_location": {
		attrs: top("site = \"/etc/nginx/sites-available/mastodon\"\nmatch = \"/system/\"\nredirect = \"https://files.example.com/${N}\""),
	},
	"env_file": {
		attrs:   top(`path = mastodon_instance.it.env_path`),
		failing: top(`path = "/full/.env"`),
		merged:  map[string]string{"set": `{ S3_ENABLED = "${N}" }`},
	},
	"systemd_service": {
		attrs:   top("name = \"mastodon-web\"\nrestart_on = [symlink.it]"),
		failing: top(`name = "mastodon-broken"`),
	},
	"file": {
		attrs:   top(`path = "/etc/app/secret.txt"`),
		failing: top(`path = "/full/secret.txt"`),
		more:    "file \"copy\" {\n  path   = \"/etc/app/copy.txt\"\n  source = \"/etc/app/source.txt\"\n}\n",
	},
	"directory": {attrs: top(`path = "/srv/it"`)},
	"symlink":   {attrs: top("path = \"/srv/link\"\ntarget = \"/srv/${RESTARTS}\"")},
	"command": {
		attrs:   top("run = [\"/bin/sh\", \"/lab/bin/good\", \"${N}\"]\nunless = [\"/usr/bin/test\", \"-e\", \"/run/done-${N}\"]"),
		failing: top("run = [\"/bin/sh\", \"/lab/bin/bad\"]\ncreates = \"/run/never\""),
	},
	"http_check": {
		attrs: top("url = \"${TARGET}\"\nca_file = \"/lab/target.pem\""),
		failing: map[string]string{
			"":       "url = \"${TARGET}\"\nca_file = \"/lab/target.pem\"",
			"expect": "header = { X-Echo = \"something else\" }\nbody = \"something else\"",
		},
		slow: true, // a check is made again for some seconds
	},
	"wait": {attrs: top(`until = "2026-01-01T00:00:00Z"`)},
}

// secretAttr is an attribute of the registry that may hold a secret of its own.
type secretAttr struct {
	kind string
	path []string
	attr resources.Attr
}

func (s secretAttr) String() string { return s.kind + "." + strings.Join(s.path, ".") }

// secretAttrs are those of a kind. References that pass secrets on have none of their own.
func secretAttrs(k *resources.Kind) []secretAttr {
	var out []secretAttr
	var walk func(attrs []resources.Attr, path []string)
	walk = func(attrs []resources.Attr, path []string) {
		for _, a := range attrs {
			at := append(slices.Clone(path), a.Name)
			switch {
			case a.Block != nil:
				walk(a.Block, at)
			case a.Secret && len(a.Ref) == 0:
				out = append(out, secretAttr{k.Name, at, a})
			}
		}
	}
	walk(k.Attrs, nil)
	return out
}

// complaints says what the tables lack for a registry.
func complaints(kinds []*resources.Kind) []string {
	var out []string
	known := map[string]bool{}
	for _, k := range kinds {
		known[k.Name] = true
		b, ok := bodies[k.Name]
		secrets := secretAttrs(k)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("the kind %s is not in bodies (kinds_test.go): add the least that a block of it needs", k.Name))
		case len(secrets) > 0 && b.failing == nil:
			out = append(out, fmt.Sprintf("%s may hold secrets and has no failing body (kinds_test.go): add one whose apply fails", k.Name))
		}
		for _, s := range secrets {
			if s.attr.Type != cty.String && !s.attr.Type.Equals(cty.Map(cty.String)) {
				out = append(out, fmt.Sprintf("%s is of type %s, which planted (kinds_test.go) cannot write", s, s.attr.Type.FriendlyName()))
			}
			if _, ok := places[s.String()]; !ok {
				out = append(out, fmt.Sprintf("%s is not in places (places_test.go): say which files are told to hold it, and why; none is fine", s))
			}
		}
	}
	for name := range bodies {
		if !known[name] {
			out = append(out, "bodies (kinds_test.go) has the kind "+name+", which there is not")
		}
	}
	slices.Sort(out)
	return out
}

// selection is which bodies a configuration is made of.
type selection int

const (
	succeeding selection = iota
	failingAll
	failingSoon // without the slow ones
)

// configuration writes a block of every kind, each attribute that may hold a secret given by value.
func configuration(kinds []*resources.Kind, which selection, value func(secretAttr) string) string {
	var out strings.Builder
	for _, k := range kinds {
		b := bodies[k.Name]
		attrs := b.attrs
		if which != succeeding && !needed[k.Name] {
			attrs = b.failing
		}
		if attrs == nil || b.slow && which == failingSoon {
			continue
		}
		fmt.Fprintf(&out, "%s \"it\" {\n", k.Name)
		writeBody(&out, k.Name, k.Attrs, nil, attrs, b.merged, value)
		out.WriteString("}\n")
		if which == succeeding {
			out.WriteString(b.more)
		}
	}
	return out.String()
}

// needed are the kinds that failing bodies of others refer to.
var needed = map[string]bool{"mastodon_instance": true}

func writeBody(out *strings.Builder, kind string, attrs []resources.Attr, path []string, texts, merged map[string]string, value func(secretAttr) string) {
	if text := texts[strings.Join(path, ".")]; text != "" {
		out.WriteString(text + "\n")
	}
	for _, a := range attrs {
		at := append(slices.Clone(path), a.Name)
		s := secretAttr{kind, at, a}
		switch {
		case a.Block != nil:
			if _, written := texts[strings.Join(at, ".")]; written || hasSecret(a.Block) {
				fmt.Fprintf(out, "%s {\n", a.Name)
				writeBody(out, kind, a.Block, at, texts, merged, value)
				out.WriteString("}\n")
			}
		case !a.Secret || len(a.Ref) > 0:
		case a.Type == cty.String:
			fmt.Fprintf(out, "%s = %s\n", a.Name, value(s))
		case merged[a.Name] != "":
			fmt.Fprintf(out, "%s = merge(%s, { %s = %s })\n", a.Name, merged[a.Name], planted, value(s))
		default:
			fmt.Fprintf(out, "%s = { %s = %s }\n", a.Name, planted, value(s))
		}
	}
}

// planted is the key of the secret in a map: the name of a variable or of a header.
const planted = "PLANTED"

func hasSecret(attrs []resources.Attr) bool {
	return slices.ContainsFunc(attrs, func(a resources.Attr) bool { return a.Secret && len(a.Ref) == 0 || hasSecret(a.Block) })
}

// filled puts the names of a world into a configuration.
func filled(text string, names map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		text = strings.ReplaceAll(text, "${"+name+"}", names[name])
	}
	return text
}
