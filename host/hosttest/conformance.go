package hosttest

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
)

// MakeFiles returns an empty implementation of host.Files and a directory in it, of the user that runs the test, to work in.
type MakeFiles func(t *testing.T) (files host.Files, root string)

// TestFiles checks that an implementation does what host.Files promises.
func TestFiles(t *testing.T, build MakeFiles) {
	for name, test := range map[string]func(*bench){
		"nothing stands":                    (*bench).nothing,
		"create, no-op, update, delete":     (*bench).lifecycle,
		"mode and owner":                    (*bench).ownership,
		"special mode bits":                 (*bench).specialBits,
		"empty and large content":           (*bench).sizes,
		"symlink":                           (*bench).symlink,
		"symlink and file swap":             (*bench).swap,
		"the last component isn't followed": (*bench).lastLink,
		"a link inside a path is followed":  (*bench).linkInside,
		"directory":                         (*bench).directory,
		"directory in use":                  (*bench).notEmpty,
		"missing parent":                    (*bench).missingParent,
		"parent is a file":                  (*bench).parentIsFile,
		"moved":                             (*bench).moved,
		"one type in the place of another":  (*bench).types,
		"list":                              (*bench).list,
		"opaque":                            (*bench).opaque,
		"unclean path":                      (*bench).unclean,
		"what was returned is a copy":       (*bench).copies,
	} {
		t.Run(name, func(t *testing.T) {
			files, root := build(t)
			test(&bench{t, files, root})
		})
	}
}

// bench is one implementation under test.
type bench struct {
	*testing.T
	files host.Files
	root  string
}

func (b *bench) path(name string) string { return path.Join(b.root, name) }

// file returns a regular file of the user that runs the test.
func file(content string, mode fs.FileMode) *host.File {
	return &host.File{Content: []byte(content), Mode: mode, UID: os.Geteuid(), GID: os.Getegid()}
}

func directory(mode fs.FileMode) *host.File {
	return &host.File{Type: host.Directory, Mode: mode, UID: os.Geteuid(), GID: os.Getegid()}
}

func link(target string) *host.File {
	return &host.File{Type: host.Symlink, Target: target, UID: os.Geteuid(), GID: os.Getegid()}
}

// mustCommit makes an edit, and checks that what is to be is what stands then.
func (b *bench) mustCommit(name string, before, after *host.File) {
	b.Helper()
	if err := b.files.Commit(b.Context(), host.Edit{Path: b.path(name), Before: before, After: after}); err != nil {
		b.Fatalf("Commit(%s): %v", name, err)
	}
	b.mustHold(name, after)
}

func (b *bench) mustHold(name string, want *host.File) {
	b.Helper()
	got, err := b.files.Lookup(b.path(name))
	if err != nil {
		b.Fatalf("Lookup(%s): %v", name, err)
	}
	if !got.Same(want) {
		b.Fatalf("%s holds %s, want %s", name, describe(got), describe(want))
	}
}

func describe(f *host.File) any {
	if f == nil {
		return "nothing"
	}
	c := *f
	c.Content = c.Content[:min(len(c.Content), 40)]
	return c
}

// mustRefuse makes an edit that must fail with want, with advice, and without a change.
func (b *bench) mustRefuse(e host.Edit, want error) {
	b.Helper()
	was, _ := b.files.Lookup(e.Path)
	err := b.files.Commit(b.Context(), e)
	var d *diag.Error
	switch {
	case !errors.Is(err, want):
		b.Errorf("Commit(%s): got error %v, want %v", e.Path, err, want)
	case !errors.As(err, &d):
		b.Errorf("Commit(%s): %v is no *diag.Error", e.Path, err)
	case diag.Fix(err) == "" && !errors.Is(err, host.ErrOpaque):
		b.Errorf("Commit(%s): %v comes without advice", e.Path, err)
	}
	if is, _ := b.files.Lookup(e.Path); !is.Same(was) {
		b.Errorf("%s changed by a commit that failed: %s, was %s", e.Path, describe(is), describe(was))
	}
}

// mustList checks the names in the root: among others, that no temporary one was left.
func (b *bench) mustList(want ...string) {
	b.Helper()
	got, err := b.files.List(b.root)
	if err != nil || !slices.Equal(got, want) {
		b.Errorf("List(root): got %q, %v; want %q", got, err, want)
	}
}

func (b *bench) nothing() {
	b.mustHold("a", nil)
	b.mustHold("no/such/directory", nil)
	if _, err := b.files.List(b.path("a")); !errors.Is(err, fs.ErrNotExist) {
		b.Errorf("List of nothing: got %v, want fs.ErrNotExist", err)
	}
	b.mustCommit("a", nil, nil)
	b.mustCommit("no/such/directory", nil, nil)
	b.mustList()
}

