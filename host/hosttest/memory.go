// Package hosttest has in-memory implementations of the interfaces of package host, for faults that a real host will not
// produce on demand, and the conformance suite that they and the real ones pass.
package hosttest

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/spf13/afero"
)

// Memory is a file system in memory that is as strict as a real one: no file without its directory, no directory in the
// place of a file, none removed while it holds something. Rights are kept and not enforced. afero's MemMapFs stores the
// bytes; what it lacks or forgives (owners, links, types, parents: v1.15.0) stands in a table of inodes.
type Memory struct {
	// Fail, when set, is asked before each step of a commit and makes the step fail with the error it returns. The steps
	// of a new or changed file are temp, chown, write, sync, rename, dirsync; a link has no write and no sync, a new
	// directory no write; an existing directory has chown and sync, a removal unlink and dirsync.
	Fail func(op, path string) error
	// Clock gives the ctimes. Without one they are all the same moment, as if nothing had been touched since: the start of
	// 2026. Never the time of day, by which a test would pass today and fail tomorrow.
	Clock host.Clock

	mu     sync.Mutex
	bytes  afero.Fs
	inodes map[string]host.File // Content stays nil here
	writes []string
}

var _ host.Files = (*Memory)(nil)

// NewMemory returns a file system that holds only /, of root.
func NewMemory() *Memory {
	m := &Memory{bytes: afero.NewMemMapFs(), inodes: map[string]host.File{}}
	m.inodes["/"] = host.File{Type: host.Directory, Mode: 0o755}
	return m
}

// Put makes f stand at name, as somebody else would have put it there: it is no commit and no write. Missing directories
// above are made, 0755 of root. It panics on a path inside a file, a fault of the test.
func (m *Memory) Put(name string, f host.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		in, ok := m.inodes[dir]
		if ok && in.Type != host.Directory {
			panic("hosttest: " + dir + " is no directory")
		}
		if ok {
			break
		}
		m.inodes[dir] = host.File{Type: host.Directory, Mode: 0o755, ChangedAt: m.now()}
	}
	m.store(name, f)
}

// Remove takes name and all that is below it away, as somebody else would have.
func (m *Memory) Remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Sorted(maps.Keys(m.inodes))
	for _, p := range slices.Backward(all) { // what a directory holds before itself
		if p == name || strings.HasPrefix(p, name+"/") {
			m.drop(p)
		}
	}
}

// Writes lists the paths of the commits that changed something, in order.
func (m *Memory) Writes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.writes)
}

// Lookup returns what stands at name.
func (m *Memory) Lookup(name string) (*host.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, host.SystemError(err, "read", name)
	}
	f, err := m.load(at)
	return f, host.SystemError(err, "read", name)
}

// List returns the sorted names in the directory at name.
func (m *Memory) List(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.resolve(name)
	if err == nil {
		in, ok := m.inodes[at]
		switch {
		case !ok:
			err = fs.ErrNotExist
		case in.Type != host.Directory:
			err = syscall.ENOTDIR
		}
	}
	if err != nil {
		return nil, host.SystemError(err, "list the directory", name)
	}
	return m.children(at), nil
}

// Commit makes one edit, as host.Files says.
func (m *Memory) Commit(ctx context.Context, e host.Edit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, err := m.resolve(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := host.CheckEdit(nil, e); err != nil || e.Empty() {
			return err
		}
		return host.MissingParent(e.Path, path.Dir(e.Path))
	}
	if err != nil {
		return host.SystemError(err, "write", e.Path)
	}
	current, err := m.load(name)
	if err != nil {
		return host.SystemError(err, "write", e.Path)
	}
	if err := host.CheckEdit(current, e); err != nil {
		return err
	}
	if e.Empty() {
		return nil
	}
	if err := m.run(ctx, name, current, e); err != nil {
		return host.SystemError(err, "write", e.Path)
	}
	return nil
}

