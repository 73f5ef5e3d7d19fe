package ceph

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/converge-agent/converge/test/lab"
)

// TestCephPolicy: public by a policy, which leaves what others have written in it.
func TestCephPolicy(t *testing.T) {
	s := newSite(t)
	friend := user(t, "friend")
	s.configure(t, "", `access = "private"`, "")
	s.apply(t, s.bucket)
	s.put(t, "backups/dump")
	s.put(t, "media_attachments/a")
	s.anonymously(t, map[string]int{"GET /media_attachments/a": 403, "GET /backups/dump": 403, "GET /?list-type=2": 403})

	foreign := fmt.Sprintf(`{"Sid":"friend","Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/friend"]},`+
		`"Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::%s"]}`, s.bucket)
	s.setPolicy(t, `{"Version":"2012-10-17","Statement":[`+foreign+`]}`)
	s.unchanged(t)

	s.configure(t, "", `access = "public-objects"`, "")
	s.apply(t, "policy")
	public := map[string]int{
		"GET /media_attachments/a": 200, "HEAD /media_attachments/a": 200, "GET /backups/dump": 403, "GET /": 403, "GET /?list-type=2": 403,
		"PUT /media_attachments/new": 403, "DELETE /media_attachments/a": 403, "GET /?policy": 403,
	}
	s.anonymously(t, public)
	list := func() string {
		_, err := sdk(friend).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
		return code(err)
	}
	if got := list(); got != "" {
		t.Errorf("a foreign statement's friend lists: %q", got)
	}
	ours := s.policy(t)
	if !strings.Contains(ours, `"friend"`) {
		t.Errorf("the foreign statement is gone: %s", ours)
	}

	for drift, policy := range map[string]string{
		"all is gone":           "",
		"our statement is gone": `{"Version":"2012-10-17","Statement":[` + foreign + `]}`,
		"ours is another":       strings.ReplaceAll(ours, "s3:GetObject", "s3:PutObject"),
	} {
		if policy == "" {
			if _, err := s.s3.DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: &s.bucket}); err != nil {
				t.Fatal(err)
			}
		} else {
			s.setPolicy(t, policy)
		}
		s.apply(t, "policy")
		s.anonymously(t, public)
		if policy != "" && list() != "" {
			t.Errorf("%s: the friend lost their right", drift)
		}
	}
	s.setPolicy(t, ours)
	s.configure(t, "", `access = "private"`, "")
	s.apply(t, "policy")
	s.anonymously(t, map[string]int{"GET /media_attachments/a": 403})
	if got := list(); got != "" {
		t.Errorf("once private again, a foreign statement's friend lists: %q", got)
	}
	s.empty(t, "backups/dump", "media_attachments/a")
}

// TestCephStranger: a bucket of somebody else is not taken over.
func TestCephStranger(t *testing.T) {
	s := newSite(t)
	theirs := sdk(user(t, "stranger"))
	if _, err := theirs.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	s.configure(t, "", `access = "public-objects"`, "")
	out, code := s.converge(t)
	if code != 1 && code != 4 || !strings.Contains(out, "somebody else") {
		t.Errorf("apply exits with %d:\n%s", code, out)
	}
	if _, err := theirs.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &s.bucket}); err == nil {
		t.Error("the bucket of a stranger has a policy")
	}
}

// TestCephSync: the media of an instance, once, and then what is new.
func TestCephSync(t *testing.T) {
	s := newSite(t)
	live, err := lab.NewInstance(s.dir+"/live", lab.InstanceSpec{Files: 100, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	sync := fmt.Sprintf("s3_sync \"bulk\" {\n  bucket = s3_bucket.media\n  source = %q\n}\n", live.Media)
	s.configure(t, "conditional_writes = true", `access = "public-objects"`, sync)
	s.apply(t, "policy", "s3_sync.bulk")
	keys := s.keys(t)
	if len(keys) < 90 {
		t.Fatalf("%d objects: %q", len(keys), keys)
	}
	s.anonymously(t, map[string]int{"GET /" + keys[0]: 200, "GET /" + keys[len(keys)-1]: 200, "GET /?list-type=2": 403})
	const added = "media_attachments/files/999/original/new.png"
	if err := live.Add(added, []byte("new")); err != nil {
		t.Fatal(err)
	}
	s.apply(t, "1 file")
	s.anonymously(t, map[string]int{"GET /" + added: 200})
}

// TestCephObjectACL: public by the ACL of each upload.
func TestCephObjectACL(t *testing.T) {
	s := newSite(t)
	live, err := lab.NewInstance(s.dir+"/live", lab.InstanceSpec{Files: 20, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	sync := fmt.Sprintf("s3_sync \"bulk\" {\n  bucket = s3_bucket.media\n  source = %q\n}\n", live.Media)
	s.configure(t, `public_by = "object-acl"`, `access = "public-objects"`, sync)
	s.apply(t, "s3_sync.bulk")
	key := s.keys(t)[0]
	s.put(t, "backups/dump") // as the app does it
	public := map[string]int{"GET /" + key: 200, "GET /backups/dump": 403, "GET /?list-type=2": 403, "GET /" + key + "?acl": 403, "PUT /new": 403}
	s.anonymously(t, public)
	if got := s.policy(t); got != "" {
		t.Errorf("there is a policy: %s", got)
	}
	b := &bucketAt{s.s3, s.bucket, gateway.Endpoint + "/" + s.bucket}
	if got := b.setACL(t, types.BucketCannedACLPublicReadWrite); got != "" {
		t.Fatal(got)
	}
	s.apply(t, "ACL")
	s.anonymously(t, public)
}

// TestCephSettings: what is set on a bucket beside its access, among what others have set there.
func TestCephSettings(t *testing.T) {
	s := newSite(t)
	s.configure(t, "", `access = "private"`, "")
	s.apply(t)
	b := &bucketAt{s.s3, s.bucket, gateway.Endpoint + "/" + s.bucket}
	theirOrigin := types.CORSRule{ID: ptr("theirs"), AllowedMethods: []string{"PUT"}, AllowedOrigins: []string{"https://elsewhere.test"}}
	theirExpiry := types.LifecycleRule{
		ID: ptr("theirs"), Status: "Enabled", Filter: &types.LifecycleRuleFilter{Prefix: ptr("tmp/")}, Expiration: &types.LifecycleExpiration{Days: ptr[int32](3)},
	}
	b.setCORS(t, theirOrigin)
	b.setLifecycle(t, theirExpiry)
	settings := `
  access     = "private"
  versioning = true
  cors {
    origins = ["https://social.test"]
  }
  lifecycle {
    incomplete_uploads_days = 7
    hidden_versions_days    = 30
  }
`
	s.configure(t, "", settings, "")
	s.apply(t, "https://social.test")
	const all = "CORS converge theirs, lifecycle converge theirs, versioning Enabled"
	if got := b.settings(t); got != all {
		t.Errorf("set: %s", got)
	}
	for _, drift := range []struct {
		says string
		do   func()
	}{
		{"CORS", func() { b.setCORS(t, theirOrigin) }},
		{"lifecycle", func() { b.setLifecycle(t, theirExpiry) }},
		{"versioning", func() { b.setVersioning(t, types.BucketVersioningStatusSuspended) }},
	} {
		drift.do()
		s.apply(t, "drift", drift.says)
		if got := b.settings(t); got != all {
			t.Errorf("after the drift of %s: %s", drift.says, got)
		}
	}
}
