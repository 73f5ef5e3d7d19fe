package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"path"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
)

// Account is where the account at an authority is kept: its key and what the authority calls it, in a directory that only
// its owner may enter. Losing it costs a new account and nothing else.
type Account struct {
	Files    host.Files
	Dir      string
	UID, GID int
}

// user is the account as lego wants it.
type user struct {
	email        string
	key          crypto.PrivateKey
	registration *registration.Resource // nil: not registered yet
}

func (u *user) GetEmail() string                        { return u.email }
func (u *user) GetRegistration() *registration.Resource { return u.registration }
func (u *user) GetPrivateKey() crypto.PrivateKey        { return u.key }

// saved is the content of account.json.
type saved struct {
	Directory string `json:"directory"`
	URI       string `json:"uri"`
}

func (a Account) keyPath() string  { return path.Join(a.Dir, "account.key") }
func (a Account) infoPath() string { return path.Join(a.Dir, "account.json") }

// load returns the account as it is kept, with a new key where there is none.
func (a Account) load(ctx context.Context, directory, email string) (*user, error) {
	f, err := a.Files.Lookup(a.keyPath())
	if err != nil {
		return nil, err
	}
	if f == nil {
		return a.create(ctx, email)
	}
	block, _ := pem.Decode(f.Content)
	if block == nil {
		return nil, a.spoiled(errors.New("it holds no PEM block"))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, a.spoiled(errors.New("it holds no EC private key"))
	}
	u := &user{email: email, key: key}
	info, err := a.Files.Lookup(a.infoPath())
	if err != nil {
		return nil, err
	}
	var s saved
	if info != nil && json.Unmarshal(info.Content, &s) == nil && s.Directory == directory && s.URI != "" {
		u.registration = &registration.Resource{URI: s.URI}
	}
	return u, nil // without a registration the authority finds the account by its key (RFC 8555, section 7.3.1)
}

func (a Account) spoiled(err error) error {
	return diag.Wrap(err, "read the account key "+a.keyPath(), "Move the file away: a new account is then made by itself.")
}

func (a Account) create(ctx context.Context, email string) (*user, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, diag.Wrap(err, "make an account key", "")
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, diag.Wrap(err, "make an account key", "")
	}
	dirs, err := host.MissingDirs(a.Files, a.Dir, 0o700, a.UID, a.GID)
	if err != nil {
		return nil, err
	}
	for _, e := range dirs {
		if err := a.Files.Commit(ctx, e); err != nil {
			return nil, err
		}
	}
	if err := a.write(ctx, a.keyPath(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	return &user{email: email, key: key}, nil
}

func (a Account) write(ctx context.Context, name string, content []byte) error {
	before, err := a.Files.Lookup(name)
	if err != nil {
		return err
	}
	after := &host.File{Content: content, Mode: 0o600, UID: a.UID, GID: a.GID}
	return a.Files.Commit(ctx, host.Edit{Path: name, Before: before, After: after, Private: true})
}

// register makes sure that the authority knows the account. Applying means agreeing to the authority's terms of service.
func (o *order) register(ctx context.Context, client *lego.Client, u *user) error {
	if u.registration != nil {
		return nil
	}
	var res *registration.Resource
	var err error
	if o.External != nil {
		res, err = client.Registration.RegisterWithExternalAccountBinding(registration.RegisterEABOptions{
			TermsOfServiceAgreed: true, Kid: o.External.KeyID, HmacEncoded: o.External.HMAC.Reveal(),
		})
	} else {
		res, err = client.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true})
	}
	if err != nil {
		return err
	}
	u.registration = res
	text, err := json.Marshal(saved{Directory: o.Directory, URI: res.URI})
	if err != nil {
		return diag.Wrap(err, "keep the account", "")
	}
	return o.Account.write(ctx, o.Account.infoPath(), append(text, '\n'))
}
