package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/secret"
)

// maxKept is the size in bytes of the largest content that is kept. Configuration is a few kB, a list of blocked networks or
// a bundle of authorities some 100 kB; whoever manages more by a file block has it somewhere else too.
const maxKept = 4 << 20

// Why a content is not kept. notKeptSecret may not be kept for the reason that nobody revokes what lies in a history.
const (
	notKeptSecret = "a secret in it was replaced or removed"
	notKeptSize   = "it is larger than 4 MiB"
)

// digest is what stands for a content: keyed, so that a copy of the journal gives nothing away.
func (s *Store) digest(content []byte) string {
	sum := sha256.Sum256(content)
	return s.keys.Keyed(hex.EncodeToString(sum[:]))
}

// keyMark stands for the key itself.
func (s *Store) keyMark() string { return s.keys.Keyed("journal") }

func (s *Store) keptDir() string { return filepath.Join(s.dir, "kept") }

func (s *Store) keptPath(digest string) string { return filepath.Join(s.keptDir(), digest) }

// keep keeps the content that an edit is going to replace, under its digest, and describes the edit.
func (s *Store) keep(e host.Edit, attrs []resources.AttrDiff) (*Edit, error) {
	edit := &Edit{Path: e.Path, Before: describe(e.Before, s.digest), Opaque: e.Opaque, Private: e.Private}
	edit.Secret = e.Private && slices.ContainsFunc(attrs, func(a resources.AttrDiff) bool { return isSecret(a.After) })
	if e.Opaque {
		return edit, nil // its commit comes with what it is
	}
	edit.After = describe(e.After, s.digest)
	if !replaces(edit) {
		return edit, nil
	}
	reason, err := s.notKept(e, attrs)
	if err != nil {
		return nil, err
	}
	if edit.NotKept = reason; reason != "" {
		if reason == notKeptSecret {
			return edit, s.forget(e.Path)
		}
		return edit, nil
	}
	return edit, s.put(edit.Before.Digest, e.Before.Content)
}

// replaces reports whether an edit does away with the content of a file.
func replaces(e *Edit) bool {
	return e.Before != nil && e.Before.Type == host.Regular.String() && (e.After == nil || e.After.Digest != e.Before.Digest)
}

// notKept says why what an edit replaces must not be kept; "" when it may.
func (s *Store) notKept(e host.Edit, attrs []resources.AttrDiff) (string, error) {
	secretGoes := e.After == nil || len(attrs) == 0 // of a private file, and nothing tells what of it goes
	for _, a := range attrs {
		secretGoes = secretGoes || isSecret(a.Before)
	}
	private := e.Private
	if !private && e.Before.Mode&0o004 == 0 {
		// Not everybody could read it, and it may have been private until now.
		var err error
		if private, err = s.wasPrivate(e.Path); err != nil {
			return "", err
		}
	}
	switch {
	case private && secretGoes:
		return notKeptSecret, nil
	case len(e.Before.Content) > maxKept:
		return notKeptSize, nil
	}
	return "", nil
}

// isSecret reports whether a value is shown as that of a secret is, perhaps with a remark behind it.
func isSecret(shown string) bool { return strings.HasPrefix(shown, secret.Redacted) }

// wasPrivate reports whether a run on record has edited path as a private file.
func (s *Store) wasPrivate(path string) (bool, error) {
	found := false
	err := s.eachEdit(func(e *Edit) { found = found || e.Path == path && e.Private })
	return found, err
}

// forget removes what earlier runs have kept of path: a secret in it goes now, and none that has been replaced or revoked
// may lie about for somebody to find.
func (s *Store) forget(path string) error {
	digests := map[string]bool{}
	err := s.eachEdit(func(e *Edit) {
		if e.Path == path && replaces(e) {
			digests[e.Before.Digest] = true
		}
	})
	if err != nil {
		return err
	}
	for d := range digests {
		f, err := s.files.Lookup(s.keptPath(d))
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		if err := s.files.Commit(context.Background(), host.Edit{Path: s.keptPath(d), Before: f, Private: true}); err != nil {
			return err
		}
	}
	return nil
}

// put keeps a content. What is kept already is whole, for it was renamed into its place.
func (s *Store) put(digest string, content []byte) error {
	path := s.keptPath(digest)
	f, err := s.files.Lookup(path)
	if err != nil || f != nil {
		return err
	}
	uid, gid := s.users.Self()
	return s.files.Commit(context.Background(), host.Edit{Path: path, After: &host.File{Content: content, Mode: 0o600, UID: uid, GID: gid}, Private: true})
}

// content returns what is kept under a digest; nil and no error where nothing is.
func (s *Store) content(digest string) ([]byte, error) {
	f, err := s.files.Lookup(s.keptPath(digest))
	if err != nil || f == nil {
		return nil, err
	}
	if s.digest(f.Content) != digest {
		return nil, diag.New("read "+s.keptPath(digest), "it is not what was kept there", "Look at the disk; what it was cannot be brought back from here.")
	}
	if f.Content == nil {
		return []byte{}, nil
	}
	return f.Content, nil
}

// KeptNote words, for one edit, whether what it replaced can be brought back; "" where it replaced nothing.
func (s *Store) KeptNote(e *Edit) string {
	if e.Opaque || !replaces(e) {
		return ""
	}
	if e.NotKept != "" {
		return "not kept: " + e.NotKept
	}
	f, err := s.files.Lookup(s.keptPath(e.Before.Digest))
	switch {
	case err != nil:
		return fmt.Sprintf("cannot be read: %s", err)
	case f == nil:
		return "not kept any more"
	}
	return "kept"
}
