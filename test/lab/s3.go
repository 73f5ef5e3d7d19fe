package lab

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Personality is a provider whose manners a store has.
type Personality int

// The personalities. They are simulations: what a provider does here is what its documents and its users report.
const (
	// MinIO has bucket policies, ignores the ACL of an object that is uploaded, and refuses every other use of ACLs.
	// Measured on MinIO of 2026-02-12, the last release.
	MinIO Personality = iota
	// B2 has one ACL for a whole bucket, no policies, and refuses the checksum headers of newer SDKs.
	// "S3-Compatible API" of the Backblaze B2 documents, and mastodon/mastodon issue 33624.
	B2
	// AWS blocks public access and refuses ACLs on a new bucket, until its owner says otherwise. Amazon S3 API Reference and
	// User Guide.
	AWS
	// Scaleway has ACLs of objects and of buckets, and a bucket's policy there locks out whom it does not name. Scaleway docs,
	// "Object Storage".
	Scaleway
	// R2 has neither ACLs nor policies: objects become public by a domain that is connected to their bucket. Cloudflare R2
	// docs, "S3 API compatibility" and "Error codes".
	R2
	// IDrive is made of MinIO, and tells the endpoint of an access key. IDrive e2 docs, "Get Region Endpoint".
	IDrive
	// Wasabi has policies, and ACLs that come before them. Wasabi docs.
	Wasabi
)

// String gives the name that a configuration has for the provider.
func (p Personality) String() string {
	return [...]string{
		MinIO:    "minio",
		B2:       "backblaze-b2",
		AWS:      "aws",
		Scaleway: "scaleway",
		R2:       "cloudflare-r2",
		IDrive:   "idrive-e2",
		Wasabi:   "wasabi",
	}[p]
}

// S3 is one store: an endpoint with two keys and its own buckets. Several stores of a lab share no bucket, but like those of
// one provider no bucket name either.
type S3 struct {
	Personality Personality
	Endpoint    string // "https://127.0.0.1:40001"
	Region      string
	// Name is a host name that its certificate is for too, with any bucket before it: "s3.us-west-001.backblazeb2.test".
	// Who uses it finds the lab's address by a line in /etc/hosts.
	Name string

	// The agent's key may do everything with the store's buckets, and make new ones.
	AgentKey, AgentSecret string
	// The app's key may get, put and delete objects, and nothing else.
	AppKey, AppSecret string

	// PublicHost is the address ("ip:port") of the server of the domains that are connected to buckets, of R2. See ConnectDomain.
	PublicHost string
	// Discovery is the address of the service that tells the endpoint of an access key, of iDrive: "https://127.0.0.1:40002/...".
	Discovery string

	lab     *Lab
	rules   rules
	gateway *gateway
	file    string // where its keys and buckets are kept; "" where they are not

	mu      sync.RWMutex
	buckets map[string]*bucket
	keys    map[string]bool // made beside the agent's and the app's
	revoked map[string]bool
	unshown bool // see ForbidPublicUse
	counts  map[string]int64
	serving int // requests
	fault   Order
}

// bucket is what a front knows of a bucket and the gateway does not.
type bucket struct {
	ACL       string `json:",omitempty"` // "private" or "public-read", of B2 and where ACLs are judged here
	Lifecycle []byte `json:",omitempty"` // the document

	Settings map[string][]byte `json:",omitempty"` // documents, by subresource: "policy"
	Uploads  map[string]string `json:",omitempty"` // canned ACLs of multipart uploads
	Domains  []string          `json:",omitempty"` // that are connected, of R2
	Region   string            `json:",omitempty"` // where it is, if not where its store is
}

// rules are what a provider does otherwise than the gateway.
type rules interface {
	region() string
	newKeys() (agent, app account) // without rights
	domains() []string             // below which a host names a bucket

	// refuse looks at a request before its signature is checked.
	refuse(r *http.Request, sig *signature) *apiError
	// serve answers a call itself, or reports false, when it may have changed r, its caller or what is known of the bucket.
	serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool
	// answered may change the gateway's answer.
	answered(c *call, resp *http.Response) error
}

// S3 starts a store. It ends with the lab.
func (l *Lab) S3(_ context.Context, p Personality) (*S3, error) {
	s := &S3{
		Personality: p,
		lab:         l,
		gateway:     l.gateway,
		rules:       [...]rules{MinIO: minioRules{}, B2: b2Rules{}, AWS: awsRules{}, Scaleway: scalewayRules{}, R2: r2Rules{}, IDrive: idriveRules{}, Wasabi: wasabiRules{}}[p],
		buckets:     map[string]*bucket{},
		keys:        map[string]bool{},
		revoked:     map[string]bool{},
		counts:      map[string]int64{},
	}
	s.Region, s.Name = s.rules.region(), s.rules.domains()[0]
	agent, app := s.rules.newKeys()
	s.AgentKey, s.AgentSecret, s.AppKey, s.AppSecret = agent.key, agent.secret, app.key, app.secret
	if err := s.recall(); err != nil {
		return nil, fmt.Errorf("start a %s store: %w", p, err)
	}
	l.gateway.iam.add(account{key: s.AgentKey, secret: s.AgentSecret, may: s.agentMay}, account{key: s.AppKey, secret: s.AppSecret, may: s.appMay})
	addr, err := l.serve(s)
	if err != nil {
		return nil, fmt.Errorf("start a %s store: %w", p, err)
	}
	s.Endpoint = "https://" + addr
	if r, ok := s.rules.(interface{ start(*S3) error }); ok { // what the provider has besides the store
		if err := r.start(s); err != nil {
			return nil, fmt.Errorf("start a %s store: %w", p, err)
		}
	}
	l.gateway.mu.Lock()
	defer l.gateway.mu.Unlock()
	l.gateway.stores = append(l.gateway.stores, s)
	return s, nil
}

