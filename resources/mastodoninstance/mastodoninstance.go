// Package mastodoninstance is the kind mastodon_instance: what a configuration needs to know of a Mastodon that is installed
// on this host, read before planning.
package mastodoninstance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/dotenv"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/mastodon"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind mastodon_instance.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "mastodon_instance",
		Doc: "A Mastodon that is installed on this host, not in a container: its version, domains, files and units, for use in " +
			"other blocks. It changes nothing.",
		Attrs: []resources.Attr{
			{Name: "path", Type: cty.String, Format: resources.Path, Required: true,
				Doc: "The directory of Mastodon's code, such as \"/home/mastodon/live\"."},
		},
		Exports: []resources.Attr{
			{Name: "version", Type: cty.String, Doc: "The version, or the one that a fork is based on: \"4.6.5\"."},
			{Name: "env_path", Type: cty.String, Doc: "The file with its settings, .env.production."},
			{Name: "local_domain", Type: cty.String, Doc: "The domain in its users' handles."},
			{Name: "web_domain", Type: cty.String, Doc: "The host of its pages."},
			{Name: "system_path", Type: cty.String, Doc: "The directory of media on the disk, usually public/system."},
			{Name: "units", Type: cty.List(cty.String),
				Doc: "Its systemd services, without .service: web, Sidekiq and streaming. Those of another Mastodon on this host are left out."},
			{Name: "media_units", Type: cty.List(cty.String),
				Doc: "Those of units that store media, web and Sidekiq: a change of storage settings needs them restarted, and them only."},
			{Name: "user", Type: cty.String, Doc: "The user that the directory belongs to: a name, or the number where it has none."},
		},
		Facts: facts,
	}
}

type config struct {
	Path string `attr:"path"`
}

func facts(_ context.Context, env resources.ReadEnv, written cty.Value) (cty.Value, error) {
	var c config
	if err := resources.Decode(written, &c); err != nil {
		return cty.NilVal, err
	}
	found, err := instance(env.Files, c.Path)
	return found, diag.Wrap(err, "read the Mastodon in "+c.Path, "")
}

func instance(files host.View, root string) (cty.Value, error) {
	version, err := versionOf(files, root)
	if err != nil {
		return cty.NilVal, err
	}
	settings, err := settingsOf(files, root)
	if err != nil {
		return cty.NilVal, err
	}
	user, err := ownerOf(files, root)
	if err != nil {
		return cty.NilVal, err
	}
	units, err := unitsOf(files, root)
	if err != nil {
		return cty.NilVal, err
	}
	var all, media []cty.Value
	for _, name := range units {
		all = append(all, cty.StringVal(name))
		if mastodon.StoresMedia(name + ".service") {
			media = append(media, cty.StringVal(name))
		}
	}
	return cty.ObjectVal(map[string]cty.Value{
		"version":      cty.StringVal(version.String()),
		"env_path":     cty.StringVal(path.Join(root, mastodon.EnvFile)),
		"local_domain": cty.StringVal(settings.LocalDomain()),
		"web_domain":   cty.StringVal(settings.WebDomain()),
		"system_path":  cty.StringVal(settings.SystemPath(root)),
		"units":        listOf(all),
		"media_units":  listOf(media),
		"user":         cty.StringVal(user),
	}), nil
}

func listOf(values []cty.Value) cty.Value {
	if len(values) == 0 {
		return cty.ListValEmpty(cty.String)
	}
	return cty.ListVal(values)
}

// fixPath is what to do where the path is no Mastodon.
const fixPath = "Write the directory of Mastodon's code, such as /home/mastodon/live. A Mastodon in a container cannot be read."

func versionOf(files host.View, root string) (mastodon.Version, error) {
	dir, err := files.Lookup(root)
	if err != nil {
		return mastodon.Version{}, err
	}
	if dir == nil {
		return mastodon.Version{}, diag.New("", "nothing stands there", fixPath)
	}
	f, err := regular(files, path.Join(root, mastodon.VersionFile))
	if err != nil {
		return mastodon.Version{}, err
	}
	if f == nil {
		return mastodon.Version{}, diag.New("", "it is no Mastodon: there is no "+mastodon.VersionFile+" in it", fixPath)
	}
	v, err := mastodon.ParseVersion(f.Content)
	return v, diag.Wrap(err, "read the version in "+mastodon.VersionFile, "If it is a fork that names its version in another way, please report it.")
}

func settingsOf(files host.View, root string) (mastodon.Env, error) {
	var parsed []*dotenv.File
	for _, name := range mastodon.EnvFiles() {
		f, err := regular(files, path.Join(root, name))
		switch {
		case err != nil:
			return nil, err
		case f != nil:
			parsed = append(parsed, dotenv.Parse(f.Content))
		case name == mastodon.EnvFile:
			return nil, diag.New("", "there is no "+mastodon.EnvFile+" in it",
				"Set Mastodon up first: RAILS_ENV=production bin/rails mastodon:setup makes the file.")
		}
	}
	settings := mastodon.Settings(parsed...)
	if settings.WebDomain() == "" {
		return nil, diag.New("", "LOCAL_DOMAIN is not set in its "+mastodon.EnvFile, "Set it to the domain of the instance's users.")
	}
	return settings, nil
}

// regular returns the file at path, nil where nothing stands. One link is followed: deployment tools keep settings and unit
// files elsewhere.
func regular(files host.View, name string) (*host.File, error) {
	f, err := files.Lookup(name)
	if err == nil && f != nil && f.Type == host.Symlink {
		target := f.Target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		f, err = files.Lookup(path.Clean(target))
	}
	if err != nil || f == nil {
		return nil, err
	}
	if f.Type != host.Regular {
		return nil, diag.New("read "+name, "it is a "+f.Type.String(), "Look at what put it there.")
	}
	return f, nil
}

// ownerOf returns the name of the user that root belongs to, by /etc/passwd, or the number.
func ownerOf(files host.View, root string) (string, error) {
	dir, err := files.Lookup(root)
	if err != nil || dir == nil {
		return "", err
	}
	uid := strconv.Itoa(dir.UID)
	passwd, err := files.Lookup("/etc/passwd")
	if err != nil || passwd == nil {
		return uid, err
	}
	for line := range bytes.Lines(passwd.Content) {
		if fields := strings.Split(string(line), ":"); len(fields) > 2 && fields[2] == uid {
			return fields[0], nil
		}
	}
	return uid, nil
}

// ignoreMissing drops the error of a directory that does not exist.
func ignoreMissing(names []string, err error) ([]string, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for its units: %w", err)
	}
	return names, nil
}
