package lab

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// r2Account is the account that the R2 stores pretend to be of.
const r2Account = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"

// r2Rules are the manners of Cloudflare R2: "S3 API compatibility", "Error codes", "Authentication", "Public buckets" and
// "Object lifecycles" of its documents, read 2026-11, and where a comment names it what its users were answered. That an
// object token is refused a HEAD of its bucket with 403 follows from the table of permissions; one user was answered 401
// (rancher/backup-restore-operator issue 573). Who is refused below a connected domain, and how, but for what is not found,
// is an assumption.
type r2Rules struct{}

func (r2Rules) region() string { return "auto" }

func (r2Rules) domains() []string {
	var list []string
	for _, top := range []string{".test", ".com"} {
		for _, jurisdiction := range []string{"", ".eu"} {
			list = append(list, r2Account+jurisdiction+".r2.cloudflarestorage"+top)
		}
	}
	return list
}

// newKeys makes tokens as "Authentication" describes them: the id of a token is the key, and the SHA-256 of its value the
// secret.
func (r2Rules) newKeys() (agent, app account) {
	key := func() account {
		secret := sha256.Sum256([]byte(randomText(40)))
		return account{key: randomFrom(hexDigits, 32), secret: hex.EncodeToString(secret[:])}
	}
	return key(), key()
}

// gives knows the permissions of tokens by the names of the web console ("Authentication", "Permissions").
func (r2Rules) gives(right, operation string, _ bool) bool {
	reads := strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "Head") || strings.HasPrefix(operation, "List")
	switch right {
	case "Admin Read & Write":
		return true
	case "Admin Read only":
		return reads
	case r2ObjectToken:
		return slices.Contains(r2ObjectOperations, operation)
	case "Object Read only":
		return reads && slices.Contains(r2ObjectOperations, operation)
	}
	return false
}

// r2ObjectToken is the permission that an app's token has.
const r2ObjectToken = "Object Read & Write"

// r2Regions are those that a signature may name (jeessy2/backup-x issue 127); "" and us-east-1 stand for auto.
var r2Regions = []string{"wnam", "enam", "weur", "eeur", "apac", "oc", "auto"}

func (r2Rules) refuse(r *http.Request, sig *signature) *apiError {
	switch {
	case sig == nil && r.Method == http.MethodOptions:
		return nil
	case sig == nil: // JiQingzhe2004/R2APP issue 1, usememos/memos issue 2436
		return &apiError{400, "InvalidArgument", "Authorization"}
	case len(sig.key) != 32: // grafana/loki issue 9224
		return &apiError{400, "InvalidArgument", fmt.Sprintf("Credential access key has length %d, should be 32", len(sig.key))}
	case sig.payload == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": // soto-project/soto issue 643
		return errR2NotImplemented(sig.payload)
	}
	return r2Region(sig.region)
}

func r2Region(name string) *apiError {
	if name == "" || name == "us-east-1" || slices.Contains(r2Regions, name) {
		return nil
	}
	return &apiError{400, "InvalidRegionName", fmt.Sprintf("The region name '%s' is not valid. Must be one of: %s", name, strings.Join(r2Regions, ", "))}
}

// errR2NotImplemented says of an operation, or of a header, that R2 does not have it (open-webui issue 13547,
// gobackup issue 182).
func errR2NotImplemented(what string) *apiError {
	return &apiError{501, "NotImplemented", what + " not implemented"}
}

// words are R2's own for what all fronts know ("Error codes").
func (r2Rules) words(err *apiError) *apiError {
	switch {
	case err.code == "InvalidAccessKeyId":
		return &apiError{401, "Unauthorized", "Unauthorized"}
	case err == errExpired:
		return &apiError{400, "ExpiredRequest", "Request has expired"}
	case err == errNoSuchBucket:
		return &apiError{404, "NoSuchBucket", "The specified bucket does not exist."}
	}
	return err
}

// R2's operations, those about objects and the others ("S3 API compatibility"). GetBucketAcl and GetBucketVersioning are
// answered and cannot be changed.
var (
	r2ObjectOperations = []string{
		"ListObjects", "ListObjectsV2", "DeleteObjects",
		"GetObject", "HeadObject", "PutObject", "CopyObject", "DeleteObject",
		"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "ListMultipartUploads", "ListParts",
	}
	r2BucketOperations = []string{
		"ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket", "GetBucketLocation", "GetBucketAcl", "GetBucketVersioning",
		"GetBucketEncryption",
		"GetBucketCors", "PutBucketCors", "DeleteBucketCors",
		"GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration",
	}
)

