package host

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/converge-agent/converge/diag"
)

// advice is what to do about the errors of the system that an admin can do something about; %s is the path.
var advice = []struct {
	errno syscall.Errno
	fix   string
}{
	{syscall.ENOSPC, "Free some space, or inodes (df -h and df -i show both), on the file system that holds %s, then run converge apply again."},
	{syscall.EDQUOT, "Raise the disk quota, or free some space, on the file system that holds %s, then run converge apply again."},
	{syscall.EROFS, "Mount the file system that holds %s writable; when converge runs as a systemd service, add the path to its ReadWritePaths=."},
	{syscall.EACCES, "Run converge as root, or give the user that it runs as access to %s."},
	{syscall.EPERM, "Run converge as root; if it does already, look for an immutable flag with lsattr -d %s and its directory."},
	{syscall.EBUSY, "Mount the directory of %s instead of the path itself: a mount point of its own can be neither replaced nor removed."},
	{syscall.EFBIG, "Raise the file size limit (ulimit -f, LimitFSIZE=) that converge runs with, so that %s can be written."},
	{syscall.EIO, "Look for errors of the disk that holds %s with dmesg, and replace it if there are any."},
	{syscall.ENOTDIR, "Remove what stands in the way of %s, or correct the path: a part of it is not a directory."},
	{syscall.ELOOP, "Correct the links on the way to %s: they lead round in a circle."},
	{syscall.ENAMETOOLONG, "Shorten %s: a name may have 255 bytes, a path 4095."},
	{syscall.EMFILE, "Raise the limit of open files (ulimit -n, LimitNOFILE=) that converge runs with, then try %s again."},
}

// SystemError returns err, an error of the system, as a failure of doing something to path, with advice for the errors that
// an admin meets: a full disk, a read-only one, missing rights and their like. Nil stays nil, and so does a failure that
// says already what was being done.
func SystemError(err error, doing, path string) error {
	var said *diag.Error
	if errors.As(err, &said) && said.Doing != "" {
		return err
	}
	var named *fs.PathError
	if errors.As(err, &named) {
		err = named.Err // its path is that of a handle, or a temporary name
	}
	for _, a := range advice {
		if errors.Is(err, a.errno) && diag.Fix(err) == "" {
			return diag.Wrap(err, doing+" "+path, fmt.Sprintf(a.fix, path))
		}
	}
	return diag.Wrap(err, doing+" "+path, "")
}

// MissingParent is the failure of writing path where its directory does not exist; it is fs.ErrNotExist.
func MissingParent(path, dir string) error {
	return diag.Wrap(fmt.Errorf("the directory %s does not exist: %w", dir, fs.ErrNotExist), "write "+path,
		fmt.Sprintf("Add a directory block with path = %q to the configuration, or correct the path.", dir))
}

// NotEmpty is the failure of removing the directory path, which holds names; it is syscall.ENOTEMPTY.
func NotEmpty(path string, names []string) error {
	const shown = 3
	some := fmt.Sprintf("%q", names[:min(len(names), shown)])
	return diag.Wrap(fmt.Errorf("%w: it holds %d entries, such as %s", syscall.ENOTEMPTY, len(names), some), "remove the directory "+path,
		"Move away what it holds, or remove it by hand: converge removes a directory only when it is empty.")
}

// CheckEdit says why the edit e cannot be made where current stands (nil: nothing); nil when it can. It is what every
// implementation of Files asks before it writes. The errors are ErrMoved, ErrOpaque, and syscall.EISDIR, ENOTDIR or
// EINVAL where one type cannot take the place of another.
func CheckEdit(current *File, e Edit) error {
	doing := "write " + e.Path
	if e.After == nil {
		doing = "remove " + e.Path
	}
	if !current.Same(e.Before) {
		return diag.Wrap(ErrMoved, doing, "Run converge plan again.")
	}
	if e.Opaque {
		return diag.Wrap(ErrOpaque, doing, "")
	}
	is, becomes := Other, Other
	if current != nil {
		is = current.Type
	}
	if e.After != nil {
		becomes = e.After.Type
	}
	switch {
	case current != nil && is == Other:
		return diag.Wrap(fmt.Errorf("a device, pipe or socket stands there: %w", syscall.EINVAL), doing,
			"Remove it by hand, or correct the path: converge never touches special files.")
	case e.After == nil:
		return nil
	case becomes == Other:
		return diag.Wrap(fmt.Errorf("converge makes no special files: %w", syscall.EINVAL), doing, "Correct the path.")
	case current == nil || is == becomes || is != Directory && becomes != Directory:
		return nil
	}
	errno := syscall.ENOTDIR
	if is == Directory {
		errno = syscall.EISDIR
	}
	return diag.Wrap(fmt.Errorf("a %s stands there, where a %s is to be: %w", is, becomes, errno), doing,
		fmt.Sprintf("Move the %s %s away by hand, or correct the path.", is, e.Path))
}
