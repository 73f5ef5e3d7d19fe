package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"time"

	"github.com/converge-agent/converge/host"
)

// Found is what a path leads to.
type Found struct {
	Path string     // behind the links at its end
	File *host.File // nil: nothing stands there
	// ChangedAt is the latest ctime of the file and of the links that lead to it.
	ChangedAt time.Time
}

// Follow finds what nginx opens at a path, through links at its end, as sites-enabled and other people's certificates are,
// and a link in the place of the last directory.
func Follow(files host.View, name string) (Found, error) {
	found := Found{Path: name}
	for range 8 {
		if dir, err := files.Lookup(path.Dir(found.Path)); err == nil && dir != nil && dir.Type == host.Symlink {
			found.later(dir)
		}
		f, err := files.Lookup(found.Path)
		if err != nil || f == nil {
			return Found{Path: found.Path}, err
		}
		found.later(f)
		if f.Type != host.Symlink {
			found.File = f
			return found, nil
		}
		target := f.Target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(found.Path), target)
		}
		found.Path = path.Clean(target)
	}
	return Found{Path: found.Path}, nil
}

func (f *Found) later(g *host.File) {
	if g.ChangedAt.After(f.ChangedAt) {
		f.ChangedAt = g.ChangedAt
	}
}

// Content is that of a regular file; nil where there is none, and not nil of an empty one.
func (f Found) Content() []byte {
	if f.File == nil || f.File.Type != host.Regular {
		return nil
	}
	return append([]byte{}, f.File.Content...)
}

// Stamp stands for the content and for when it last changed: an edit that was undone after somebody ran nginx -s reload,
// which nothing records, must count too. The price is a reload where none was needed.
func (f Found) Stamp() string {
	content := f.Content()
	if f.File != nil && f.File.Type == host.Symlink {
		content = []byte(f.File.Target)
	}
	sum := sha256.Sum256(content)
	return fmt.Sprintf("%s@%d", hex.EncodeToString(sum[:]), f.ChangedAt.UnixNano())
}
