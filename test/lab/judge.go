package lab

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// judge is a provider whose rules of access the front applies itself, for the gateway has others. What it allows, the
// gateway does as the owner of the bucket.
type judge interface {
	// allow reports whether a caller may do something; nil is yes.
	allow(s *S3, b *bucket, c *call, on subject, resource string) *apiError
	// refuseACL says what is wrong with the canned ACL of a request, or returns nil.
	refuseACL(b *bucket, c *call, acl string) *apiError
	// setting answers calls about what can be set on a bucket, or reports false.
	setting(s *S3, b *bucket, c *call, w http.ResponseWriter, r *http.Request) bool
	// arn is what the resources of its policies begin with.
	arn() string
}

// judged answers a call of a provider that is a judge, or makes it one of the owner's for the gateway and reports false.
func (s *S3) judged(j judge, c *call, w http.ResponseWriter, r *http.Request) bool {
	if c.operation == "Preflight" {
		return false
	}
	b := s.look(c.bucket)
	if c.operation == "DeleteObjects" {
		if err := c.readKeys(r); err != nil {
			err.write(w, r)
			return true
		}
	}
	if err := s.refuses(j, b, c, r); err != nil {
		err.write(w, r)
		return true
	}
	acl := r.Header.Get("X-Amz-Acl")
	if c.operation == "CreateBucket" || c.storesObject() || c.operation == "PutBucketAcl" || c.operation == "PutObjectAcl" {
		if err := j.refuseACL(b, c, acl); err != nil {
			err.write(w, r)
			return true
		}
	}
	if c.bucket != "" && j.setting(s, b, c, w, r) {
		return true
	}
	r.Header.Del("X-Amz-Acl")
	c.store, c.acl = s, acl
	c.caller, c.anonymous = s.owner(), false
	return false
}

// look returns what is known of a bucket at this moment; an empty one where there is none.
func (s *S3) look(name string) *bucket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.buckets[name]
	if b == nil {
		return &bucket{}
	}
	seen := *b
	seen.Settings, seen.Objects, seen.Uploads = maps.Clone(b.Settings), maps.Clone(b.Objects), nil
	return &seen
}

// refuses says why a caller may not do something, or returns nil.
func (s *S3) refuses(j judge, b *bucket, c *call, r *http.Request) *apiError {
	check := func(action, bucket, key string) *apiError {
		resource := strings.TrimSuffix(bucket+"/"+key, "/")
		return j.allow(s, b, c, subject{s.namesOf(c), action, j.arn() + resource, r}, resource)
	}
	switch c.operation {
	case "DeleteObjects":
		for _, key := range c.keys {
			if err := check("s3:DeleteObject", c.bucket, key); err != nil {
				return err
			}
		}
		return nil
	case "CopyObject":
		source, key, _ := strings.Cut(strings.TrimPrefix(plainPath(r.Header.Get("X-Amz-Copy-Source")), "/"), "/")
		if err := check("s3:GetObject", source, key); err != nil {
			return err
		}
	}
	if err := check(action(c.operation), c.bucket, c.key); err != nil {
		return err
	}
	if r.Header.Get("X-Amz-Acl") != "" && c.storesObject() {
		return check("s3:PutObjectAcl", c.bucket, c.key)
	}
	return nil
}

// finish does what is left to do with the gateway's answer.
func (c *call) finish(resp *http.Response) error {
	switch {
	case c.hidesMissing && resp.StatusCode == http.StatusNotFound:
		errAccessDenied.replace(resp)
	case c.operation == "CreateMultipartUpload" && c.acl != "" && resp.StatusCode == http.StatusOK:
		return c.noteUpload(resp)
	}
	return nil
}

// noteUpload remembers the ACL that an upload was begun with.
func (c *call) noteUpload(resp *http.Response) error {
	body, err := readAnswer(resp)
	if err != nil {
		return err
	}
	var begun struct {
		ID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(body, &begun); err != nil {
		return err
	}
	c.store.know(c.bucket, func(b *bucket) {
		if b.Uploads == nil {
			b.Uploads = map[string]string{}
		}
		b.Uploads[begun.ID] = c.acl
	})
	return nil
}

// noteACL keeps the ACLs of objects after a call that succeeded, and reports whether any changed.
func (b *bucket) noteACL(c *call) bool {
	before := len(b.Objects)
	switch c.operation {
	case "PutObject", "CopyObject", "PutObjectAcl":
		return b.setACL(c.key, c.acl)
	case "CompleteMultipartUpload":
		id := c.query.Get("uploadId")
		acl := b.Uploads[id]
		delete(b.Uploads, id)
		return b.setACL(c.key, acl)
	case "DeleteObject":
		delete(b.Objects, c.key)
	case "DeleteObjects":
		for _, key := range c.keys {
			delete(b.Objects, key)
		}
	}
	return len(b.Objects) != before
}

func (b *bucket) setACL(key, acl string) bool {
	before := b.Objects[key]
	if acl == "" || acl == "private" || acl == "bucket-owner-full-control" {
		delete(b.Objects, key)
		return before != ""
	}
	if b.Objects == nil {
		b.Objects = map[string]string{}
	}
	b.Objects[key] = acl
	return before != acl
}

// readKeys reads the keys that a DeleteObjects names, and leaves the body as it was.
func (c *call) readKeys(r *http.Request) *apiError {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument*4)) // 1000 keys of 1024 bytes, with their elements
	r.Body = io.NopCloser(bytes.NewReader(body))
	var list struct {
		Object []struct{ Key string }
	}
	if err != nil || xml.Unmarshal(body, &list) != nil {
		return errMalformedXML
	}
	for _, o := range list.Object {
		c.keys = append(c.keys, o.Key)
	}
	return nil
}

// publicACL reports whether a canned ACL gives everybody a right.
func publicACL(acl string) bool { return acl == "public-read" || acl == "public-read-write" }

// aclAllows reports whether the ACLs of a bucket and an object give everybody a right to an action on it (Amazon S3 User
// Guide, "Mapping of ACL permissions and access policy permissions").
func (b *bucket) aclAllows(action, key string) bool {
	switch action {
	case "s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads":
		return publicACL(b.ACL)
	case "s3:PutObject", "s3:DeleteObject":
		return b.ACL == "public-read-write"
	case "s3:GetObject":
		return publicACL(b.Objects[key])
	}
	return false
}

// namesOf gives the names that policies may have for a caller.
func (s *S3) namesOf(c *call) []string {
	if !c.own() {
		return nil
	}
	return []string{s.accountID(), "arn:aws:iam::" + s.accountID() + ":root", s.userARN(c.caller.key), "user_id:" + c.caller.key, "application_id:" + c.caller.key}
}

// own reports whether the caller has a key of the store's account.
func (c *call) own() bool {
	return !c.anonymous && (c.caller.limits == nil || !c.caller.limits.foreign)
}

// accountID is the number of the account that the store is in, as an ARN has it.
func (s *S3) accountID() string { return "111122223333" }

// userARN is the name that a policy has for a key's user.
func (s *S3) userARN(key string) string {
	name := key
	switch key {
	case s.AgentKey:
		name = "agent"
	case s.AppKey:
		name = "app"
	}
	return fmt.Sprintf("arn:aws:iam::%s:user/%s", s.accountID(), name)
}

// readAnswer reads the body of an answer, and leaves it as it was.
func readAnswer(resp *http.Response) ([]byte, error) {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	discard(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// plainPath is a path of a header without its percent-encoding and its query.
func plainPath(p string) string {
	p, _, _ = strings.Cut(p, "?")
	if plain, err := url.PathUnescape(p); err == nil {
		return plain
	}
	return p
}
