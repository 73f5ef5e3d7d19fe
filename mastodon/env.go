package mastodon

import (
	"path"
	"slices"
	"strings"

	"github.com/converge-agent/converge/dotenv"
)

// EnvFile is the file with the settings of an instance in production, in its directory.
const EnvFile = ".env.production"

// EnvFiles are the files that Rails reads settings from in production: what is set in one is not taken from those after it.
// The environment of the process wins over all of them (Dotenv::Rails, dotenv 3.2.0). Streaming reads only EnvFile
// (Mastodon 4.6.5, streaming/index.js).
func EnvFiles() []string {
	return []string{".env.production.local", ".env.local", EnvFile, ".env"}
}

// Shadowing returns the names of the files that win over the one of this name in the same directory.
func Shadowing(name string) []string {
	all := EnvFiles()
	return all[:max(0, slices.Index(all, name))]
}

// Env are the settings of an instance.
type Env map[string]string

// Settings merges files, the one that wins first. A nil file is one that does not exist.
func Settings(files ...*dotenv.File) Env {
	env := Env{}
	for _, f := range files {
		if f == nil {
			continue
		}
		for key, value := range f.Values() {
			if _, set := env[key]; !set {
				env[key] = value
			}
		}
	}
	return env
}

// LocalDomain is the domain in the handles of the instance's users, "" when it is not set (config/initializers/1_hosts.rb).
func (e Env) LocalDomain() string { return e["LOCAL_DOMAIN"] }

// WebDomain is the host of the instance's pages: WEB_DOMAIN, else the local domain (config/initializers/1_hosts.rb).
func (e Env) WebDomain() string {
	if web, set := e["WEB_DOMAIN"]; set {
		return web
	}
	return e.LocalDomain()
}

// SystemPath is the directory in which the Mastodon in the directory root keeps media on the disk: PAPERCLIP_ROOT_PATH, in
// which Paperclip knows :rails_root, else public/system (config/initializers/paperclip.rb).
func (e Env) SystemPath(root string) string {
	dir, set := e["PAPERCLIP_ROOT_PATH"]
	if !set {
		return path.Join(root, "public/system")
	}
	dir = strings.ReplaceAll(dir, ":rails_root", root)
	if !path.IsAbs(dir) {
		dir = path.Join(root, dir)
	}
	return path.Clean(dir)
}

// StoresInS3 reports whether new media go to object storage: only the text "true" does it (config/initializers/paperclip.rb).
func (e Env) StoresInS3() bool { return e["S3_ENABLED"] == "true" }
