package objectstore

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const foreignStatement = `{"Sid":"Backup","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::1:user/x"]},"Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::media"],"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`

func TestPolicyIsComparedByMeaning(t *testing.T) {
	prefixes := []string{"cache/", "accounts/"}
	ours := func(principal, action, resource string) string {
		return `{"Version":"2012-10-17","Statement":[{"Sid":"ConvergePublicObjects","Effect":"Allow","Principal":` + principal +
			`,"Action":` + action + `,"Resource":` + resource + `}]}`
	}
	resource := `["arn:aws:s3:::media/accounts/*","arn:aws:s3:::media/cache/*"]`
	tests := []struct {
		name, policy string
		want         bool
	}{
		{"ours", ours(`{"AWS":["*"]}`, `["s3:GetObject"]`, resource), true},
		{"a star", ours(`"*"`, `"s3:GetObject"`, resource), true},
		{"AWS star", ours(`{"AWS":"*"}`, `["s3:getobject"]`, resource), true},
		{"list of a star", ours(`["*"]`, `["s3:GetObject"]`, resource), true},
		{"other order", ours(`"*"`, `"s3:GetObject"`, `["arn:aws:s3:::media/cache/*","arn:aws:s3:::media/accounts/*"]`), true},
		{"beside a foreign one", strings.Replace(ours(`"*"`, `"s3:GetObject"`, resource), "[{", "["+foreignStatement+",{", 1), true},
		{"an empty condition", strings.Replace(ours(`"*"`, `"s3:GetObject"`, resource), `"Effect"`, `"Condition":{},"Effect"`, 1), true},
		{"a statement without a list", `{"Statement":{"Sid":"ConvergePublicObjects","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":` + resource + `}}`, true},

		{"no policy", "", false},
		{"a prefix less", ours(`"*"`, `"s3:GetObject"`, `"arn:aws:s3:::media/cache/*"`), false},
		{"a prefix more", ours(`"*"`, `"s3:GetObject"`, strings.Replace(resource, "[", `["arn:aws:s3:::media/backups/*",`, 1)), false},
		{"the whole bucket", ours(`"*"`, `"s3:GetObject"`, `["arn:aws:s3:::media/*"]`), false},
		{"another bucket", ours(`"*"`, `"s3:GetObject"`, strings.ReplaceAll(resource, "media", "other")), false},
		{"another action", ours(`"*"`, `["s3:GetObject","s3:PutObject"]`, resource), false},
		{"another principal", ours(`{"AWS":["arn:aws:iam::1:root"]}`, `"s3:GetObject"`, resource), false},
		{"denied", strings.Replace(ours(`"*"`, `"s3:GetObject"`, resource), "Allow", "Deny", 1), false},
		{"under a condition", strings.Replace(ours(`"*"`, `"s3:GetObject"`, resource), `"Effect"`, `"Condition":{"Bool":{"aws:SecureTransport":"true"}},"Effect"`, 1), false},
		{"twice", strings.Replace(ours(`"*"`, `"s3:GetObject"`, resource), "[{", `[{"Sid":"ConvergePublicObjects","Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::media/*"},{`, 1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePolicy(tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.IsPublic("media", prefixes); got != tt.want {
				t.Errorf("IsPublic = %v, want %v", got, tt.want)
			}
			p.SetPublic("media", prefixes)
			again, err := ParsePolicy(p.String())
			if err != nil || !again.IsPublic("media", prefixes) {
				t.Errorf("after SetPublic the policy is not public: %s, %v", p, err)
			}
			p.SetPublic("media", nil)
			if !p.IsPublic("media", nil) || strings.Contains(p.String(), PublicSid) {
				t.Errorf("after taking it out our statement is still there: %s", p)
			}
		})
	}
}

func TestPolicyKeepsWhatIsForeign(t *testing.T) {
	p, err := ParsePolicy(`{"Version":"2012-10-17","Id":"theirs","Statement":[` + foreignStatement + `,{"Sid":"Open","Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::media"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	p.SetPublic("media", []string{"cache/"})
	var got struct {
		Version   string
		ID        string `json:"Id"`
		Statement []json.RawMessage
	}
	if err := json.Unmarshal([]byte(p.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != "theirs" || got.Version != "2012-10-17" || len(got.Statement) != 3 || string(got.Statement[0]) != foreignStatement {
		t.Errorf("policy = %s, want Id, Version and the foreign statements as they were", p)
	}
	if want := []string{"Open"}; !slices.Equal(p.Foreign(), want) {
		t.Errorf("Foreign = %q, want %q", p.Foreign(), want)
	}
	empty, _ := ParsePolicy("")
	if !empty.Empty() || p.Empty() {
		t.Errorf("Empty = %v and %v, want true and false", empty.Empty(), p.Empty())
	}
	for _, bad := range []string{"no JSON", "[]", `{"Statement":"x"}`} {
		if _, err := ParsePolicy(bad); err == nil {
			t.Errorf("ParsePolicy(%q) succeeded", bad)
		}
	}
}

// TestForeignDigest: it is another one when a foreign statement means something else, and only then.
func TestForeignDigest(t *testing.T) {
	const (
		get  = `{"Sid":"A","Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::media/m/*"}`
		same = `{"Resource":["arn:aws:s3:::media/m/*"],"Principal":{"AWS":["*"]},"Action":["s3:PutObject","s3:getobject"],"Effect":"Allow","Sid":"A"}`
		some = `{"Sid":"B","Effect":"Allow","NotPrincipal":{"AWS":["a","b"]},"NotAction":["x","y"],"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["1","2"]}}}`
		turn = `{"Sid":"B","Effect":"Allow","NotPrincipal":{"AWS":["b","a"]},"NotAction":["y","x"],"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["2","1"]}}}`
		deny = `{"Sid":"C","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}`
	)
	ours := string(publicStatement("media", []string{"cache/"}))
	digest := func(statements ...string) string {
		t.Helper()
		p, err := ParsePolicy(`{"Statement":[` + strings.Join(statements, ",") + `]}`)
		if err != nil {
			t.Fatal(err)
		}
		return p.ForeignDigest()
	}
	if got := digest(ours); got != "" || digest() != "" {
		t.Errorf("digest without foreign statements = %q and %q, want none", got, digest())
	}
	base := digest(get, some)
	for name, got := range map[string]string{
		"with ours":         digest(ours, get, some),
		"in another order":  digest(some, get),
		"worded otherwise":  digest(same, some),
		"lists turned over": digest(get, turn),
	} {
		if got != base {
			t.Errorf("%s: another digest, though it means the same", name)
		}
	}
	for name, got := range map[string]string{
		"one gone": digest(get), "one more": digest(get, some, deny), "wider": digest(strings.Replace(get, "m/*", "*", 1), some),
		"twice": digest(get, get, some), "none": digest(),
	} {
		if got == base {
			t.Errorf("%s: the same digest, though it means something else", name)
		}
	}
}
