package plans

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// recordVersion is the version of the record files' format.
const recordVersion = 1

// Records is what converge remembers between runs: for each resource, with what configuration it was last found converged,
// and what its kind asked to be remembered. Losing it is safe by the laws: it may cost a restart or a wait too many.
// The digests in it are keyed, so that a copy of it gives nothing away.
type Records struct {
	// Source is the directory of the configuration, so that one host's several configurations do not take the resources of
	// each other for left; "" where there is none.
	Source string

	dir   string
	files host.Files
	users host.Users
	key   []byte // nil until it is needed
	saved bool   // the key stands on disk

	mu   sync.Mutex
	seen map[resources.Address]*Record

	list  sync.Once       // of the records, when the first is asked for
	names map[string]bool // of their files; nil: they could not be listed
}

// OpenRecords opens the records below the state directory dir, which need not exist yet: it is made by the first Keep.
// Records that cannot be read for want of rights are as good as none, so that a plan works without root.
func OpenRecords(dir string, files host.Files, users host.Users) (*Records, error) {
	r := &Records{dir: dir, files: files, users: users, seen: map[resources.Address]*Record{}}
	f, err := files.Lookup(r.keyPath())
	switch {
	case errors.Is(err, fs.ErrPermission):
	case err != nil:
		return nil, diag.Wrap(err, "open the records in "+dir, "")
	case f != nil && len(f.Content) == sha256.Size:
		r.key, r.saved = f.Content, true
		return r, nil
	}
	r.key = make([]byte, sha256.Size)
	_, _ = rand.Read(r.key) // never fails: crypto/rand, Go 1.24
	return r, nil
}

func (r *Records) keyPath() string { return filepath.Join(r.dir, "key") }

func (r *Records) recordsDir() string { return filepath.Join(r.dir, "records") }

// Keyed returns what stands for digest in records and upstreams; "" stays "".
func (r *Records) Keyed(digest string) string {
	if digest == "" {
		return ""
	}
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(digest))
	return hex.EncodeToString(mac.Sum(nil))
}

// Of returns the record of one resource.
func (r *Records) Of(addr resources.Address) *Record {
	r.mu.Lock()
	rec, ok := r.seen[addr]
	if !ok {
		rec = &Record{of: r, addr: addr}
		r.seen[addr] = rec
	}
	r.mu.Unlock()
	rec.once.Do(func() { rec.body, rec.err = rec.read() }) // without the lock: reading is what takes time
	return rec
}

// Record is what is remembered of one resource.
type Record struct {
	of   *Records
	once sync.Once // of reading it
	addr resources.Address
	body recordBody
	err  error

	node *resources.Node // what it is of, once that is known to Keep
}

type recordBody struct {
	Version int                        `json:"version"`
	Address string                     `json:"address"`
	Config  string                     `json:"config,omitempty"` // keyed digest of the configuration it last converged with
	Values  map[string]json.RawMessage `json:"values,omitempty"`
	// Leaves says that it leaves something on the host when its block is deleted; Left is the run that noticed that.
	Leaves *leftovers `json:"leaves,omitempty"`
	Left   int        `json:"left,omitempty"`
	// Source is that of Records when it was last found converged.
	Source string `json:"source,omitempty"`
}

func (rec *Record) path() string {
	return filepath.Join(rec.of.recordsDir(), recordName(rec.addr.String()))
}

// recordName is the file of a record, named by the address, and by its digest where that is too long for a file name.
func recordName(address string) string {
	name := url.PathEscape(address)
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(name))
		name = name[:120] + "-" + hex.EncodeToString(sum[:])
	}
	return name + ".json"
}