func (b *bench) lifecycle() {
	one, two := file("one\n", 0o644), file("two\n", 0o644)
	b.mustCommit("a", nil, one)
	b.mustCommit("a", one, one)
	b.mustCommit("a", one, two)
	b.mustList("a")
	b.mustCommit("a", two, nil)
	b.mustList()
	b.mustCommit("a", nil, one)
	b.mustList("a")
}

func (b *bench) ownership() {
	was := file("text", 0o644)
	b.mustCommit("a", nil, was)
	private := file("text", 0o600)
	b.mustCommit("a", was, private)
	given := file("text", 0o440)
	if os.Geteuid() == 0 {
		given.UID, given.GID = 65534, 65534
	}
	b.mustCommit("a", private, given)
	b.mustCommit("a", given, file("more", 0o755))
	b.mustList("a")
}

func (b *bench) specialBits() {
	b.mustCommit("program", nil, file("#!", 0o755|fs.ModeSetuid))
	b.mustCommit("program", file("#!", 0o755|fs.ModeSetuid), file("#!/", 0o755|fs.ModeSetuid|fs.ModeSetgid))
	b.mustCommit("d", nil, directory(0o775|fs.ModeSetgid|fs.ModeSticky))
}

func (b *bench) sizes() {
	b.mustCommit("empty", nil, file("", 0o644))
	large := file(strings.Repeat("0123456789abcdef", host.MaxContent/16), 0o644)
	b.mustCommit("large", nil, large)
	b.mustCommit("large", large, nil)
}

func (b *bench) symlink() {
	b.mustCommit("l", nil, link("nowhere"))
	b.mustCommit("l", link("nowhere"), link("../elsewhere"))
	if os.Geteuid() == 0 {
		given := link("../elsewhere")
		given.UID, given.GID = 65534, 65534
		b.mustCommit("l", link("../elsewhere"), given)
		b.mustCommit("l", given, link("nowhere"))
	} else {
		b.mustCommit("l", link("../elsewhere"), link("nowhere"))
	}
	b.mustList("l")
	b.mustCommit("l", link("nowhere"), nil)
	b.mustList()
}

func (b *bench) swap() {
	b.mustCommit("a", nil, file("text", 0o644))
	b.mustCommit("b", nil, file("kept", 0o644))
	b.mustCommit("a", file("text", 0o644), link("b"))
	b.mustCommit("a", link("b"), file("new", 0o644))
	b.mustHold("b", file("kept", 0o644))
	b.mustList("a", "b")
}

func (b *bench) lastLink() {
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("l", nil, link("d"))
	b.mustHold("l", link("d"))
	if names, err := b.files.List(b.path("l")); err == nil {
		b.Errorf("List of a link: got %q, want an error", names)
	}
	b.mustCommit("l", link("d"), nil)
	b.mustHold("d", directory(0o755))
}

func (b *bench) linkInside() {
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("relative", nil, link("d"))
	b.mustCommit("absolute", nil, link(b.path("relative")))
	b.mustCommit("relative/a", nil, file("text", 0o644))
	b.mustHold("d/a", file("text", 0o644))
	b.mustHold("absolute/a", file("text", 0o644))
	b.mustCommit("absolute/a", file("text", 0o644), file("more", 0o644))
	b.mustHold("d/a", file("more", 0o644))
	b.mustCommit("round", nil, link("round"))
	b.mustRefuse(host.Edit{Path: b.path("round/a"), After: file("", 0o644)}, syscall.ELOOP)
}

func (b *bench) directory() {
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("d", directory(0o755), directory(0o700))
	b.mustCommit("d/e", nil, directory(0o750))
	b.mustCommit("d/e/f", nil, file("text", 0o644))
	b.mustCommit("d", directory(0o700), directory(0o755))
	b.mustHold("d/e/f", file("text", 0o644))
	if os.Geteuid() == 0 {
		given := directory(0o755)
		given.UID, given.GID = 65534, 65534
		b.mustCommit("d", directory(0o755), given)
	}
	b.mustList("d")
}

func (b *bench) notEmpty() {
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("d/a", nil, file("text", 0o644))
	b.mustRefuse(host.Edit{Path: b.path("d"), Before: directory(0o755)}, syscall.ENOTEMPTY)
	b.mustHold("d/a", file("text", 0o644))
	b.mustCommit("d/a", file("text", 0o644), nil)
	b.mustCommit("d", directory(0o755), nil)
	b.mustHold("d/a", nil)
	b.mustList()
}

