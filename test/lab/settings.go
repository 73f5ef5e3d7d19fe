package lab

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
)

// The documents that can be set on a bucket and that the gateway has not, or not as the provider has them. Their errors are
// those of the Amazon S3 API Reference, "Error responses".
var (
	errNoSuchPolicy     = &apiError{404, "NoSuchBucketPolicy", "The bucket policy does not exist"}
	errNoSuchLifecycle  = &apiError{404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"}
	errNoSuchBlock      = &apiError{404, "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"}
	errNoOwnership      = &apiError{404, "OwnershipControlsNotFoundError", "The bucket ownership controls were not found"}
	errACLsNotSupported = &apiError{400, "AccessControlListNotSupported", "The bucket does not allow ACLs"}
)

// document is a setting that comes back as it was put.
type document struct {
	name    string    // of its subresource
	missing *apiError // the answer where none is set; nil makes it an empty one
	empty   string
	check   func(body []byte) ([]byte, *apiError) // may change it
}

// keep answers a call that gets, puts or deletes a document.
func (s *S3) keep(d document, c *call, w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPut:
		body, err := readDocument(r)
		if err == nil && d.check != nil {
			body, err = d.check(body)
		}
		if err != nil {
			err.write(w, r)
			return
		}
		s.set(c.bucket, d.name, body)
		w.WriteHeader(http.StatusOK)
	case http.MethodDelete:
		s.set(c.bucket, d.name, nil)
		w.WriteHeader(http.StatusNoContent)
	default:
		body := s.look(c.bucket).Settings[d.name]
		switch {
		case body != nil:
			writeBody(w, r, http.StatusOK, body)
		case d.missing != nil:
			d.missing.write(w, r)
		default:
			writeBody(w, r, http.StatusOK, []byte(xml.Header+d.empty))
		}
	}
}

// set keeps a document of a bucket, or forgets it where body is nil.
func (s *S3) set(bucketName, name string, body []byte) {
	s.know(bucketName, func(b *bucket) {
		if b.Settings == nil {
			b.Settings = map[string][]byte{}
		}
		b.Settings[name] = body
		if body == nil {
			delete(b.Settings, name)
		}
	})
}

// readDocument reads a body that must be XML.
func readDocument(r *http.Request) ([]byte, *apiError) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
	if bad := xml.Unmarshal(body, new(struct{ XMLName xml.Name })); err != nil || bad != nil {
		return nil, errMalformedXML
	}
	return body, nil
}

// lifecycle is a bucket's, of which a rule without a name gets one (Amazon S3 API Reference, "LifecycleRule").
func lifecycle(refuse func(body []byte) *apiError) document {
	return document{name: "lifecycle", missing: errNoSuchLifecycle, check: func(body []byte) ([]byte, *apiError) {
		var doc struct {
			Rule []struct{ ID, Status string }
		}
		if xml.Unmarshal(body, &doc) != nil || len(doc.Rule) == 0 {
			return nil, errMalformedXML
		}
		seen := map[string]bool{}
		for _, rule := range doc.Rule {
			switch {
			case rule.Status != "Enabled" && rule.Status != "Disabled":
				return nil, errMalformedXML
			case rule.ID != "" && seen[rule.ID]:
				return nil, &apiError{400, "InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule"}
			}
			seen[rule.ID] = true
		}
		if refuse != nil {
			if err := refuse(body); err != nil {
				return nil, err
			}
		}
		return nameRules(body), nil
	}}
}

// nameRules gives an ID to each rule of a lifecycle or CORS document that has none.
func nameRules(body []byte) []byte {
	parts := bytes.Split(body, []byte("<Rule>"))
	for i, part := range parts[1:] {
		if !bytes.Contains(part, []byte("<ID>")) {
			parts[i+1] = append([]byte("<ID>"+randomFrom(hexDigits, 32)+"</ID>"), part...)
		}
	}
	return bytes.Join(parts, []byte("<Rule>"))
}

// versioning is kept without being acted on: the lab has no versions of objects.
var versioning = document{
	name:  "versioning",
	empty: `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`,
	check: func(body []byte) ([]byte, *apiError) {
		var doc struct{ Status string }
		if xml.Unmarshal(body, &doc) != nil || doc.Status != "Enabled" && doc.Status != "Suspended" {
			return nil, &apiError{400, "IllegalVersioningConfigurationException", "The Versioning element must be specified"}
		}
		return body, nil
	},
}