// run takes the steps of a commit. The lock is held; a hook of Fail must not use the memory itself.
func (m *Memory) run(ctx context.Context, name string, current *host.File, e host.Edit) error {
	steps, last := []string{"unlink"}, "dirsync"
	switch {
	case e.After == nil:
		if names := m.children(name); len(names) > 0 {
			return host.NotEmpty(e.Path, names)
		}
	case e.After.Type == host.Directory && current != nil:
		steps, last = []string{"chown"}, "sync"
	case e.After.Type == host.Directory:
		steps = []string{"temp", "chown", "sync", "rename"}
	case e.After.Type == host.Symlink:
		steps = []string{"temp", "chown", "rename"}
	default:
		steps = []string{"temp", "chown", "write", "sync", "rename"}
	}
	for _, op := range steps {
		if err := m.step(ctx, op, e.Path); err != nil {
			return err
		}
	}
	m.writes = append(m.writes, e.Path)
	if e.After == nil {
		m.drop(name)
	} else {
		m.store(name, *e.After)
	}
	return m.step(context.WithoutCancel(ctx), last, e.Path)
}

func (m *Memory) step(ctx context.Context, op, name string) error {
	if err := ctx.Err(); err != nil {
		return diag.Wrap(err, "", "")
	}
	if m.Fail == nil {
		return nil
	}
	return m.Fail(op, name)
}

// resolve follows the links inside name. Those of a user other than root lead only to what is his: host.ErrUnsafe.
func (m *Memory) resolve(name string) (string, error) {
	if err := host.CheckPath(name); err != nil {
		return "", err
	}
	at, rest := "/", strings.Split(strings.TrimPrefix(path.Dir(name), "/"), "/")
	for links := 0; len(rest) > 0; {
		if rest[0] == "" {
			rest = rest[1:]
			continue
		}
		next := path.Join(at, rest[0])
		in, ok := m.inodes[next]
		switch {
		case !ok:
			return "", fs.ErrNotExist
		case in.Type == host.Directory:
			at, rest = next, rest[1:]
		case in.Type != host.Symlink:
			return "", syscall.ENOTDIR
		case links == 40:
			return "", syscall.ELOOP
		default:
			links++
			to := in.Target
			if !path.IsAbs(to) {
				to = path.Join(at, to)
			}
			if owner := m.inodes[path.Clean(to)].UID; in.UID != 0 && in.UID != owner {
				return "", diag.Wrap(host.ErrUnsafe, "", "Write the path that is really meant in the place of "+next+".")
			}
			at, rest = "/", append(strings.Split(to, "/"), rest[1:]...)
		}
	}
	return path.Join(at, path.Base(name)), nil
}

func (m *Memory) load(name string) (*host.File, error) {
	in, ok := m.inodes[name]
	if !ok {
		return nil, nil
	}
	if in.Type != host.Regular {
		return &in, nil
	}
	content, err := afero.ReadFile(m.bytes, key(name))
	if err == nil && len(content) > host.MaxContent {
		err = diag.Wrap(host.ErrTooLarge, "", "Correct the path.")
	}
	if err != nil {
		return nil, err
	}
	in.Content = content
	return &in, nil
}

// store puts f in the place of what stands at name.
func (m *Memory) store(name string, f host.File) {
	m.drop(name)
	if f.Type == host.Regular {
		if err := afero.WriteFile(m.bytes, key(name), f.Content, f.Mode.Perm()); err != nil {
			panic("hosttest: " + err.Error()) // memory has no way to fail
		}
	}
	f.Content = nil
	f.ChangedAt = m.now()
	m.inodes[name] = f
	m.touch(path.Dir(name))
}

// touch gives a directory, a name in which was made, replaced or removed, the ctime of that (inode(7)).
func (m *Memory) touch(dir string) {
	if in, ok := m.inodes[dir]; ok {
		in.ChangedAt = m.now()
		m.inodes[dir] = in
	}
}

// drop takes away what stands at name.
func (m *Memory) drop(name string) {
	if in, ok := m.inodes[name]; ok && in.Type == host.Regular {
		if err := m.bytes.Remove(key(name)); err != nil {
			panic("hosttest: " + err.Error())
		}
	}
	delete(m.inodes, name)
	m.touch(path.Dir(name))
}

// key is the name of a file's bytes. All stand in one directory: MemMapFs makes directories by itself, and a file under the
// name of one of those would be taken for it.
func key(name string) string { return "/" + url.PathEscape(name) }

func (m *Memory) now() time.Time {
	if m.Clock != nil {
		return m.Clock.Now()
	}
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
}

func (m *Memory) children(dir string) []string {
	var names []string
	for p := range m.inodes {
		if p != "/" && path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}
