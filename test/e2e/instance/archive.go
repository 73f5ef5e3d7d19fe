package instance

import (
	"archive/tar"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/converge-agent/converge/test/lab"
)

//go:embed live
var liveFiles embed.FS

//go:embed host
var hostFiles embed.FS

// user is the id of Mastodon's user and of its group (UID and GID of its Dockerfile).
const user = 991

// packer writes an archive for the root directory of a machine.
type packer struct {
	tar *tar.Writer
	now time.Time
}

// archive packs all files of an instance host: a tar archive.
func archive(o Options) (string, error) {
	var out strings.Builder
	p := &packer{tar.NewWriter(&out), time.Now()}
	for _, pack := range []func(Options) error{p.addSample, p.addPrograms, p.addHost, p.addSite} {
		if err := pack(o); err != nil {
			return "", err
		}
	}
	if err := p.tar.Close(); err != nil {
		return "", err
	}
	return out.String(), nil
}

// add adds a file.
func (p *packer) add(name string, content []byte, mode int64, owner int) error {
	h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content)), Uid: owner, Gid: owner, ModTime: p.now}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := p.tar.Write(content)
	return err
}

// addDir adds a directory of the instance's user.
func (p *packer) addDir(name string) error {
	return p.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: 0o755, Uid: user, Gid: user, ModTime: p.now,
	})
}

// addSample adds a sample instance, and the database that knows its public media.
func (p *packer) addSample(o Options) error {
	dir, err := os.MkdirTemp("", "instance-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover there harms nobody
	sample, err := lab.NewInstance(filepath.Join(dir, "live"), lab.InstanceSpec{Files: o.Files, Seed: o.Seed, Domain: o.Domain})
	if err != nil {
		return err
	}
	if err := p.addTree(sample.Dir); err != nil {
		return err
	}
	facts, err := p.facts(sample)
	if err != nil {
		return err
	}
	if err := p.addDir(path.Join(Live, "tmp")); err != nil {
		return err
	}
	return p.add(path.Join(Live, "tmp/database.jsonl"), facts, 0o644, user)
}

// addTree adds a directory as that of the instance.
func (p *packer) addTree(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path.Join(Live, filepath.ToSlash(strings.TrimPrefix(name, dir)))
		if entry.IsDir() {
			return p.addDir(to)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return p.add(to, content, int64(info.Mode().Perm()), user)
	})
}

// file is what the database knows of a file of an attachment.
type file struct {
	Style  string `json:"style"`
	Key    string `json:"key"`
	SHA256 string `json:"sha256"`
	Stored bool   `json:"stored"`
}

// fact is a line of the database: a new attachment.
type fact struct {
	Event string    `json:"event"`
	ID    string    `json:"id"`
	At    time.Time `json:"at"`
	Files []file    `json:"files"`
}

// facts returns the database of an instance whose public media have all been there for a while.
func (p *packer) facts(sample *lab.Instance) ([]byte, error) {
	var order []string
	files := map[string][]file{}
	for _, key := range sample.Public() {
		content, err := os.ReadFile(sample.Path(key))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		id, style := parseKey(key)
		if files[id] == nil {
			order = append(order, id)
		}
		files[id] = append(files[id], file{style, key, hex.EncodeToString(sum[:]), true})
	}
	var lines []byte
	for _, id := range order {
		line, err := json.Marshal(fact{"add", id, p.now.UTC(), files[id]})
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// parseKey returns the id and the style in a key of Paperclip's layout, [cache/]class/attachment/id.../style/file: the id as
// in "media_attachments.files.109000000000000001".
func parseKey(key string) (id, style string) {
	parts := strings.Split(key, "/")
	last := len(parts) - 2
	kind, digits := "", ""
	for _, part := range parts[:last] {
		if strings.Trim(part, "0123456789") == "" {
			digits += part
		} else {
			kind += part + "."
		}
	}
	return kind + digits, parts[last]
}

// addPrograms adds the programs that stand for Mastodon's.
func (p *packer) addPrograms(Options) error {
	err := fs.WalkDir(liveFiles, "live", func(name string, entry fs.DirEntry, err error) error {
		to := path.Join(path.Dir(Live), name)
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := liveFiles.ReadFile(name)
		if err != nil {
			return err
		}
		return p.add(to, content, 0o644, user)
	})
	if err != nil {
		return err
	}
	bundle, err := hostFiles.ReadFile("host/bundle")
	if err != nil {
		return err
	}
	return p.add("/home/mastodon/.rbenv/shims/bundle", bundle, 0o755, user)
}

// addHost adds the units, the authorities and the name server.
func (p *packer) addHost(o Options) error {
	units, err := hostFiles.ReadDir("host/units")
	if err != nil {
		return err
	}
	for _, unit := range units {
		content, err := hostFiles.ReadFile("host/units/" + unit.Name())
		if err != nil {
			return err
		}
		if err := p.add("/etc/systemd/system/"+unit.Name(), content, 0o644, 0); err != nil {
			return err
		}
	}
	for n, pem := range o.CAPEM {
		name := fmt.Sprintf("/usr/local/share/ca-certificates/instance-%d.crt", n+1)
		if err := p.add(name, []byte(pem), 0o644, 0); err != nil {
			return err
		}
	}
	if o.Resolver == "" {
		return nil
	}
	return p.add("/etc/resolv.conf", []byte("nameserver "+o.Resolver+"\n"), 0o644, 0)
}

// addSite adds nginx's main site and its certificate, where certbot would keep it.
func (p *packer) addSite(o Options) error {
	dir := "/etc/letsencrypt/live/" + o.Domain
	t, err := template.ParseFS(hostFiles, "host/nginx.conf.tmpl")
	if err != nil {
		return err
	}
	var site strings.Builder
	data := map[string]string{"Domain": o.Domain, "Chain": dir + "/fullchain.pem", "Key": dir + "/privkey.pem"}
	if err := t.Execute(&site, data); err != nil {
		return err
	}
	if err := p.add(Site, []byte(site.String()), 0o644, 0); err != nil {
		return err
	}
	if err := p.add(data["Chain"], []byte(o.CertPEM), 0o644, 0); err != nil {
		return err
	}
	return p.add(data["Key"], []byte(o.KeyPEM), 0o600, 0)
}
