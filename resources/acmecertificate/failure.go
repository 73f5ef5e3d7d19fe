package acmecertificate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"path"
	"time"

	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
)

// failure is the last try that the authority refused. It stands in the state directory, for a record is only kept of what
// converged. Losing it costs one try.
type failure struct {
	Request string    `json:"request"` // digest of what was asked for: another request may be tried at once
	Count   int       `json:"count"`   // refusals in a row
	At      time.Time `json:"at"`
	Until   time.Time `json:"until"`
	Why     string    `json:"why"`

	path string
}

// The delay after the first refusal, which doubles with each, and its bound. Let's Encrypt counts five failed validations
// of a name an hour (letsencrypt.org/docs/rate-limits): with these there are four in the first.
const (
	firstDelay = 5 * time.Minute
	lastDelay  = 24 * time.Hour
)

func (c *certificate) stateDir(env resources.ReadEnv) string {
	return path.Join(env.StateDir, "acme_certificate")
}

func (c *certificate) failurePath(env resources.ReadEnv) string {
	return path.Join(c.stateDir(env), "failures", url.PathEscape(c.address.String())+".json")
}

// requestDigest stands for what is asked of the authority.
func (c *certificate) requestDigest() string {
	text, err := json.Marshal([]any{c.Domains, c.Directory, c.Email, c.Profile, c.KeyType, c.Port, c.Address, c.External != nil})
	if err != nil { // strings and numbers
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// readFailure returns the last refusal of this very request, or nil.
func (c *certificate) readFailure(env resources.ReadEnv) (*failure, error) {
	f, err := env.Files.Lookup(c.failurePath(env))
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil // a plan without root's rights; at worst it shows a try that apply then puts off
	}
	if err != nil || f == nil {
		return nil, err
	}
	var last failure
	if err := json.Unmarshal(f.Content, &last); err != nil || last.Request != c.requestDigest() {
		return nil, nil //nolint:nilerr // one that cannot be read is as good as none
	}
	last.path = c.failurePath(env)
	return &last, nil
}

// remember keeps that the authority refused, so that it is not asked again at once, and returns err. Where the authority
// did not answer at all there is nothing to keep.
func (c *certificate) remember(ctx context.Context, env resources.Env, err error) error {
	var refusal *acme.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	last, readErr := c.readFailure(env.ReadEnv)
	if readErr != nil || last == nil {
		last = &failure{Request: c.requestDigest()}
	}
	now := env.Clock.Now()
	delay := min(firstDelay<<min(last.Count, 16), lastDelay)
	last.Count, last.At, last.Until, last.Why = last.Count+1, now, now.Add(delay), refusal.Error()
	if refusal.RetryAt.After(last.Until) {
		last.Until = refusal.RetryAt
	}
	text, jsonErr := json.Marshal(last)
	if jsonErr != nil {
		return errors.Join(err, jsonErr)
	}
	if writeErr := c.writeFailure(context.WithoutCancel(ctx), env, append(text, '\n')); writeErr != nil {
		return diag.Wrap(errors.Join(err, writeErr), "", diag.Fix(err))
	}
	return err
}

// writeFailure keeps content, or forgets the failure where that is nil.
func (c *certificate) writeFailure(ctx context.Context, env resources.Env, content []byte) error {
	name := c.failurePath(env.ReadEnv)
	before, err := env.Files.Lookup(name)
	if err != nil || before == nil && content == nil {
		return err
	}
	uid, gid := env.Users.Self()
	e := host.Edit{Path: name, Before: before, Private: true}
	if content != nil {
		e.After = &host.File{Content: content, Mode: 0o600, UID: uid, GID: gid}
	}
	dirs, err := host.MissingDirs(env.Files, path.Dir(name), 0o700, uid, gid)
	if err != nil {
		return err
	}
	for _, e := range append(dirs, e) {
		if err := env.Files.Commit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
