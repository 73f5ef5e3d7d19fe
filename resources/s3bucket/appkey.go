package s3bucket

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
)

// keyRecord is the name of our record of the app's key.
const keyRecord = "app-key"

// keyVersion is the version of that record's format.
const keyVersion = 1

// triedKey remembers with which key the app was last found to work on this bucket.
type triedKey struct {
	Version  int       `json:"version"`
	Bucket   string    `json:"bucket"`   // its address
	Key      string    `json:"key"`      // keyed digest of the id and the secret
	Settings string    `json:"settings"` // digest of how it is used
	At       time.Time `json:"at"`
}

// hasAppKey reports whether there is a key of the app's to try. One that is missing fails what uses it, and that is not the bucket.
func (b *bucket) hasAppKey() bool {
	return b.App != nil && b.App.AccessKeyID.Missing() == nil && b.App.SecretAccessKey.Missing() == nil
}

// appStore is the store as the app sees it.
func (b *bucket) appStore() objectstore.Config {
	c := b.Store
	c.AccessKeyID, c.SecretAccessKey = b.App.AccessKeyID, b.App.SecretAccessKey
	return c
}

// keyProbes are what the app does in the bucket.
func (b *bucket) keyProbes() objectstore.KeyProbes {
	p := objectstore.KeyProbes{Bucket: b.Name, Prefix: publicPrefixes[0], Private: b.hiddenPrefixes()[0], ACL: b.objectACL()}
	if len(b.Prefixes) > 0 {
		p.Prefix = b.Prefixes[0]
	}
	return p
}

// keyNow is what would be remembered of the key as it is written now.
func (b *bucket) keyNow(records resources.RecordView, at time.Time) triedKey {
	key := encoded(b.App.AccessKeyID.Reveal(), b.App.SecretAccessKey.Reveal())
	settings := sha256.Sum256([]byte(encoded(b.Store.Provider, b.Store.Region, b.keyProbes(), b.provider.BatchDelete)))
	return triedKey{
		Version: keyVersion, Bucket: b.address(), Key: records.Keyed("app key " + key), Settings: fmt.Sprintf("%x", settings), At: at,
	}
}

func encoded(parts ...any) string {
	raw, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	return string(raw)
}

// keyState is what Read found of the app's key.
type keyState struct {
	Tried   *triedKey // as it is written now; nil when it was not tried with these settings
	Rotated bool      // another key has worked here before
}

func (b *bucket) readKey(env resources.ReadEnv) (keyState, error) {
	if !b.hasAppKey() {
		return keyState{}, nil
	}
	var last triedKey
	if _, err := env.Records.Record(keyRecord, &last); err != nil {
		return keyState{}, err
	}
	now := b.keyNow(env.Records, last.At)
	rotated := last.Version == keyVersion && last.Bucket == now.Bucket && last.Key != now.Key
	if b.tried != nil {
		last = *b.tried // by this run
	}
	now.At = last.At
	if last != now {
		return keyState{Rotated: rotated}, nil
	}
	return keyState{Tried: &last, Rotated: rotated}, nil
}

// tryKey says why the app's key is to be tried; "" where it need not be.
func (b *bucket) tryKey(st *state) string {
	switch tried := st.Key.Tried; {
	case !b.hasAppKey():
		return ""
	case st.Key.Rotated && tried == nil:
		return "it is another key than before"
	case tried == nil:
		return "not yet tried with these settings"
	case st.Now.Sub(tried.At).Abs() >= probesAge:
		return "last tried on " + tried.At.Format(time.DateOnly)
	}
	return ""
}

func (b *bucket) keyEffect(st *state) resources.Effect {
	return b.costs(resources.Effect{
		Verb: "probe", Target: "the app's key", Why: b.tryKey(st), Operations: b.keyProbes().Operations(b.provider),
	})
}

// applyKey tries the app's key before anything that depends on the bucket writes it anywhere.
func (b *bucket) applyKey(ctx context.Context, env resources.Env, s *objectstore.Store) error {
	app, err := b.clients.Store(b.appStore())
	if err != nil {
		return err
	}
	if err := s.ProbeKey(ctx, app, b.keyProbes()); err != nil {
		return err
	}
	tried := b.keyNow(env.Records, env.Clock.Now().UTC())
	b.tried = &tried
	return nil
}

// keyNotes are what an admin should know of the app's key.
func (b *bucket) keyNotes(st *state) []string {
	var notes []string
	switch {
	case b.App == nil:
		notes = append(notes, "without app_credentials, mastodon_env leaves AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as they are")
	case !b.hasAppKey():
		notes = append(notes, "the app's key is missing or cannot be right, so it is not tried")
	case b.App.AccessKeyID.Reveal() == b.Store.AccessKeyID.Reveal():
		notes = append(notes, "app_credentials are converge's own key: give the app its own, which cannot change the bucket")
	}
	if st.Key.Rotated && st.Key.Tried == nil {
		notes = append(notes, "the app's key is another than before: it is tried first, and "+oldKey)
	}
	return notes
}

// oldKey is what to do with a key that is used no more. Its id is a secret like the key itself.
const oldKey = "once this run has ended well, the key used before may be deleted at the provider"

// keyWords say of a key that works since when that is known.
func (st *state) keyWords() string {
	if st.Key.Tried == nil {
		return ""
	}
	words := "; the app's key was tried on " + st.Key.Tried.At.Format(time.DateOnly)
	if st.Key.Rotated {
		words += "; " + oldKey
	}
	return words
}
