package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/secret"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// errNotRead is why a secret is missing where none is read.
var errNotRead = errors.New("secrets are not read by a check of the configuration alone")

// secretSource makes the functions that read secrets. Files are read through the host's View, which opens nothing but
// regular files and follows no link on the way that somebody untrusted could have made.
type secretSource struct {
	loader *Loader
	dir    string
	view   host.View // nil reads nothing
	ask    func()    // called with each call of one of the functions
	warned map[string]bool
	diags  hcl.Diagnostics // warnings
}

// functions returns the functions by name.
func (s *secretSource) functions() map[string]function.Function {
	return map[string]function.Function{
		"env":         s.function("env", "name", cty.String, s.env),
		"credential":  s.function("credential", "name", cty.String, s.credential),
		"secret_file": s.function("secret_file", "path", cty.String, s.file),
		"dotenv":      s.function("dotenv", "path", cty.DynamicPseudoType, s.dotenv),
	}
}

// function makes a function of one name or path. A secret that read does not find is no error: it is unknown and marked.
func (s *secretSource) function(name, param string, t cty.Type, read func(string) (cty.Value, *secret.Missing)) function.Function {
	return guarded(function.New(&function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String, AllowMarked: true}},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			bare, err := unlessSecret(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			arg := bare.AsString()
			asked := fmt.Sprintf("%s(%q)", name, arg)
			if arg == "" || strings.ContainsRune(arg, 0) || name == "credential" && !isFileName(arg) {
				return cty.NilVal, function.NewArgErrorf(0, "%q is not a %s", arg, param)
			}
			s.ask()
			if s.view == nil {
				return absent(&secret.Missing{Name: asked, Err: errNotRead}, t), nil
			}
			v, missing := read(arg)
			if missing != nil {
				missing.Name = asked
				return absent(missing, t), nil
			}
			return v, nil
		},
	}))
}

// isFileName reports whether name is that of a file in a directory, and leads nowhere else.
func isFileName(name string) bool { return !strings.Contains(name, "/") && name != "." && name != ".." }

func (s *secretSource) env(name string) (cty.Value, *secret.Missing) {
	text, ok := "", false
	if s.loader.Getenv != nil {
		text, ok = s.loader.Getenv(name)
	}
	if !ok || text == "" {
		return cty.NilVal, &secret.Missing{
			Err: fmt.Errorf("%s is not set in the environment, or empty", name),
			Fix: fmt.Sprintf("Set it before the run: export %s=…. Under sudo, cron and systemd that is gone; credential(%q) is not.", name, strings.ToLower(name)),
		}
	}
	return secret.New(text).Value(), nil
}

func (s *secretSource) credential(name string) (cty.Value, *secret.Missing) {
	var tried []string
	for _, dir := range s.loader.CredentialDirs {
		at := filepath.Join(dir, name)
		text, err := s.read(at)
		if err == nil {
			return secret.New(text).Value(), nil
		}
		if !errors.Is(err, errNotThere) {
			return cty.NilVal, &secret.Missing{Err: err, Fix: diag.Fix(err)}
		}
		tried = append(tried, at)
	}
	if len(tried) == 0 {
		return cty.NilVal, &secret.Missing{Err: errors.New("there is no directory of credentials"), Fix: "Set $CREDENTIALS_DIRECTORY."}
	}
	return cty.NilVal, &secret.Missing{Err: fmt.Errorf("there is no %s", strings.Join(tried, " and no ")), Fix: putThere(advised(tried))}
}

// advised is where a credential belongs of all places where it was looked for: in the administrator's directory, for the
// others are systemd's for one run, the boot's and the packages' (systemd.exec(5), LoadCredential=).
func advised(tried []string) string {
	for _, at := range tried {
		if strings.HasPrefix(at, "/etc/") {
			return at
		}
	}
	return tried[len(tried)-1]
}

// putThere is the command that makes a file of a secret from what is typed or pasted.
func putThere(path string) string {
	return fmt.Sprintf("Run this, paste the secret, then press Enter and Ctrl-D: install -D -m 0600 /dev/stdin %s", path)
}

func (s *secretSource) file(name string) (cty.Value, *secret.Missing) {
	path := s.absolute(name)
	text, err := s.read(path)
	if err != nil {
		return cty.NilVal, &secret.Missing{Err: err, Fix: orElse(diag.Fix(err), putThere(path))}
	}
	return secret.New(text).Value(), nil
}

// dotenv gives an object of the values of an env file, each a secret of its own.
func (s *secretSource) dotenv(name string) (cty.Value, *secret.Missing) {
	path := s.absolute(name)
	f, err := s.lookup(path)
	if err != nil {
		return cty.NilVal, &secret.Missing{Err: err, Fix: orElse(diag.Fix(err), "Check the path of the env file.")}
	}
	values := map[string]cty.Value{}
	for key, text := range s.loader.Dotenv(f.Content) {
		if utf8.ValidString(key) && utf8.ValidString(text) {
			values[key] = secret.New(text).Value()
		}
	}
	return cty.ObjectVal(values), nil
}

func (s *secretSource) absolute(name string) string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.dir, name)
	}
	if full, err := filepath.Abs(name); err == nil {
		return full
	}
	return filepath.Clean(name)
}

// read returns the text of a file that holds one secret, without line ends behind it. Being readable by everybody earns a
// warning: it is the file's owner who has to decide.
func (s *secretSource) read(path string) (string, error) {
	f, err := s.lookup(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(f.Content), "\r\n")
	switch {
	case !utf8.ValidString(text):
		return "", diag.New("read "+path, "it is not a text in UTF-8", putThere(path))
	case text == "":
		return "", diag.New("read "+path, "it is empty", putThere(path))
	}
	if f.Mode&0o004 != 0 && !s.warned[path] {
		s.warned[path] = true
		s.diags = append(s.diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: "Secret readable by everybody",
			Detail: fmt.Sprintf("Every user of this host can read %s. Take that away: chmod 0600 %s", path, path)})
	}
	return text, nil
}

var errNotThere = errors.New("it does not exist")

// maxLinks is how many symbolic links in a row are followed.
const maxLinks = 8

// lookup returns a regular file. A link at the end of the path is followed when it was made by root or by the owner of what
// it points to: nobody can make a link that has converge read for him what he could not.
func (s *secretSource) lookup(path string) (*host.File, error) {
	var makers []int
	at := path
	for len(makers) <= maxLinks {
		f, err := s.view.Lookup(at)
		switch {
		case err != nil:
			return nil, err
		case f == nil:
			return nil, diag.Wrap(errNotThere, "read "+at, "")
		case f.Type == host.Regular:
			return f, checkMakers(path, f.UID, makers)
		case f.Type != host.Symlink:
			return nil, diag.New("read "+at, "it is a "+f.Type.String(), "Name a file.")
		}
		makers = append(makers, f.UID)
		at = resolve(at, f.Target)
	}
	return nil, diag.New("read "+path, "too many links lead on from it", "Name the file itself.")
}

// resolve returns the path that the link at a path points to.
func resolve(link, target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(filepath.Dir(link), target)
}

func checkMakers(path string, owner int, makers []int) error {
	for _, maker := range makers {
		if maker != 0 && maker != owner {
			return diag.New("read "+path, fmt.Sprintf("a link made by user %d leads to it, a file of user %d", maker, owner),
				"Name the file itself.")
		}
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
