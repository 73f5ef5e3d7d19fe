package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const (
	// idriveName is the host of the account that the iDrive stores pretend to be of.
	idriveName = "s3.us-west-1.idrivee2.test"
	// idriveDiscovery is the host that tells others.
	idriveDiscovery = "api.idrivee2.test"
	// idriveLongestKey is how many characters the name of an object may have ("FAQ: Objects").
	idriveLongestKey = 254
)

// idriveRules are the manners of iDrive e2: its documents ("S3 Developer Guide", "Get Region Endpoint", "e2 endpoint URLs",
// "FAQ: Buckets", "FAQ: Objects"; read 2026-11) say little of refusals, and a user was answered by MinIO
// (rclone/rclone issue 7445). So it is MinIO's in all that they don't say: policies, no ACLs, any region. They say that it
// has CORS, lifecycles and versioning, and that a bucket is never in the host name. Old versions are not simulated, nor is
// which lifecycle rules it refuses.
type idriveRules struct{ minioRules }

func (idriveRules) region() string    { return "us-west-1" }
func (idriveRules) domains() []string { return []string{idriveName} }

func (idriveRules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	switch c.operation {
	case "PutObject", "CopyObject", "CreateMultipartUpload":
		if len([]rune(c.key)) > idriveLongestKey { // MinIO's answer
			(&apiError{400, "KeyTooLongError", "Your key is too long"}).write(w, r)
			return true
		}
	case "CreateBucket": // of any region, for the endpoint has one
		if c.anonymous || !s.permits(c.caller, c) {
			errAccessDenied.write(w, r)
			return true
		}
		s.createBucket(c, w, r, func(*bucket) {})
		return true
	case "PutBucketCors", "DeleteBucketCors":
		return false // the gateway keeps it
	case "GetBucketVersioning", "PutBucketVersioning":
		return s.keepIfAllowed(versioning, c, w, r)
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		return s.keepIfAllowed(lifecycle(nil), c, w, r)
	}
	return minioRules{}.serve(s, c, w, r)
}

// keepIfAllowed answers a call about a document, which a caller without the right to it is refused.
func (s *S3) keepIfAllowed(d document, c *call, w http.ResponseWriter, r *http.Request) bool {
	if c.anonymous || !s.permits(c.caller, c) {
		errAccessDenied.write(w, r)
		return true
	}
	s.keep(d, c, w, r)
	return true
}

// MakePublic makes a bucket public as iDrive's support does it when asked: anybody may list, read, write and delete (a
// user's report: "public for both reads and writes"). It is MinIO's canned policy "public", which takes the place of the
// bucket's policy.
func (s *S3) MakePublic(bucketName string) {
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[`+
		`{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetBucketLocation","s3:ListBucket","s3:ListBucketMultipartUploads"],"Resource":["arn:aws:s3:::%[1]s"]},`+
		`{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:AbortMultipartUpload","s3:DeleteObject","s3:GetObject","s3:ListMultipartUploadParts","s3:PutObject"],"Resource":["arn:aws:s3:::%[1]s/*"]}]}`, bucketName)
	resp, err := s.asRoot(http.MethodPut, bucketName, "", url.Values{"policy": {""}}, []byte(policy), nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		panic(fmt.Sprintf("lab: make %s public: %s", bucketName, resp.Status))
	}
}

// start starts the service that tells the endpoint of an access key.
func (idriveRules) start(s *S3) error {
	addr, err := s.lab.serve(http.HandlerFunc(s.discover))
	s.Discovery = "https://" + addr + "/api/service/get_region_end_point"
	return err
}

// discover answers POST {"access_key": "…"} as "Get Region Endpoint" describes it: always with 200, with a resp_code that is
// 0 for a key that exists, and less for one that does not or is missing (-3: home-assistant/core, idrive_e2). Who found the
// service by a name is told the store's name, and who came by its address the store's address.
func (s *S3) discover(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || strings.TrimSuffix(r.URL.Path, "/") != "/api/service/get_region_end_point" {
		http.NotFound(w, r)
		return
	}
	var asked struct {
		AccessKey string `json:"access_key"`
	}
	type answer struct {
		Code    int    `json:"resp_code"`
		Message string `json:"resp_msg"`
		Domain  string `json:"domain_name,omitempty"`
	}
	a := answer{Code: -3, Message: "Invalid Access Key"}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxDocument)).Decode(&asked); err == nil {
		if _, ok := s.account(asked.AccessKey); ok {
			a = answer{Message: "success", Domain: s.Name}
			if host, _, err := net.SplitHostPort(r.Host); err == nil && net.ParseIP(host) != nil {
				a.Domain = strings.TrimPrefix(s.Endpoint, "https://")
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // a client that went away has no use for it
}