// policySetting answers calls about the policy of a bucket, which refuse may refuse.
func (s *S3) policySetting(j judge, c *call, w http.ResponseWriter, r *http.Request, versions []string, refuse func(*bucketPolicy) *apiError) {
	b := s.look(c.bucket)
	switch {
	case c.operation == "GetBucketPolicyStatus":
		type status struct {
			XMLName  xml.Name `xml:"PolicyStatus"`
			IsPublic bool
		}
		if b.Settings["policy"] == nil {
			errNoSuchPolicy.write(w, r)
			return
		}
		writeXML(w, r, http.StatusOK, status{IsPublic: b.policy().public()})
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
		if err != nil {
			panic(http.ErrAbortHandler) // the client is gone
		}
		p, refused := parseBucketPolicy(body, c.bucket, j.arn(), versions...)
		if refused == nil {
			refused = refuse(p)
		}
		if refused != nil {
			refused.write(w, r)
			return
		}
		s.set(c.bucket, "policy", body)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		s.set(c.bucket, "policy", nil)
		w.WriteHeader(http.StatusNoContent)
	case b.Settings["policy"] == nil:
		errNoSuchPolicy.write(w, r)
	default:
		writeBody(w, r, http.StatusOK, b.Settings["policy"])
	}
}

// policy is the bucket's, nil where it has none.
func (b *bucket) policy() *bucketPolicy {
	text := b.Settings["policy"]
	if text == nil {
		return nil
	}
	var p bucketPolicy
	if err := json.Unmarshal(text, &p); err != nil {
		panic(err) // it was checked when it was put
	}
	return &p
}

// aclSetting answers calls about the ACL of a bucket or an object. An ACL that is put as a document counts as what it gives
// to everybody.
func (s *S3) aclSetting(c *call, w http.ResponseWriter, r *http.Request, owner string) {
	b := s.look(c.bucket)
	isObject := c.key != ""
	if isObject {
		if _, _, ok := s.Object(c.bucket, c.key); !ok {
			(&apiError{404, "NoSuchKey", "The specified key does not exist."}).write(w, r)
			return
		}
	}
	if r.Method == http.MethodPut {
		acl := r.Header.Get("X-Amz-Acl")
		if acl == "" {
			body, err := readDocument(r)
			if err != nil {
				err.write(w, r)
				return
			}
			acl = cannedACL(body)
		}
		if isObject {
			s.setObjectACL(c.bucket, c.key, acl)
		} else {
			s.know(c.bucket, func(b *bucket) { b.ACL = acl })
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	acl := b.ACL
	if isObject {
		acl = s.objectACL(c.bucket, c.key)
	}
	doc := ownersACL(owner, publicACL(acl))
	if acl == "public-read-write" {
		grant := doc.Grants[len(doc.Grants)-1]
		grant.Permission = "WRITE"
		doc.Grants = append(doc.Grants, grant)
	}
	writeXML(w, r, http.StatusOK, doc)
}

// cannedACL is the canned ACL that gives everybody what a document gives.
func cannedACL(body []byte) string {
	var doc struct {
		Grants []struct {
			Grantee    struct{ URI string }
			Permission string
		} `xml:"AccessControlList>Grant"`
	}
	if xml.Unmarshal(body, &doc) != nil {
		return "private"
	}
	acl := "private"
	for _, g := range doc.Grants {
		if !strings.HasSuffix(g.Grantee.URI, "/AllUsers") {
			continue
		}
		switch g.Permission {
		case "WRITE", "FULL_CONTROL":
			return "public-read-write"
		case "READ":
			acl = "public-read"
		}
	}
	return acl
}

// createBucket has the gateway make a bucket that is in a region of the provider, which the gateway knows nothing of, and
// then sets what a new bucket has there.
func (s *S3) createBucket(c *call, w http.ResponseWriter, r *http.Request, begin func(*bucket)) {
	r.Body, r.ContentLength = http.NoBody, 0
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") || name == "Content-Md5" {
			r.Header.Del(name)
		}
	}
	c.caller, c.anonymous = s.owner(), false
	existed := s.has(c.bucket)
	s.forward(w, r, c)
	if !existed {
		s.know(c.bucket, begin) // knows nothing where the gateway refused
	}
}

// locationOf reads the region that a CreateBucket names, "" where it names none.
func locationOf(r *http.Request) (string, *apiError) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
	var doc struct{ LocationConstraint string }
	if err != nil || len(body) > 0 && xml.Unmarshal(body, &doc) != nil {
		return "", errMalformedXML
	}
	return doc.LocationConstraint, nil
}

// location answers a GetBucketLocation.
func location(w http.ResponseWriter, r *http.Request, region string) {
	type document struct {
		XMLName xml.Name `xml:"LocationConstraint"`
		Region  string   `xml:",chardata"`
	}
	writeXML(w, r, http.StatusOK, document{Region: region})
}
