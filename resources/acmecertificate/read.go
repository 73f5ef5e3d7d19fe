package acmecertificate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// state is what was found of the certificate.
type state struct {
	now      time.Time
	uid, gid int
	dirs     []host.Edit // that make the directory and those above it
	versions []*version  // by number
	link     *host.File  // live
	current  *version    // that live leads to; nil: none
	snippets []host.Edit // that remove what a killed run left of its server for challenges
	nginxUp  bool
	failure  *failure // of the last try for this very certificate
}

// version is one certificate with its key, in a directory of its own: the two are only ever replaced together, by the link.
type version struct {
	number int
	dir    *host.File
	files  map[string]*host.File // by name; those that are there
	names  []string              // all that the directory holds
	sealed bool                  // there is a key, and converge may not read it: a plan without root's rights
	pair   acme.Pair
	flaw   string // why it is no certificate at all; "" when it is one
	info   issued
}

// issued is where a version comes from.
type issued struct {
	Directory string `json:"directory_url"`
	Profile   string `json:"profile,omitempty"`
}

// Read looks at all versions.
func (c *certificate) Read(ctx context.Context, env resources.ReadEnv) (resources.State, error) {
	st := &state{now: env.Clock.Now()}
	st.uid, st.gid = env.Users.Self()
	if err := c.readVersions(env.Files, st); err != nil {
		return nil, err
	}
	for _, name := range c.snippets() {
		f, err := env.Files.Lookup(name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			st.snippets = append(st.snippets, host.Edit{Path: name, Before: f})
		}
	}
	u, err := env.Units.Unit(ctx, c.unit)
	if err != nil {
		return nil, err
	}
	st.nginxUp = u.Up()
	st.failure, err = c.readFailure(env)
	return st, err
}

func (c *certificate) readVersions(files host.View, st *state) error {
	var err error
	if st.dirs, err = host.MissingDirs(files, c.Dir, 0o755, st.uid, st.gid); err != nil {
		return err
	}
	if st.link, err = files.Lookup(c.live()); err != nil {
		return err
	}
	if err := resources.MustBe(c.live(), st.link, host.Symlink); err != nil {
		return err
	}
	names, err := files.List(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil || n < 1 || strconv.Itoa(n) != name {
			continue // not ours
		}
		v, err := c.readVersion(files, n)
		if err != nil {
			return err
		}
		st.versions = append(st.versions, v)
		if st.link != nil && st.link.Target == name {
			st.current = v
		}
	}
	slices.SortFunc(st.versions, func(a, b *version) int { return a.number - b.number })
	return nil
}

// tempPrefix begins the names of files that a killed run was still writing (host.Files.Commit).
const tempPrefix = ".converge-"

func (c *certificate) readVersion(files host.View, n int) (*version, error) {
	v := &version{number: n, files: map[string]*host.File{}}
	dir := c.versionDir(n)
	var err error
	if v.dir, err = files.Lookup(dir); err != nil {
		return nil, err
	}
	if err := resources.MustBe(dir, v.dir, host.Directory); err != nil {
		return nil, err
	}
	if v.names, err = files.List(dir); err != nil {
		return nil, err
	}
	for _, name := range v.names {
		if !slices.Contains([]string{chainFile, keyFile, infoFile}, name) && !strings.HasPrefix(name, tempPrefix) {
			continue // not ours
		}
		f, err := files.Lookup(path.Join(dir, name))
		switch {
		case name != chainFile && errors.Is(err, fs.ErrPermission):
			v.sealed = v.sealed || name == keyFile
		case err != nil:
			return nil, err
		case f != nil:
			v.files[name] = f
		}
	}
	v.flaw = v.judge()
	return v, nil
}

// judge reads certificate and key, and says why they are none; "" when they are.
func (v *version) judge() string {
	chain, key, info := v.files[chainFile], v.files[keyFile], v.files[infoFile]
	var err error
	switch {
	case chain == nil || info == nil || key == nil && !v.sealed:
		return "it is incomplete"
	case v.sealed:
		v.pair, err = acme.ParseChain(chain.Content)
	default:
		v.pair, err = acme.ParsePair(chain.Content, key.Content)
	}
	if err != nil {
		return fmt.Sprintf("certificate and key are damaged: %s", err)
	}
	if err := json.Unmarshal(info.Content, &v.info); err != nil {
		return "it is not known where it comes from"
	}
	return ""
}

func (c *certificate) versionDir(n int) string { return path.Join(c.Dir, strconv.Itoa(n)) }

// wrong says why v is not the certificate that is wanted; "" when it is.
func (c *certificate) wrong(v *version, now time.Time) string {
	if why := c.unfit(v); why != "" {
		return why
	}
	if !now.Before(c.renewAt(v)) {
		return expiry(v.pair.Leaf.NotAfter, now)
	}
	return ""
}

// unfit says why v is not the certificate that is wanted, its age aside.
func (c *certificate) unfit(v *version) string {
	switch {
	case v == nil:
		return "there is none yet"
	case v.flaw != "":
		return v.flaw
	case !v.pair.For(c.Domains):
		return "it is for other names"
	case v.pair.KeyType != c.KeyType:
		return fmt.Sprintf("its key is %s", v.pair.KeyType)
	case v.info.Directory != c.Directory:
		return "it is from " + v.info.Directory
	case v.info.Profile != c.Profile:
		return fmt.Sprintf("its profile is %q", v.info.Profile)
	}
	return ""
}

// renewAt is when the renewal of v is due.
func (c *certificate) renewAt(v *version) time.Time {
	leaf := v.pair.Leaf
	before := min(c.RenewBefore, leaf.NotAfter.Sub(leaf.NotBefore)/3)
	return leaf.NotAfter.Add(-before)
}

// serves reports whether v still does its work, though it may be due for renewal: it names all domains, and has not expired.
func (c *certificate) serves(v *version, now time.Time) bool {
	return v != nil && v.flaw == "" && v.pair.For(c.Domains) && now.Before(v.pair.Leaf.NotAfter)
}

// expiry words how long a certificate is still good for.
func expiry(end, now time.Time) string {
	left := end.Sub(now)
	switch {
	case left <= 0:
		return "it expired on " + end.UTC().Format("2 Jan 2006")
	case left < 48*time.Hour:
		return fmt.Sprintf("it expires in %d hours", int(left.Hours()))
	}
	return fmt.Sprintf("it expires in %d days", int(left.Hours()/24))
}
