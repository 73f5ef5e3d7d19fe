// Package s3sync is the kind s3_sync: every file of a directory has an object with the same bytes in a bucket. It copies, and
// deletes no file. What was once shown to be in the bucket and is gone from it stays gone. Until the app is switched to the
// bucket it can follow what the app deletes from the directory; see withdraw.go.
package s3sync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/objectstore/ledger"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// store is what a sync needs of an object store; *objectstore.Store is one.
type store interface {
	List(ctx context.Context, bucket, prefix, after string) iter.Seq2[objectstore.Object, error]
	Head(ctx context.Context, bucket, key string) (objectstore.Object, error)
	Put(ctx context.Context, bucket string, p objectstore.Put) (etag string, err error)
	Delete(ctx context.Context, bucket, key string) error
	Requests() map[string]int64
}

// defaultWorkers is how many files are copied at a time where concurrency is not written. Most files are small, so that it
// is the latency of requests that counts.
const defaultWorkers = 32

// Kind returns the kind s3_sync over these clients.
func Kind(clients *objectstore.Clients) *resources.Kind {
	return newKind(func(c objectstore.Config) (store, error) { return clients.Store(c) })
}

// newKind returns the kind over whatever open gives as the store of a configuration.
func newKind(open func(objectstore.Config) (store, error)) *resources.Kind {
	seen := &counted{}
	return resources.NothingWhenAbsent(&resources.Kind{
		Name: "s3_sync",
		Doc: "Every file of a local directory is in a bucket, with the same bytes and the headers that Mastodon gives its " +
			"uploads. No object is overwritten, and no file deleted. What was once in the bucket and was deleted there is not " +
			"copied again. An object is deleted only with delete_until, and only if it was uploaded from here, is unchanged, and " +
			"its file is gone. backups/ and imports/ are never copied.",
		Attrs: attrs(),
		Scope: resources.Instance, // a tree that several hosts share is copied by one of them
		New: func(_ resources.Address, written cty.Value) (resources.Resource, cty.Value, error) {
			s, err := newSync(open, written)
			if err != nil {
				return nil, cty.NilVal, err
			}
			s.seen = seen
			return s, cty.EmptyObjectVal, nil
		},
	}, "With \"absent\" nothing is copied any more. No file and no object is removed, nor what converge remembers of them: were "+
		"they copied again later, what was deleted from the bucket must not come back.")
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "bucket", Ref: []string{"s3_bucket"}, Required: true, Secret: true, Uses: []string{"store"}, Doc: "The bucket to copy to."},
		{Name: "source", Type: cty.String, Required: true, Format: resources.Path,
			Doc: "The directory whose files are copied: for Mastodon, public/system below its home."},
		{Name: "prefix", Type: cty.String, Default: cty.StringVal(""),
			Doc: "What every key in the bucket begins with, such as \"media/\"; S3_KEY_PREFIX of Mastodon. Not written: nothing."},
		{Name: "include", Type: cty.List(cty.String),
			Doc: "Patterns of the files to copy, by their path below source: ** stands for anything, * and ? for anything but a " +
				"slash. Not written: all."},
		{Name: "exclude", Type: cty.List(cty.String),
			Doc: "Patterns of files that are not copied. Directories named backups and imports, wherever they stand, always count among " +
				"them: they hold private data."},
		{Name: "delete_until", Type: cty.String, Format: resources.Path,
			Doc: "Before the switch the app deletes from its disk alone, and what it deletes after it was copied would be public in the " +
				"bucket for ever. With this path such objects are deleted, until something stands there: let a file block write it when " +
				"the last s3_sync is done, as for fallback_until of an nginx_site. From then on no object is ever deleted, whatever is " +
				"removed from source. Where much is gone at once, or a disk of source may not be mounted, nothing is deleted and a " +
				"person is asked. Not written: no object is deleted."},
		{Name: "max_runtime", Type: cty.String, Format: resources.Duration,
			Doc: "How long one run copies before it yields; the next run goes on. Not written: until all is copied."},
		{Name: "concurrency", Type: cty.Number, Default: cty.NumberIntVal(defaultWorkers),
			Doc: "How many files are copied at a time, at most. It starts with fewer, and falls back when the store throttles."},
		{Name: "bandwidth", Type: cty.String, Format: resources.Rate,
			Doc: "How much is sent at most, such as \"20MB/s\". Not written: as much as the line takes."},
	}
}

