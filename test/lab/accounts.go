package lab

import (
	"crypto/rand"
	"errors"
	"strings"
	"sync"

	"github.com/versity/versitygw/auth"
)

// account is one key with its secret and its rights.
type account struct {
	key, secret string
	// may reports whether the key itself, beside any bucket policy, gives the right to an action on a bucket or object
	// ("bucket", "bucket/key").
	may func(action, resource string) bool
	// limits are those of a key that was made with rights of its own; nil for the agent's and the app's.
	limits *limits
}

// accounts is the gateway's directory of keys. It gives rights to a key as an IAM policy does: beside, not through, the
// policy of a bucket.
type accounts struct {
	mu    sync.RWMutex
	byKey map[string]account
}

var (
	_ auth.IAMService      = (*accounts)(nil)
	_ auth.PolicyEvaluator = (*accounts)(nil)
)

func newAccounts() *accounts { return &accounts{byKey: map[string]account{}} }

func (a *accounts) add(list ...account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, acc := range list {
		a.byKey[acc.key] = acc
	}
}

func (a *accounts) find(key string) (account, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	acc, ok := a.byKey[key]
	return acc, ok
}

// GetUserAccount returns the account of a key.
func (a *accounts) GetUserAccount(key string) (auth.Account, error) {
	acc, ok := a.find(key)
	if !ok {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	return auth.Account{Access: acc.key, Secret: acc.secret, Role: auth.RoleUser}, nil
}

// ResolveAccounts returns those of the keys that do not exist.
func (a *accounts) ResolveAccounts(keys []string) ([]string, error) {
	var missing []string
	for _, k := range keys {
		if _, ok := a.find(k); !ok {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// EvaluatePolicy answers for each resource and action whether the key has the right.
func (a *accounts) EvaluatePolicy(key, _ string, actions []auth.Action, resources []string, _ map[string][]string) (auth.PolicyEvaluation, error) {
	acc, ok := a.find(key)
	if !ok {
		return auth.PolicyEvaluation{}, auth.ErrNoSuchUser
	}
	var e auth.PolicyEvaluation
	fillDecisions(&e.Decisions, len(resources), len(actions), func(i, j int) bool {
		return acc.may(string(actions[j]), strings.TrimPrefix(resources[i], auth.ResourceArnPrefix))
	})
	return e, nil
}

// fillDecisions makes a matrix of versitygw's decisions. Their type is not exported, so it is inferred; 0 is "no statement
// matches" and 1 is "allow" (versitygw 1.8.0, auth/bucket_policy.go).
func fillDecisions[D ~int](into *[][]D, rows, columns int, allow func(row, column int) bool) {
	for i := range rows {
		row := make([]D, columns)
		for j := range columns {
			if allow(i, j) {
				row[j] = 1
			}
		}
		*into = append(*into, row)
	}
}

// errFixed is why the gateway's own administration of accounts does nothing here.
var errFixed = errors.New("the lab's accounts are not managed through the gateway")

// CreateAccount is refused: accounts come with a store.
func (a *accounts) CreateAccount(auth.Account) error { return errFixed }

// UpdateUserAccount is refused.
func (a *accounts) UpdateUserAccount(string, auth.MutableProps) error { return errFixed }

// DeleteUserAccount is refused.
func (a *accounts) DeleteUserAccount(string) error { return errFixed }

// ListUserAccounts returns none.
func (a *accounts) ListUserAccounts() ([]auth.Account, error) { return nil, nil }

// Shutdown has nothing to end.
func (a *accounts) Shutdown() error { return nil }

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	hexDigits    = "0123456789abcdef"
)

// randomText returns n random letters and digits.
func randomText(n int) string { return randomFrom(alphanumeric, n) }

// randomFrom returns n random characters of an alphabet of at most 256.
func randomFrom(alphabet string, n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand, Go 1.24
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
