package lab_test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/converge-agent/converge/test/lab"
)

// who signs a request.
type who struct{ key, secret, region string }

var nobody = who{}

// ask is one request and what it is answered: "403 AccessDenied", or "200" where the answer is no error. A body that begins
// with "~" is a part of the answer's body that is looked for.
type ask struct {
	by      who
	request string // "PUT /bucket?acl"
	header  string // "X-Amz-Acl: public-read"
	body    string
	want    string
	holds   string // what the answer has in it
}

// plain does one request over TLS without any SDK.
func plain(t *testing.T, s *lab.S3, a ask) (status string, header http.Header, body string) {
	t.Helper()
	method, path, _ := strings.Cut(a.request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(a.header, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			r.Header.Set(name, value)
		}
	}
	if a.by != nobody {
		sum := sha256.Sum256([]byte(a.body))
		hash := hex.EncodeToString(sum[:])
		r.Header.Set("X-Amz-Content-Sha256", hash)
		if a.body != "" {
			digest := md5.Sum([]byte(a.body))
			r.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(digest[:]))
		}
		region := a.by.region
		if region == "" {
			region = s.Region
		}
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		creds := aws.Credentials{AccessKeyID: a.by.key, SecretAccessKey: a.by.secret}
		if err := signer.SignHTTP(t.Context(), creds, r, hash, "s3", region, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := web(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		XMLName xml.Name
		Code    string
	}
	status = fmt.Sprint(resp.StatusCode)
	if xml.Unmarshal(text, &doc) == nil && doc.XMLName.Local == "Error" {
		status += " " + doc.Code
	}
	return status, resp.Header, string(text)
}

func asks(t *testing.T, s *lab.S3, list []ask) {
	t.Helper()
	for i, a := range list {
		got, _, body := plain(t, s, a)
		if got != a.want || !strings.Contains(body, a.holds) {
			t.Errorf("%d: %s %s by %.8s: got %q, want %q with %q in\n%s", i, a.request, a.header, a.by.key, got, a.want, a.holds, body)
		}
	}
}
func TestPersonalities(t *testing.T) {
	t.Run("aws", func(t *testing.T) {
		s, b := store(t, lab.AWS)
		agent, app := who{key: s.AgentKey, secret: s.AgentSecret}, who{key: s.AppKey, secret: s.AppSecret}
		policy := `{"Version":"2012-10-17","Statement":[{"Sid":"p","Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::` + b + `/media/*"]}]}`
		open := `<PublicAccessBlockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>false</BlockPublicPolicy><RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>`
		asks(t, s, []ask{
			{agent, "PUT /" + b + "/media/a", "", "x", "200", ""},
			{agent, "PUT /" + b + "/media/a", "X-Amz-Acl: public-read", "x", "400 AccessControlListNotSupported", ""},
			{agent, "PUT /" + b + "/media/a", "X-Amz-Acl: bucket-owner-full-control", "x", "200", ""},
			{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""},
			{agent, "PUT /" + b + "?policy", "", policy, "403 AccessDenied", "BlockPublicPolicy"},
			{agent, "PUT /" + b + "?publicAccessBlock", "", open, "200", ""},
			{agent, "PUT /" + b + "?policy", "", policy, "204", ""},
			{agent, "GET /" + b + "?policy", "", "", "200", "media"},
			{agent, "GET /" + b + "?policyStatus", "", "", "200", "<IsPublic>true"},
			{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
			{nobody, "GET /" + b + "/media/none", "", "", "403 AccessDenied", ""},
			{agent, "GET /" + b + "/media/none", "", "", "404 NoSuchKey", ""},
			{app, "GET /" + b + "/media/none", "", "", "403 AccessDenied", ""},
			{nobody, "GET /" + b + "?list-type=2", "", "", "403 AccessDenied", ""},
			{app, "GET /" + b + "?list-type=2", "", "", "403 AccessDenied", "s3:ListBucket"},
			{agent, "GET /" + b + "?list-type=2", "", "", "200", ""},
			{agent, "GET /" + b + "?cors", "", "", "404 NoSuchCORSConfiguration", ""},
			{agent, "GET /" + b + "?lifecycle", "", "", "404 NoSuchLifecycleConfiguration", ""},
			{agent, "GET /" + b + "?versioning", "", "", "200", ""},
			{agent, "GET /" + b + "?acl", "", "", "200", ""},
			{agent, "PUT /" + b + "/media/a", "If-None-Match: *", "x", "412 PreconditionFailed", ""},
			{agent, "HEAD /" + b, "", "", "200", ""},
			{agent, "GET /", "", "", "200", b},
		})
	})
	t.Run("scaleway", func(t *testing.T) {
		s, b := store(t, lab.Scaleway)
		agent, app := who{key: s.AgentKey, secret: s.AgentSecret}, who{key: s.AppKey, secret: s.AppSecret}
		policy := `{"Version":"2023-04-17","Statement":[{"Sid":"p","Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["` + b + `/media/*"]}]}`
		asks(t, s, []ask{
			{app, "PUT /" + b + "/media/a", "X-Amz-Acl: public-read", "x", "200", ""},
			{app, "PUT /" + b + "/media/b", "", "x", "200", ""},
			{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
			{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", ""},
			{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
			{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
			{nobody, "GET /" + b, "", "", "200", ""},
			{nobody, "GET /" + b + "/media/b", "", "", "403 AccessDenied", ""},
			{app, "PUT /" + b + "/media/b?acl", "X-Amz-Acl: public-read", "", "200", ""},
			{nobody, "GET /" + b + "/media/b", "", "", "200", ""},
			{agent, "PUT /" + b + "?policy", "", policy, "204", ""},
			{nobody, "GET /" + b + "/media/b", "", "", "200", ""},
			{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
			{app, "PUT /" + b + "/media/c", "", "x", "403 AccessDenied", ""},
			{agent, "GET /" + b, "", "", "403 AccessDenied", ""},
			{agent, "DELETE /" + b + "?policy", "", "", "204", ""},
			{agent, "GET /" + b, "", "", "200", ""},
		})
	})
	t.Run("wasabi", func(t *testing.T) {
		s, b := store(t, lab.Wasabi)
		agent, app := who{key: s.AgentKey, secret: s.AgentSecret}, who{key: s.AppKey, secret: s.AppSecret}
		policy := `{"Version":"2012-10-17","Statement":[{"Sid":"p","Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::` + b + `/media/*"]}]}`
		asks(t, s, []ask{
			{app, "PUT /" + b + "/media/a", "", "x", "200", ""},
			{nobody, "GET /" + b + "/media/a", "", "", "403 AccessDenied", ""},
			{agent, "PUT /" + b + "?policy", "", policy, "204", ""},
			{nobody, "GET /" + b + "/media/a", "", "", "200", ""},
			{nobody, "GET /" + b, "", "", "403 AccessDenied", ""},
			{agent, "PUT /" + b + "?acl", "X-Amz-Acl: public-read", "", "200", ""},
			{nobody, "GET /" + b, "", "", "200", ""},
			{agent, "PUT /" + b + "?cors", "", "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>", "200", ""},
			{agent, "GET /" + b + "?cors", "", "", "200", ""},
		})
		key, secret := s.NewKey("s3:ListBucket")
		limited := who{key: key, secret: secret}
		asks(t, s, []ask{
			{limited, "GET /" + b, "", "", "200", ""},
			{limited, "PUT /" + b + "/x", "", "x", "403 AccessDenied", ""},
		})
		s.RevokeKey(key)
		asks(t, s, []ask{{limited, "GET /" + b, "", "", "403 InvalidAccessKeyId", ""}})
	})
}
