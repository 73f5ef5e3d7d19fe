package lab

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// InstanceSpec says what a sample instance is like.
type InstanceSpec struct {
	// Files is how many media files it has; 2000 where it is 0, and never fewer than about 20.
	Files int
	// Seed decides names and contents: the same seed gives the same media. Secrets are always new.
	Seed uint64
	// UID and GID own all files; where both are 0 they stay whose they are.
	UID, GID int
	// Domain is LOCAL_DOMAIN; "social.test" where it is empty.
	Domain string
}

// Instance is a sample Mastodon, as far as an agent that moves its media looks at one: the version, the settings, the media
// in the layout of Paperclip. No program of it can run.
type Instance struct {
	Dir     string // "/home/mastodon/live"
	EnvPath string // its .env.production
	Media   string // its public/system
	Version string // "4.5.2"
	Domain  string

	keys []string
}

// NewInstance makes an instance in dir, which must not exist or be empty.
func NewInstance(dir string, spec InstanceSpec) (*Instance, error) {
	if spec.Files == 0 {
		spec.Files = 2000
	}
	if spec.Domain == "" {
		spec.Domain = "social.test"
	}
	i := &Instance{
		Dir:     dir,
		EnvPath: filepath.Join(dir, ".env.production"),
		Media:   filepath.Join(dir, "public", "system"),
		Version: "4.5.2",
		Domain:  spec.Domain,
	}
	files := map[string][]byte{
		"lib/mastodon/version.rb": []byte(versionFile),
		"config/puma.rb":          []byte("preload_app!\n"),
		"public/robots.txt":       []byte("User-agent: *\n"),
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return nil, fmt.Errorf("make a sample instance: %w", err)
		}
	}
	if err := writeFile(i.EnvPath, envFile(spec.Domain), 0o640); err != nil {
		return nil, fmt.Errorf("make a sample instance: %w", err)
	}
	if err := i.addMedia(rand.New(rand.NewPCG(spec.Seed, 1)), spec.Files); err != nil {
		return nil, fmt.Errorf("make the media of a sample instance: %w", err)
	}
	if spec.UID != 0 || spec.GID != 0 {
		if err := chownAll(dir, spec.UID, spec.GID); err != nil {
			return nil, fmt.Errorf("give a sample instance to its user: %w", err)
		}
	}
	return i, nil
}

// Keys returns the keys of all media files: their paths below Media, sorted by bytes.
func (i *Instance) Keys() []string { return slices.Clone(i.keys) }

// Private returns those keys that nobody may ever read without a key: archives and imports of users.
func (i *Instance) Private() []string {
	return slices.DeleteFunc(i.Keys(), func(k string) bool { return !private(k) })
}

// Public returns the other keys.
func (i *Instance) Public() []string { return slices.DeleteFunc(i.Keys(), private) }

func private(key string) bool {
	return strings.HasPrefix(key, "backups/") || strings.HasPrefix(key, "imports/")
}

// Path returns where the file of a key lies.
func (i *Instance) Path(key string) string { return filepath.Join(i.Media, filepath.FromSlash(key)) }

// Add writes one more media file, as an upload does.
func (i *Instance) Add(key string, content []byte) error {
	if err := writeFile(i.Path(key), content, 0o644); err != nil {
		return err
	}
	if n, found := slices.BinarySearch(i.keys, key); !found {
		i.keys = slices.Insert(i.keys, n, key)
	}
	return nil
}

func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, mode)
}

func chownAll(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// versionFile has the form of Mastodon 4.5 lib/mastodon/version.rb.
const versionFile = `# frozen_string_literal: true

module Mastodon
  module Version
    module_function

    def major
      4
    end

    def minor
      5
    end

    def patch
      2
    end

    def default_prerelease
      ''
    end

    def to_a
      [major, minor, patch].compact
    end

    def to_s
      to_a.join('.')
    end
  end
end
`

// envFile has the keys that Mastodon's own set-up writes, and comments such as admins leave.
func envFile(domain string) []byte {
	return fmt.Appendf(nil, `# Settings of this instance. Made by the set-up, then changed by hand over the years.

# Federation
# ----------
# The name in the handles of all users. It can never be changed.
LOCAL_DOMAIN=%[1]s
SINGLE_USER_MODE=false

# Redis
REDIS_HOST=localhost
REDIS_PORT=6379

# PostgreSQL
DB_HOST=/var/run/postgresql
DB_USER=mastodon
DB_NAME=mastodon_production
DB_PASS=
DB_PORT=5432

# Secrets
# -------
# Changing these logs everybody out.
SECRET_KEY_BASE=%[2]s
OTP_SECRET=%[3]s

# Encryption of some columns. Never change them.
ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY=%[4]s
ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT=%[5]s
ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY=%[6]s

# Web push
VAPID_PRIVATE_KEY=%[7]s=
VAPID_PUBLIC_KEY=%[8]s=

# Mail
SMTP_SERVER=localhost
SMTP_PORT=25
SMTP_AUTH_METHOD=none
SMTP_OPENSSL_VERIFY_MODE=none
SMTP_FROM_ADDRESS='Mastodon <notifications@%[1]s>'

# Keep addresses of visitors no longer than needed
IP_RETENTION_PERIOD=31556952
SESSION_RETENTION_PERIOD=31556952
`,
		domain, randomFrom(hexDigits, 128), randomFrom(hexDigits, 128),
		randomText(32), randomText(32), randomText(32), randomText(43), randomText(87))
}
