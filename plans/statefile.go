package plans

import (
	"bytes"
	"path/filepath"

	"github.com/converge-agent/converge/diag"
)

// Load returns what stands in the file of that name in the state directory; nil where there is none. Its format is the
// caller's, and carries a version.
func (r *Records) Load(name string) ([]byte, error) {
	f, err := r.files.Lookup(filepath.Join(r.dir, name))
	if err != nil {
		return nil, diag.Wrap(err, "read what converge remembers", "")
	}
	if f == nil {
		return nil, nil
	}
	return f.Content, nil
}

// Save writes the file of that name, atomically and for converge's own user alone, and makes the state directory where it
// is missing. What stands there already is not written again.
func (r *Records) Save(name string, content []byte) error {
	old, err := r.Load(name)
	if err != nil || old != nil && bytes.Equal(old, content) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ensureDir(r.dir); err != nil {
		return err
	}
	return r.put(filepath.Join(r.dir, name), content)
}
