package lab_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/test/lab"
)

func TestIDriveAnswers(t *testing.T) {
	s, bucket := store(t, lab.IDrive)
	c := agent(t, s)
	cors := &types.CORSConfiguration{CORSRules: []types.CORSRule{{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*"}}}}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + bucket + `/media/*"}]}`
	expectAnswers(t, []answered{
		{"any region", "", func() error {
			return put(t, client(t, s, s.AgentKey, s.AgentSecret, func(o *s3.Options) { o.Region = "eu-west-4" }), bucket, "k", "b")
		}},
		{"upload with an ACL", "", func() error {
			return put(t, c, bucket, "media/a", "b", func(in *s3.PutObjectInput) { in.ACL = types.ObjectCannedACLPublicRead })
		}},
		{"upload with a long name", "", func() error { return put(t, c, bucket, strings.Repeat("long/", 50)+"name", "b") }},
		{"upload with a longer name", "400 KeyTooLongError: Your key is too long", func() error {
			return put(t, c, bucket, strings.Repeat("long/", 50)+"names", "b")
		}},
		{"bucket ACL", "501 NotImplemented: A header you provided implies functionality that is not implemented", func() error {
			_, err := c.PutBucketAcl(t.Context(), &s3.PutBucketAclInput{Bucket: &bucket, ACL: "public-read"})
			return err
		}},
		{"policy", "", func() error {
			_, err := c.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &policy})
			return err
		}},
		{"CORS", "", func() error {
			_, err := c.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &bucket, CORSConfiguration: cors})
			return err
		}},
		{"CORS back", "", func() error {
			_, err := c.GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: &bucket})
			return err
		}},
		{"versioning", "", func() error {
			_, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: "Enabled"}})
			return err
		}},
		{"the app: versioning", "403 AccessDenied: Access Denied", func() error {
			_, err := app(t, s).PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: "Suspended"}})
			return err
		}},
	})
	out, err := c.GetBucketVersioning(t.Context(), &s3.GetBucketVersioningInput{Bucket: &bucket})
	if err != nil || out.Status != "Enabled" {
		t.Errorf("versioning: %v, %v", out, err)
	}
	for call, want := range map[string]int{"GET /media/a": 200, "GET /k": 403, "GET /?list-type=2": 403, "PUT /media/b": 403, "DELETE /media/a": 403} {
		method, path, _ := strings.Cut(call, " ")
		if got := anonymous(t, method, s.Endpoint+"/"+bucket+path); got != want {
			t.Errorf("anonymous %s: got %d, want %d", call, got, want)
		}
	}
}

// TestIDriveMadePublicBySupport: anybody writes there, and the policy tells so.
func TestIDriveMadePublicBySupport(t *testing.T) {
	s, bucket := store(t, lab.IDrive)
	s.MakePublic(bucket)
	for _, test := range []struct {
		method, path string
		want         int
	}{{"PUT", "/new", 200}, {"GET", "/new", 200}, {"GET", "/?list-type=2", 200}, {"DELETE", "/new", 204}} {
		if got := anonymous(t, test.method, s.Endpoint+"/"+bucket+test.path); got != test.want {
			t.Errorf("anonymous %s %s: got %d, want %d", test.method, test.path, got, test.want)
		}
	}
	out, err := agent(t, s).GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &bucket})
	if err != nil || !strings.Contains(*out.Policy, "s3:PutObject") {
		t.Errorf("the policy: %v, %v", out, err)
	}
}

func TestIDriveTellsTheEndpointOfAKey(t *testing.T) {
	s, _ := store(t, lab.IDrive)
	byName := web(t)
	byName.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Split(s.Discovery, "/")[2])
	}
	const name = "https://api.idrivee2.test/api/service/get_region_end_point"
	for _, test := range []struct {
		client     *http.Client
		url, body  string
		status     int
		wantAnswer string
	}{
		{web(t), s.Discovery, `{"access_key": "` + s.AgentKey + `"}`, 200, `{"resp_code":0,"resp_msg":"success","domain_name":"` + strings.TrimPrefix(s.Endpoint, "https://") + `"}`},
		{byName, name, `{"access_key": "` + s.AppKey + `"}`, 200, `{"resp_code":0,"resp_msg":"success","domain_name":"` + s.Name + `"}`},
		{web(t), s.Discovery, `{"access_key": "nobody"}`, 200, `{"resp_code":-3,"resp_msg":"Invalid Access Key"}`},
		{web(t), s.Discovery, `{}`, 200, `{"resp_code":-3,"resp_msg":"Invalid Access Key"}`},
		{web(t), s.Discovery, `nothing`, 200, `{"resp_code":-3,"resp_msg":"Invalid Access Key"}`},
		{web(t), s.Discovery + "/elsewhere", `{}`, 404, "404 page not found"},
	} {
		resp, err := test.client.Post(test.url, "application/json", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != test.status || strings.TrimSpace(string(body)) != test.wantAnswer {
			t.Errorf("%s: got %s, %s, %v", test.body, resp.Status, body, err)
		}
	}
}