// ServeHTTP answers one request of a client. It is exported for net/http alone.
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := parseCall(r, s.rules.domains())
	counted := &statusWriter{ResponseWriter: w, count: func(status int) { s.count(c.operation, status) }}
	s.serves(1)
	defer func() { // a fault may leave by a panic
		counted.answers(0)
		s.serves(-1)
	}()
	if f := s.faultFor(r); f != nil {
		f.serve(counted, r, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, c) })
		return
	}
	s.serve(counted, r, c)
}

func (s *S3) serve(w http.ResponseWriter, r *http.Request, c *call) {
	if err := s.authenticate(r, c); err != nil {
		s.refuse(w, r, err)
		return
	}
	if c.bucket != "" && c.operation != "CreateBucket" && !s.has(c.bucket) {
		s.refuse(w, r, errNoSuchBucket)
		return
	}
	s.lendRights(c)
	if s.rules.serve(s, c, w, r) {
		return
	}
	s.forward(w, r, c)
}

// refuse answers with an error that all fronts know, in the provider's own words where it has such.
func (s *S3) refuse(w http.ResponseWriter, r *http.Request, err *apiError) {
	if own, ok := s.rules.(interface{ words(*apiError) *apiError }); ok {
		err = own.words(err)
	}
	err.write(w, r)
}

// authenticate finds out who calls, and refuses those who only pretend.
func (s *S3) authenticate(r *http.Request, c *call) *apiError {
	sig, bad := parseSignature(r)
	if bad != nil {
		return bad
	}
	if err := s.rules.refuse(r, sig); err != nil {
		return err
	}
	if sig == nil {
		c.anonymous = true
		return nil
	}
	acc, ok := s.account(sig.key)
	switch {
	case !ok:
		return errUnknownKey(sig.key)
	case len(sig.payload) > 16 && sig.payload[:16] == "STREAMING-AWS4-H":
		return errChunkSignatures
	}
	c.caller = acc
	if bad := sig.check(r, acc.secret, time.Now()); bad != nil {
		return bad
	}
	return s.refusesOthersBucket(c)
}

// account returns the account of one of this store's keys.
func (s *S3) account(key string) (account, bool) {
	if !s.knows(key) {
		return account{}, false
	}
	return s.gateway.iam.find(key)
}

// has reports whether a bucket is one of this store's.
func (s *S3) has(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.buckets[name] != nil
}

// know returns what is known of a bucket, for f to read or change.
func (s *S3) know(name string, f func(*bucket)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.buckets[name]; b != nil {
		f(b)
		s.save()
	}
}

// acl returns the ACL of a bucket, of B2.
func (s *S3) acl(name string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.buckets[name]; b != nil {
		return b.ACL
	}
	return ""
}

func (s *S3) agentMay(action, resource string) bool {
	name, _, _ := strings.Cut(resource, "/")
	return action == "s3:CreateBucket" || action == "s3:ListAllMyBuckets" || s.has(name)
}

func (s *S3) appMay(action, resource string) bool {
	name, _, isObject := strings.Cut(resource, "/")
	names := isObject || action == "s3:DeleteObject" // DeleteObjects names its objects in the body
	if !names || !s.has(name) {
		return false
	}
	switch action {
	case "s3:GetObject", "s3:GetObjectAttributes", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
		"s3:ListMultipartUploadParts", "s3:PutObjectAcl", "s3:GetObjectAcl":
		return true
	}
	return false
}

// Requests returns how many requests came since the store began or ResetRequests was called, by operation and class of
// status: "PutObject 2xx". Answers that were lost on purpose count as "PutObject lost". An answer is counted before it is sent, so
// that the requests of who has all answers are counted.
func (s *S3) Requests() map[string]int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.counts)
}

// ResetRequests forgets the requests counted so far.
func (s *S3) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.counts)
}

func (s *S3) count(operation string, status int) {
	class := "lost"
	if status > 0 {
		class = fmt.Sprintf("%dxx", status/100)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[operation+" "+class]++
}

func (s *S3) serves(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving += n
}

// AwaitIdle waits until no request is being served, or for the end of ctx: what a client that was killed has sent is done or
// not done then.
func (s *S3) AwaitIdle(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.RLock()
		idle := s.serving == 0
		s.mu.RUnlock()
		if idle {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until the store is idle: %w", ctx.Err())
		}
	}
}

// Buckets returns the names of the store's buckets, sorted.
func (s *S3) Buckets() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.buckets))
}

// discard reads the rest of a body, so that its connection can be used again.
func discard(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, body)
	_ = body.Close()
}
