package host

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// keptAttributes are the extended attributes that go with a file when it is written anew: an access list that the admin gave
// it (acl(5)) and its SELinux label. Nothing else is: a capability, for one, was granted to the old content.
var keptAttributes = []string{"system.posix_acl_access", "security.selinux"}

// keepAttributes copies those of the file that is replaced, before the new one gets its mode, which also limits the list. One whose owner changes keeps none: its old owner, who may be
// less trusted, could have listed himself.
func (c *commit) keepAttributes(to *os.File) error {
	if c.Before == nil || c.Before.Type != Regular || c.Before.UID != c.After.UID {
		return nil
	}
	from, _, err := c.dir.openFile(c.base, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	for _, name := range keptAttributes {
		value, has := attribute(from, name)
		if given, _ := attribute(to, name); !has || bytes.Equal(given, value) {
			continue
		}
		if err := unix.Fsetxattr(int(to.Fd()), name, value, 0); err != nil {
			return fmt.Errorf("keep its attribute %s: %w", name, err)
		}
	}
	return nil
}

// attribute returns an extended attribute of f, and whether it has it; not where the file system knows none.
func attribute(f *os.File, name string) ([]byte, bool) {
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX, xattr(7)
	n, err := unix.Fgetxattr(int(f.Fd()), name, value)
	if err != nil {
		return nil, false
	}
	return value[:n], true
}