// r2Headers are those that make R2 refuse an upload.
var r2Headers = []string{"X-Amz-Tagging", "X-Amz-Server-Side-Encryption", "X-Amz-Object-Lock-Mode", "X-Amz-Website-Redirect-Location"}

// r2DefaultLifecycle is what every new bucket has ("Object lifecycles"; the rule's name: halo-dev/plugin-s3 issue 49).
const r2DefaultLifecycle = `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule>` +
	`<ID>Default Multipart Abort Rule</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>` +
	`<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>` +
	`</Rule></LifecycleConfiguration>`

func (r2Rules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	switch {
	case c.operation == "Preflight":
		return false
	case !slices.Contains(r2ObjectOperations, c.operation) && !slices.Contains(r2BucketOperations, c.operation):
		errR2NotImplemented(c.operation).write(w, r)
		return true
	case !s.permits(c.caller, c):
		errAccessDenied.write(w, r)
		return true
	}
	r.Header.Del("X-Amz-Acl") // "no longer rejected", and without effect (release notes, 2022-11-30)
	switch c.operation {
	case "CreateBucket":
		s.r2CreateBucket(c, w, r)
	case "GetBucketAcl":
		writeXML(w, r, http.StatusOK, ownersACL(r2Account, false))
	case "GetBucketVersioning":
		writeBody(w, r, http.StatusOK, []byte(xml.Header+`<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>`))
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		s.keep(lifecycle(nil), c, w, r)
	case "PutObject", "CopyObject", "CreateMultipartUpload":
		return refusedHeader(w, r)
	case "CompleteMultipartUpload":
		return s.r2UnequalParts(c, w, r)
	default:
		return false
	}
	return true
}

func refusedHeader(w http.ResponseWriter, r *http.Request) bool {
	for _, name := range r2Headers {
		if v := r.Header.Get(name); v != "" {
			errR2NotImplemented(fmt.Sprintf("Header '%s' with value '%s'", strings.ToLower(name), v)).write(w, r)
			return true
		}
	}
	return false
}

func (s *S3) r2CreateBucket(c *call, w http.ResponseWriter, r *http.Request) {
	region, err := locationOf(r)
	if err == nil {
		err = r2Region(region)
	}
	if err != nil {
		err.write(w, r)
		return
	}
	s.createBucket(c, w, r, func(b *bucket) { b.Settings = map[string][]byte{"lifecycle": []byte(r2DefaultLifecycle)} })
}

// r2UnequalParts answers the completion of an upload whose parts, but the last, are not all of one size: error 10048
// (apache/opendal issue 2904). Only then are they looked at (cloudflare/cloudflare-docs pull request 7485).
func (s *S3) r2UnequalParts(c *call, w http.ResponseWriter, r *http.Request) bool {
	var listed struct {
		Part []struct{ Size int64 }
	}
	query := url.Values{"uploadId": {c.query.Get("uploadId")}, "max-parts": {"10000"}}
	resp, err := s.asRoot(http.MethodGet, c.bucket, c.key, query, nil, nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || xml.Unmarshal(body, &listed) != nil {
		return false // the gateway says what is wrong with it
	}
	for i, p := range listed.Part {
		first, last := listed.Part[0].Size, i == len(listed.Part)-1
		if !last && p.Size != first || last && p.Size > first {
			(&apiError{400, "InvalidPart", "All non-trailing parts must have the same length."}).write(w, r)
			return true
		}
	}
	return false
}

func (r2Rules) answered(*call, *http.Response) error { return nil }

// start gives the app a token that is for objects alone, and starts the server of connected domains.
func (r2Rules) start(s *S3) error {
	s.gateway.iam.add(account{key: s.AppKey, secret: s.AppSecret, limits: &limits{rights: []string{r2ObjectToken}}})
	addr, err := s.lab.serveAs(&domainServer{store: s, cached: map[string]bool{}}, s.domainCertificate)
	s.PublicHost = addr
	return err
}

// ConnectDomain connects a host name to a bucket, as the web console of R2 does: from then on the server at PublicHost has a
// certificate for it, and whoever asks that server for an object of the bucket under that name gets it. A host that is an
// address with a port ("127.0.0.1:40001", as PublicHost is) has the lab's own certificate. A second bucket of one host takes
// it from the first. It panics where the bucket does not exist.
func (s *S3) ConnectDomain(bucketName, host string) {
	if !s.has(bucketName) {
		panic("lab: connect a domain: there is no bucket " + bucketName)
	}
	s.DisconnectDomain(host)
	s.know(bucketName, func(b *bucket) { b.Domains = append(b.Domains, host) })
}

// DisconnectDomain takes a host from the bucket that it is connected to; one that is connected to none is fine.
func (s *S3) DisconnectDomain(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.buckets {
		b.Domains = slices.DeleteFunc(b.Domains, func(d string) bool { return strings.EqualFold(d, host) })
	}
	s.save()
}

// connected returns the bucket of a host, with or without its port, or "".
func (s *S3) connected(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, bucketName := range slices.Sorted(maps.Keys(s.buckets)) {
		for _, d := range s.buckets[bucketName].Domains {
			if strings.EqualFold(d, host) || strings.EqualFold(d, name) {
				return bucketName
			}
		}
	}
	return ""
}

// errNoDomain ends the handshake of a client that asks for a name that nobody connected.
var errNoDomain = errors.New("no bucket is connected to this name")

// domainCertificate makes a certificate for a connected name; nil is the lab's own, for who names none.
func (s *S3) domainCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if name == "" || slices.Contains(slices.Concat(testNames, s.lab.names), name) {
		return nil, nil
	}
	if s.connected(name) == "" {
		return nil, errNoDomain
	}
	cert, err := s.lab.ca.issue(nil, []string{name})
	return &cert, err
}