// read loads the record. One that is not valid JSON counts as lost; one of a newer version is an error.
func (rec *Record) read() (recordBody, error) {
	none := recordBody{Version: recordVersion, Address: rec.addr.String()}
	if !rec.of.mayHave(filepath.Base(rec.path())) {
		return none, nil
	}
	f, err := rec.of.files.Lookup(rec.path())
	if errors.Is(err, fs.ErrPermission) || err == nil && f == nil {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	body := none
	valid := json.Unmarshal(f.Content, &body) == nil
	if !valid {
		return none, nil
	}
	if body.Version > recordVersion {
		return none, diag.New("read "+rec.path(), fmt.Sprintf("it has format version %d, and this converge knows up to %d", body.Version, recordVersion),
			"Use the newer converge that wrote it, or delete the file: at worst a service is restarted once more.")
	}
	return body, nil
}

// mayHave reports whether a record stood in the file of that name when the first was asked for. A first plan of many resources
// looks for none of their records then.
func (r *Records) mayHave(name string) bool {
	r.list.Do(func() {
		names, err := r.files.List(r.recordsDir())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return // looking for each says what is wrong
		}
		r.names = make(map[string]bool, len(names))
		for _, name := range names {
			r.names[name] = true
		}
	})
	return r.names == nil || r.names[name]
}

// ConvergedWith reports whether the resource was last found converged with the configuration of this digest.
func (rec *Record) ConvergedWith(config string) bool {
	return rec.err == nil && config != "" && rec.body.Config == rec.of.Keyed(config)
}

// Record implements resources.RecordView.
func (rec *Record) Record(name string, v any) (bool, error) {
	if rec.err != nil {
		return false, rec.err
	}
	raw, ok := rec.body.Values[name]
	return ok && json.Unmarshal(raw, v) == nil, nil
}

// Keyed implements resources.RecordView.
func (rec *Record) Keyed(text string) string { return rec.of.Keyed(text) }

// Keep remembers that the resource is converged with the configuration of that digest ("" keeps what was there), and the
// values. It writes only when something is new.
func (rec *Record) Keep(config string, values map[string]any) error {
	if rec.err != nil {
		return rec.err
	}
	body := rec.body
	if config != "" {
		body.Config = rec.of.Keyed(config)
	}
	body.Left = 0
	body.Source = cmp.Or(rec.of.Source, body.Source)
	if rec.node != nil && len(rec.node.Kind.Attrs) > 0 { // a rollback does not know what its kind leaves
		body.Leaves = leaves(rec.node)
	}
	body.Values = maps.Clone(rec.body.Values)
	for name, v := range values {
		raw, err := json.Marshal(v)
		if err != nil {
			return diag.Wrap(err, fmt.Sprintf("remember %s of %s", name, rec.addr), "This is a fault of converge; please report it.")
		}
		if body.Values == nil {
			body.Values = map[string]json.RawMessage{}
		}
		body.Values[name] = raw
	}
	if reflect.DeepEqual(body, rec.body) {
		return nil
	}
	if err := rec.write(body); err != nil {
		return err
	}
	rec.body = body
	return nil
}

func (rec *Record) write(body recordBody) error {
	if err := rec.of.SaveKey(); err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return diag.Wrap(err, "remember "+rec.addr.String(), "This is a fault of converge; please report it.")
	}
	return rec.of.put(rec.path(), append(text, '\n'))
}

// SaveKey makes the state directory with the key that Keyed depends on: whoever keeps what Keyed gave must have it there.
func (r *Records) SaveKey() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.saved {
		return nil
	}
	if err := r.ensureDir(r.recordsDir()); err != nil {
		return err
	}
	if err := r.put(r.keyPath(), r.key); err != nil {
		return err
	}
	r.saved = true
	return nil
}

// ensureDir makes dir and what is missing above it, for converge's own user alone.
func (r *Records) ensureDir(dir string) error {
	f, err := r.files.Lookup(dir)
	if err != nil {
		return err
	}
	if f != nil {
		return nil
	}
	if err := r.ensureDir(filepath.Dir(dir)); err != nil {
		return err
	}
	uid, gid := r.users.Self()
	return r.files.Commit(context.Background(), host.Edit{Path: dir, After: &host.File{Type: host.Directory, Mode: 0o700, UID: uid, GID: gid}})
}

func (r *Records) put(path string, content []byte) error {
	before, err := r.files.Lookup(path)
	if err != nil {
		return err
	}
	uid, gid := r.users.Self()
	after := &host.File{Content: content, Mode: 0o600, UID: uid, GID: gid}
	return r.files.Commit(context.Background(), host.Edit{Path: path, Before: before, After: after, Private: true})
}