func (b *bench) missingParent() {
	for name, after := range map[string]*host.File{"file": file("", 0o644), "directory": directory(0o755), "link": link("x")} {
		e := host.Edit{Path: b.path("missing/" + name), After: after}
		b.mustRefuse(e, fs.ErrNotExist)
		err := b.files.Commit(b.Context(), e)
		if fix := diag.Fix(err); !strings.Contains(fix, "directory") || !strings.Contains(fix, b.path("missing")) {
			b.Errorf("advice %q, want one that tells to add a directory block for %s", fix, b.path("missing"))
		}
	}
	b.mustList()
}

func (b *bench) parentIsFile() {
	b.mustCommit("a", nil, file("text", 0o644))
	b.mustRefuse(host.Edit{Path: b.path("a/b"), After: file("", 0o644)}, syscall.ENOTDIR)
	if _, err := b.files.Lookup(b.path("a/b")); !errors.Is(err, syscall.ENOTDIR) || diag.Fix(err) == "" {
		b.Errorf("Lookup inside a file: got %v (%s), want ENOTDIR with advice", err, diag.Fix(err))
	}
}

func (b *bench) moved() {
	one, two := file("one", 0o644), file("two", 0o644)
	b.mustCommit("a", nil, one)
	for name, e := range map[string]host.Edit{
		"created since":     {After: two},
		"other content":     {Before: two, After: file("three", 0o644)},
		"other mode":        {Before: file("one", 0o600), After: two},
		"other type":        {Before: link("x"), After: two},
		"removal, modified": {Before: two},
		"no-op, modified":   {Before: two, After: two},
	} {
		e.Path = b.path("a")
		b.mustRefuse(e, host.ErrMoved)
		if fix := diag.Fix(b.files.Commit(b.Context(), e)); fix != "Run converge plan again." {
			b.Errorf("%s: advice %q, want to plan again", name, fix)
		}
	}
	b.mustRefuse(host.Edit{Path: b.path("gone"), Before: one, After: two}, host.ErrMoved)
	b.mustRefuse(host.Edit{Path: b.path("gone/too"), Before: one, After: two}, host.ErrMoved)
	b.mustList("a")
}

func (b *bench) types() {
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("f", nil, file("", 0o644))
	b.mustRefuse(host.Edit{Path: b.path("d"), Before: directory(0o755), After: file("", 0o644)}, syscall.EISDIR)
	b.mustRefuse(host.Edit{Path: b.path("d"), Before: directory(0o755), After: link("x")}, syscall.EISDIR)
	b.mustRefuse(host.Edit{Path: b.path("f"), Before: file("", 0o644), After: directory(0o755)}, syscall.ENOTDIR)
	b.mustRefuse(host.Edit{Path: b.path("x"), After: &host.File{Type: host.Other}}, syscall.EINVAL)
	b.mustList("d", "f")
}

func (b *bench) list() {
	for _, name := range []string{"b", "a", "c"} {
		b.mustCommit(name, nil, file(name, 0o644))
	}
	b.mustCommit("d", nil, directory(0o755))
	b.mustCommit("d/below", nil, file("", 0o644))
	b.mustCommit("b", file("b", 0o644), nil)
	b.mustList("a", "c", "d")
	if names, err := b.files.List(b.path("a")); !errors.Is(err, syscall.ENOTDIR) {
		b.Errorf("List of a file: got %q, %v; want ENOTDIR", names, err)
	}
}

func (b *bench) opaque() {
	e := host.Edit{Path: b.path("a"), After: file("", 0o644), Opaque: true}
	if _, ok := b.files.(overlayFiles); ok {
		if err := b.files.Commit(b.Context(), e); err != nil {
			b.Fatalf("Stage of an opaque edit: %v", err)
		}
		if f, err := b.files.Lookup(e.Path); !errors.Is(err, host.ErrOpaque) {
			b.Errorf("Lookup of an opaque file: got %s, %v; want ErrOpaque", describe(f), err)
		}
		b.mustList("a")
		return
	}
	b.mustRefuse(e, host.ErrOpaque)
}

func (b *bench) unclean() {
	for _, name := range []string{"a", b.root + "/", b.root + "/../a", b.root + "//a", ""} {
		if _, err := b.files.Lookup(name); !errors.Is(err, fs.ErrInvalid) {
			b.Errorf("Lookup(%q): got %v, want fs.ErrInvalid", name, err)
		}
		b.mustRefuse(host.Edit{Path: name, After: file("", 0o644)}, fs.ErrInvalid)
	}
}

func (b *bench) copies() {
	mine := file("text", 0o644)
	b.mustCommit("a", nil, mine)
	copy(mine.Content, "MINE")
	got, err := b.files.Lookup(b.path("a"))
	if err != nil {
		b.Fatal(err)
	}
	copy(got.Content, "YOUR")
	b.mustHold("a", file("text", 0o644))
}
