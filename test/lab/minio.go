package lab

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
)

// minioRules are the manners of MinIO, as measured on its last release (2026-02-12): no ACLs but the owner's, no bucket CORS,
// lifecycles without AbortIncompleteMultipartUpload, any region in a signature, and policies that come back in another form
// than they were put. Who may read without a key is decided by the gateway's policy engine.
type minioRules struct{}

func (minioRules) region() string    { return "us-east-1" }
func (minioRules) domains() []string { return []string{"minio.test"} }

func (minioRules) newKeys() (agent, app account) {
	return account{key: randomText(20), secret: randomText(40)}, account{key: randomText(20), secret: randomText(40)}
}

func (minioRules) refuse(*http.Request, *signature) *apiError { return nil }

func (minioRules) serve(s *S3, c *call, w http.ResponseWriter, r *http.Request) bool {
	if c.storesObject() {
		r.Header.Del("X-Amz-Acl")
	}
	if c.operation == "CreateBucket" {
		r.Header.Del("X-Amz-Acl")
	}
	switch c.operation {
	case "PutBucketAcl", "PutObjectAcl", "PutBucketCors", "DeleteBucketCors", "GetPublicAccessBlock", "GetBucketOwnershipControls":
		errNotImplemented.write(w, r)
	case "PutPublicAccessBlock", "PutBucketOwnershipControls":
		errMalformedXML.write(w, r)
	case "GetObjectAcl", "GetBucketAcl":
		if !allowed(c, "s3:"+c.operation) {
			errAccessDenied.write(w, r)
			break
		}
		writeXML(w, r, http.StatusOK, ownersACL("", false))
	case "GetBucketVersioning", "PutBucketVersioning":
		return s.keepIfAllowed(versioning, c, w, r)
	case "GetBucketLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycleConfiguration":
		s.minioLifecycle(c, w, r)
	default:
		return false
	}
	return true
}

// allowed reports whether the caller's own rights cover an action on the bucket or object of a call.
func allowed(c *call, action string) bool {
	return !c.anonymous && c.caller.may(action, c.path()[1:])
}

// maxDocument is more than any document of a bucket can have (20 KB for a policy, Amazon S3 user guide).
const maxDocument = 1 << 20

// minioLifecycle keeps a bucket's lifecycle without acting on it.
func (s *S3) minioLifecycle(c *call, w http.ResponseWriter, r *http.Request) {
	action := map[string]string{"GET": "s3:GetLifecycleConfiguration"}[r.Method]
	if action == "" {
		action = "s3:PutLifecycleConfiguration"
	}
	if !allowed(c, action) {
		errAccessDenied.write(w, r)
		return
	}
	switch r.Method {
	case http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
		switch {
		case err != nil || xml.Unmarshal(body, new(struct{ XMLName xml.Name })) != nil:
			errMalformedXML.write(w, r)
		case bytes.Contains(body, []byte("AbortIncompleteMultipartUpload")):
			(&apiError{400, "InvalidArgument", "AbortIncompleteMultipartUpload is not supported"}).write(w, r)
		default:
			s.know(c.bucket, func(b *bucket) { b.Lifecycle = body })
			w.WriteHeader(http.StatusOK)
		}
	case http.MethodDelete:
		s.know(c.bucket, func(b *bucket) { b.Lifecycle = nil })
		w.WriteHeader(http.StatusNoContent)
	default:
		var body []byte
		s.know(c.bucket, func(b *bucket) { body = b.Lifecycle })
		if body == nil {
			(&apiError{404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"}).write(w, r)
			return
		}
		writeBody(w, r, http.StatusOK, body)
	}
}

// answered brings a policy to MinIO's form: lists where one value was written, and a principal as {"AWS":["*"]}.
func (minioRules) answered(c *call, resp *http.Response) error {
	if c.operation != "GetBucketPolicy" || resp.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	discard(resp.Body)
	var policy map[string]any
	if err := json.Unmarshal(body, &policy); err != nil {
		return err
	}
	statements, _ := policy["Statement"].([]any)
	for _, st := range statements {
		if statement, ok := st.(map[string]any); ok {
			statement["Action"], statement["Resource"] = listed(statement["Action"]), listed(statement["Resource"])
			if statement["Principal"] == "*" {
				statement["Principal"] = map[string]any{"AWS": []any{"*"}}
			}
		}
	}
	if body, err = json.Marshal(policy); err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

func listed(v any) any {
	if s, ok := v.(string); ok {
		return []any{s}
	}
	return v
}
