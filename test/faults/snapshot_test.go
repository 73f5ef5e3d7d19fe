package faults

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// entry is what stands at a path.
type entry struct {
	mode    fs.FileMode // with the type
	uid     int
	gid     int
	content string // or the target of a link
	changed int64  // ctime, in ns
}

// String gives all of it but the time.
func (e entry) String() string {
	if e.mode == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%s %d:%d %.60q (%d bytes)", e.mode, e.uid, e.gid, e.content, len(e.content))
}

func (e entry) same(f entry) bool {
	e.changed, f.changed = 0, 0
	return e == f
}

// snapshot is all that stands in the root directory's own file system, by path.
type snapshot map[string]entry

func look() (snapshot, error) {
	device, err := deviceOf("/")
	if err != nil {
		return nil, err
	}
	s := snapshot{}
	return s, filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if stat.Dev != device {
			return fs.SkipDir // a file system of its own
		}
		e := entry{mode: info.Mode(), uid: int(stat.Uid), gid: int(stat.Gid), changed: stat.Ctim.Nano()}
		switch {
		case e.mode.IsRegular():
			var content []byte
			content, err = os.ReadFile(path)
			e.content = string(content)
		case e.mode&fs.ModeSymlink != 0:
			e.content, err = os.Readlink(path)
		}
		s[path] = e
		return err
	})
}

func deviceOf(path string) (uint64, error) {
	var stat syscall.Stat_t
	err := syscall.Stat(path, &stat)
	return stat.Dev, err
}

// restore makes everything what it was when s was taken.
func (s snapshot) restore() error {
	now, err := look()
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(now))) {
		if was, ok := s[path]; !ok || was.mode.Type() != now[path].mode.Type() {
			if err := os.Remove(path); err != nil {
				return err
			}
			delete(now, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(s)) {
		if !s[path].same(now[path]) {
			if err := s[path].write(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// write makes the entry stand at path.
func (e entry) write(path string) error {
	var err error
	switch {
	case e.mode.IsDir():
		if err = os.Mkdir(path, 0o700); os.IsExist(err) {
			err = nil
		}
	case e.mode&fs.ModeSymlink != 0:
		_ = os.Remove(path) // an older one
		err = os.Symlink(e.content, path)
	case e.mode.IsRegular():
		err = os.WriteFile(path, []byte(e.content), 0o600)
	default:
		return fmt.Errorf("%s is a %s", path, e.mode.Type())
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(path, e.uid, e.gid); err != nil || e.mode&fs.ModeSymlink != 0 {
		return err
	}
	return os.Chmod(path, e.mode&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}

// below reports whether path is one of the directories, or in one.
func below(path string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}
