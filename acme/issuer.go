// Package acme obtains certificates by the ACME protocol (RFC 8555), answers its HTTP-01 challenges, and says in an admin's
// words why an authority refused. It knows nothing of resources.
package acme

import (
	"context"
	"errors"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/secret"
	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/lego"
)

// LetsEncrypt is the production directory of Let's Encrypt (letsencrypt.org/docs/acme-protocol-updates).
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// patience bounds one issuance. An authority may ask for several seconds between two looks, for each of several names.
const patience = 5 * time.Minute

// Issuer obtains certificates.
type Issuer interface {
	// Obtain returns a new certificate with a new key. Cancelling ctx ends it soon. Errors are *diag.Error; a *Refusal in
	// their chain says that the authority itself said no.
	Obtain(ctx context.Context, r Request) (Certificate, error)
}

// Request is a certificate that is wanted.
type Request struct {
	Directory string // URL of the authority
	CAFile    string // authorities, in PEM, that the directory's own server is checked with; "" means those of the system
	Email     string // of the account's contact; may be ""
	Domains   []string
	KeyType   string // one of KeyTypes
	Profile   string // "" leaves the choice to the authority
	External  *ExternalAccount
	Account   Account
	Presenter Presenter
	Now       time.Time // that a "retry after so many seconds" counts from
}

// ExternalAccount binds the account to one that the authority knows already (RFC 8555, section 7.3.4).
type ExternalAccount struct {
	KeyID string
	HMAC  secret.String // base64url, as the authority gave it
}

// Certificate is a chain and its key, both in PEM.
type Certificate struct {
	Chain []byte
	Key   secret.String
}

// NewIssuer returns the issuer that speaks to real authorities, by lego.
func NewIssuer() Issuer { return issuer{} }

type issuer struct{}

// Obtain runs lego, which knows no context: its requests fail once ctx has ended, and its waiting is left behind.
func (issuer) Obtain(ctx context.Context, r Request) (Certificate, error) {
	silence()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o := &order{Request: r, presenter: &cleaner{ctx: ctx, Presenter: r.Presenter}}
	defer o.presenter.cleanAll()
	done := make(chan error, 1)
	var cert Certificate
	go func() {
		var err error
		cert, err = o.run(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return Certificate{}, o.explain(ctx, err)
		}
		return cert, nil
	case <-ctx.Done():
		return Certificate{}, o.explain(ctx, ctx.Err())
	}
}

// order is one issuance.
type order struct {
	Request
	presenter *cleaner
}

func (o *order) run(ctx context.Context) (Certificate, error) {
	user, err := o.Account.load(ctx, o.Directory, o.Email)
	if err != nil {
		return Certificate{}, err
	}
	known := user.registration != nil
	cert, err := o.obtain(ctx, user)
	if known && isProblem(err, "accountDoesNotExist") {
		user.registration = nil // the authority has forgotten it: a test authority that was set up anew
		cert, err = o.obtain(ctx, user)
	}
	return cert, err
}

func (o *order) obtain(ctx context.Context, user *user) (Certificate, error) {
	client, err := o.client(ctx, user)
	if err != nil {
		return Certificate{}, err
	}
	if err := o.register(ctx, client, user); err != nil {
		return Certificate{}, err
	}
	if err := client.Challenge.SetHTTP01Provider(o.presenter); err != nil {
		return Certificate{}, err
	}
	res, err := client.Certificate.Obtain(certificate.ObtainRequest{Domains: o.Domains, Bundle: true, Profile: o.Profile})
	if err != nil {
		return Certificate{}, err
	}
	cert := Certificate{Chain: res.Certificate, Key: secret.New(string(res.PrivateKey))}
	if _, err := ParsePair(cert.Chain, []byte(cert.Key.Reveal())); err != nil {
		return Certificate{}, diag.Wrap(err, "check what the authority issued", "Try again later; if it stays so, report it to the authority.")
	}
	return cert, nil
}

func (o *order) client(ctx context.Context, user *user) (*lego.Client, error) {
	transport, err := newTransport(ctx, o.CAFile, o.Account.Files)
	if err != nil {
		return nil, err
	}
	keyType, ok := keyTypes[o.KeyType]
	if !ok {
		return nil, errors.New("there is no key type " + o.KeyType)
	}
	config := lego.NewConfig(user)
	config.CADirURL = o.Directory
	config.UserAgent = "converge"
	config.HTTPClient = transport
	config.Certificate.KeyType = keyType
	config.Certificate.Timeout = patience
	return lego.NewClient(config)
}

// keyTypes are lego's names of the key types.
var keyTypes = map[string]certcrypto.KeyType{
	"ec256": certcrypto.EC256, "ec384": certcrypto.EC384,
	"rsa2048": certcrypto.RSA2048, "rsa3072": certcrypto.RSA3072, "rsa4096": certcrypto.RSA4096,
}

// KeyTypes lists the types of keys that a certificate can have.
func KeyTypes() []string { return []string{"ec256", "ec384", "rsa2048", "rsa3072", "rsa4096"} }
