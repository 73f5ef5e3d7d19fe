package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/converge-agent/converge/diag"
	"golang.org/x/sys/unix"
)

// commit is one edit on its way to the disk.
type commit struct {
	Edit
	files *systemFiles
	dir   *place   // that the path stands in
	base  string   // its name there
	sync  *os.File // the directory once more, opened so that it can be synced
}

// Commit makes the edit as Files says. A regular file is always written anew and renamed over the old one, even where only
// its mode or owner differs: a hard link that somebody made to it keeps the old content, mode and owner.
func (s *systemFiles) Commit(ctx context.Context, e Edit) error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	dir, base, err := openParent(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nowhere(e)
	}
	if err != nil {
		return SystemError(err, "write", e.Path)
	}
	defer dir.close()
	c := &commit{Edit: e, files: s, dir: dir, base: base}
	return SystemError(c.run(ctx), "write", e.Path)
}

// nowhere answers an edit in a directory that does not exist: nothing is there already, and nothing can be written.
func nowhere(e Edit) error {
	if err := CheckEdit(nil, e); err != nil || e.Empty() {
		return err
	}
	return MissingParent(e.Path, path.Dir(e.Path))
}

func (c *commit) run(ctx context.Context) error {
	current, seen, err := c.dir.lookup(c.base)
	if err != nil {
		return err
	}
	if err := CheckEdit(current, c.Edit); err != nil {
		return err
	}
	if c.Empty() {
		return nil
	}
	if c.sync, _, err = c.dir.openFile(".", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return err
	}
	defer func() { _ = c.sync.Close() }()
	c.sweep()
	switch {
	case c.After == nil:
		err = c.remove(ctx, current.Type)
	case c.After.Type == Directory && current != nil:
		return c.fixDirectory(ctx, seen)
	default:
		err = c.replace(ctx)
	}
	if err != nil {
		return err
	}
	return c.syncDir()
}

// step is asked before each step: it ends a commit that was cancelled, or that a test wants to fail here.
func (c *commit) step(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return diag.Wrap(err, "", "")
	}
	if c.files.fail == nil {
		return nil
	}
	return c.files.fail(name, c.Path)
}

// replace makes what is to be under a temporary name, and renames it over the path.
func (c *commit) replace(ctx context.Context) error {
	if err := c.step(ctx, "temp"); err != nil {
		return err
	}
	temp, err := c.makeTemp(ctx)
	if err != nil {
		return err
	}
	defer temp.close()
	if err = c.step(ctx, "rename"); err == nil {
		err = c.rename(temp.name)
	}
	if err != nil {
		temp.remove()
	}
	return err
}

// rename puts the temporary name in the place of the path. Where nothing stood there, nothing that came since is replaced.
func (c *commit) rename(temp string) error {
	fd := int(c.sync.Fd())
	if c.Before != nil {
		return unix.Renameat(fd, temp, fd, c.base)
	}
	err := unix.Renameat2(fd, temp, fd, c.base, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EEXIST):
		return diag.Wrap(ErrMoved, "", "Run converge plan again.")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // the file system does not know the flag: rename(2)
		return unix.Renameat(fd, temp, fd, c.base)
	}
	return err
}

func (c *commit) remove(ctx context.Context, is FileType) error {
	flags := 0
	if is == Directory {
		flags = unix.AT_REMOVEDIR
		names, err := c.dir.list(c.base)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return NotEmpty(c.Path, names)
		}
	}
	if err := c.step(ctx, "unlink"); err != nil {
		return err
	}
	return SystemError(unix.Unlinkat(c.dir.fd, c.base, flags), "remove", c.Path)
}

// fixDirectory sets mode and owner of the directory that was seen at the path, by its handle.
func (c *commit) fixDirectory(ctx context.Context, seen *unix.Stat_t) error {
	dir, stat, err := c.dir.openFile(c.base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if stat.Dev != seen.Dev || stat.Ino != seen.Ino {
		return diag.Wrap(ErrMoved, "", "Run converge plan again.")
	}
	if err := c.narrow(dir); err != nil {
		return err
	}
	if err := c.step(ctx, "chown"); err != nil {
		return err
	}
	if err := c.own(dir); err != nil {
		return err
	}
	if err := c.step(ctx, "sync"); err != nil {
		return err
	}
	return syncHandle(dir)
}

// narrow takes away what the directory's new mode will not give, before its owner changes: who is killed between the two
// leaves no owner or group with rights that are meant for another.
func (c *commit) narrow(dir *os.File) error {
	was, to := ModeBits(c.Before.Mode), ModeBits(c.After.Mode)
	if was&to == was || c.Before.UID == c.After.UID && c.Before.GID == c.After.GID {
		return nil
	}
	return unix.Fchmod(int(dir.Fd()), was&to)
}

// own gives f the owner and the mode that are to be; in this order, because chown clears setuid and setgid (chown(2)).
func (c *commit) own(f *os.File) error {
	if err := unix.Fchown(int(f.Fd()), c.After.UID, c.After.GID); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), ModeBits(c.After.Mode))
}

// syncDir makes the new name, or its removal, last over a power loss.
func (c *commit) syncDir() error {
	if err := c.step(context.Background(), "dirsync"); err != nil {
		return err
	}
	return syncHandle(c.sync)
}

// syncHandle is fsync. Some file systems do not know it for directories and say EINVAL (fsync(2)).
func syncHandle(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