// config is what somebody wrote.
type config struct {
	Bucket struct {
		Name      string             `attr:"name"`
		Provider  string             `attr:"provider"`
		ObjectACL string             `attr:"object_acl"`
		Store     objectstore.Config `attr:"store"`
	} `attr:"bucket"`
	Source      string          `attr:"source"`
	Prefix      string          `attr:"prefix"`
	Include     []string        `attr:"include"`
	Exclude     []string        `attr:"exclude"`
	DeleteUntil string          `attr:"delete_until"`
	MaxRuntime  time.Duration   `attr:"max_runtime"`
	Concurrency int64           `attr:"concurrency"`
	Bandwidth   resources.Bytes `attr:"bandwidth"`
}

// resource is one s3_sync.
type resource struct {
	config
	filter *filter
	place  ledger.Place
	open   func(objectstore.Config) (store, error)
	seen   *counted

	grace    time.Duration // how long files may go on after max_runtime that were begun before
	patience time.Duration // how long an apply waits for a plan that reads the ledger

	// cutoff is the moment up to which this run owes what changed; see fixCutoff. Zero until it is fixed.
	cutoff time.Time
	// gone are the keys whose files were gone when the plan was made, and whose objects this run may delete; nil until then.
	gone map[string]struct{}
	// announced says that the plan was made when they could not be known yet, and said so.
	announced bool
	withdrawn int64 // objects deleted in this run
}

func newSync(open func(objectstore.Config) (store, error), written cty.Value) (*resource, error) {
	s := &resource{open: open, grace: 10 * time.Minute, patience: 5 * time.Minute}
	if err := resources.Decode(written, &s.config); err != nil {
		return nil, err
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	s.place = ledger.Place{Endpoint: s.Bucket.Store.Endpoint, Bucket: s.Bucket.Name, Prefix: s.Prefix, Source: s.Source}
	return s, nil
}

// complete checks the configuration and brings it into the form that the rest works with.
func (s *resource) complete() error {
	if s.Prefix != "" && !strings.HasSuffix(s.Prefix, "/") {
		s.Prefix += "/"
	}
	switch {
	case strings.HasPrefix(s.Prefix, "/"), strings.Contains(s.Prefix, "//"), strings.Contains("/"+s.Prefix, "/../"):
		return attrError("prefix", fmt.Errorf("%q is not the beginning of a key; write one such as \"media/\"", s.Prefix))
	case s.Concurrency < 1 || s.Concurrency > objectstore.MaxWorkers:
		return attrError("concurrency", fmt.Errorf("it must be from 1 to %d", objectstore.MaxWorkers))
	case s.MaxRuntime != 0 && s.MaxRuntime < time.Second:
		return attrError("max_runtime", fmt.Errorf("in less than a second nothing gets copied; write one such as \"50m\""))
	case s.Bandwidth != 0 && s.Bandwidth < 1000:
		return attrError("bandwidth", fmt.Errorf("it is less than 1KB/s; write one such as \"20MB/s\""))
	}
	if dir := privateSource(s.Source); dir != "" {
		return attrError("source", fmt.Errorf("%q is where Mastodon keeps private files of %s, which are never copied; write the directory system above it", s.Source, dir))
	}
	var err error
	s.filter, err = newFilter(s.Prefix, s.Include, s.Exclude)
	return err
}

func attrError(name string, err error) error {
	return &resources.AttrError{Path: []string{name}, Err: err}
}

// Claims names the ledger, by its path below the state directory: syncs of one directory to one place take turns.
func (s *resource) Claims() []resources.Claim { return []resources.Claim{{Path: s.ledgerName()}} }

// Watches is empty: nobody reads what a sync writes.
func (s *resource) Watches() []string { return nil }

// ledgerName is the path of the ledger below the state directory. Syncs of the same files to the same place share it.
func (s *resource) ledgerName() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{s.place.Endpoint, s.place.Bucket, s.place.Prefix, s.place.Source}, "\x00")))
	return filepath.Join("s3_sync", hex.EncodeToString(sum[:8])+".db")
}

func (s *resource) ledgerPath(env resources.ReadEnv) string {
	return filepath.Join(env.StateDir, s.ledgerName())
}