// domainServer serves the objects of buckets by the hosts that are connected to them.
type domainServer struct {
	store *S3

	mu     sync.Mutex
	cached map[string]bool // host, path and ETag of what was served
}

// ServeHTTP answers one request of a browser. It counts as "PublicGetObject", and faults touch it as they do the store.
func (d *domainServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := &statusWriter{ResponseWriter: w, count: func(status int) { d.store.count("PublicGetObject", status) }}
	d.store.serves(1)
	defer func() {
		counted.answers(0)
		d.store.serves(-1)
	}()
	if f := d.store.faultFor(r); f != nil {
		f.serve(counted, r, d.serve)
		return
	}
	d.serve(counted, r)
}

func (d *domainServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "cloudflare")
	bucketName, key := d.store.connected(r.Host), strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		writePage(w, r, http.StatusMethodNotAllowed, "Method not allowed")
	case bucketName == "" || key == "": // "public buckets do not let you list the bucket contents at the root"
		writePage(w, r, http.StatusNotFound, "Object not found")
	default:
		d.object(w, r, bucketName, key)
	}
}

// object answers with an object, and the headers of Cloudflare's cache.
func (d *domainServer) object(w http.ResponseWriter, r *http.Request, bucketName, key string) {
	asked := http.Header{}
	for _, name := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if v := r.Header.Get(name); v != "" {
			asked.Set(name, v)
		}
	}
	resp, err := d.store.asRoot(r.Method, bucketName, key, url.Values{}, nil, asked)
	if err != nil {
		writePage(w, r, http.StatusBadGateway, "Bad gateway")
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden {
		writePage(w, r, http.StatusNotFound, "Object not found")
		return
	}
	for _, name := range []string{
		"Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
		"Content-Range", "Content-Type", "Etag", "Expires", "Last-Modified",
	} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.Header().Set("Cf-Cache-Status", d.cacheStatus(r, resp.Header.Get("Etag")))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a client that went away has no use for the rest
}

// cachedSuffixes are some of the "Default cached file extensions" of Cloudflare's cache; others are fetched each time.
var cachedSuffixes = []string{".avif", ".css", ".gif", ".jpeg", ".jpg", ".js", ".mp3", ".mp4", ".png", ".svg", ".webm", ".webp", ".zip"}

func (d *domainServer) cacheStatus(r *http.Request, etag string) string {
	if !slices.Contains(cachedSuffixes, path.Ext(r.URL.Path)) {
		return "DYNAMIC"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	entry := strings.Join([]string{r.Host, r.URL.Path, etag}, " ")
	if d.cached[entry] {
		return "HIT"
	}
	d.cached[entry] = r.Method == http.MethodGet
	return "MISS"
}

// writePage answers with a page for people.
func writePage(w http.ResponseWriter, r *http.Request, status int, text string) {
	_, _ = io.Copy(io.Discard, r.Body) // as writeBody does
	page := fmt.Sprintf("<!DOCTYPE html><html><head><title>%d</title></head><body><h1>Error %d</h1><p>%s</p></body></html>\n", status, status, text)
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, page)
	}
}
