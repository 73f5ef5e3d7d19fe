package s3bucket

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

func object(attrs map[string]cty.Value) cty.Value { return cty.ObjectVal(attrs) }

// at is a bucket at a provider, with every setting managed that it has.
func at(t *testing.T, provider, access string) (map[string]cty.Value, *objectstore.Provider) {
	t.Helper()
	p, ok := objectstore.Lookup(provider)
	if !ok {
		t.Fatalf("no provider %s", provider)
	}
	w := b2Bucket()
	w["store"] = storeRef(provider, "https://s3.example.com", true)
	w["access"] = cty.StringVal(access)
	if p.Public == objectstore.CustomDomain && access == publicObjects {
		w["public_host"] = cty.StringVal("media.example.com")
	}
	if p.CORS {
		w["cors"] = cty.EmptyObjectVal
	}
	cycle := map[string]cty.Value{}
	if p.Versioning || p.AlwaysVersioned {
		cycle["hidden_versions_days"] = cty.NumberIntVal(30)
	}
	if p.AbortsUploads {
		cycle["incomplete_uploads_days"] = cty.NumberIntVal(3)
	}
	if p.Lifecycle && len(cycle) > 0 {
		w["lifecycle"] = object(cycle)
	}
	if p.Versioning {
		w["versioning"] = cty.True
	}
	return w, p
}

// TestFigureSixRequests: at every provider of the table, proven or not, an unchanged bucket with everything managed costs at most
// 6 requests, also where the key may not read one of the settings that decide about access.
func TestFigureSixRequests(t *testing.T) {
	for _, name := range objectstore.Names() {
		for _, access := range []string{publicObjects, private} {
			w, _ := at(t, name, access)
			b, _ := mustMake(t, w)
			list := b.settings()
			// cost is that of a Read in which the setting of an index is refused; -1: none.
			cost := func(refused int) (n int) {
				f := found{Unreadable: refused >= 0}
				for i, one := range list {
					if one.access() && refused >= 0 && i > refused {
						continue
					}
					n++
					switch one.(type) {
					case policy:
						f.Values = append(f.Values, policyOf(t, true))
					case accessBlock:
						if i != refused {
							f.Values = append(f.Values, forOurs)
						}
					}
				}
				if refused == 0 || n == 0 {
					n++ // HeadBucket
				}
				if b.publicURL() != "" || b.asksListing(f) {
					n++
				}
				return n
			}
			for i := -1; i < len(list); i++ {
				if i >= 0 && !list[i].access() {
					continue
				}
				if n := cost(i); n > 6 {
					t.Errorf("%s, %s: an unchanged bucket costs %d requests where %d is refused", name, access, n, i)
				}
			}
		}
	}
}

// TestAccessByProvider: what is read and set for access is what the table says.
func TestAccessByProvider(t *testing.T) {
	want := map[string]string{
		"aws": "GetBucketPolicy GetPublicAccessBlock GetBucketOwnershipControls", "minio": "GetBucketPolicy",
		"idrive-e2": "GetBucketPolicy", "wasabi": "GetBucketPolicy GetBucketAcl", "ceph-rgw": "GetBucketPolicy GetBucketAcl",
		"scaleway": "GetBucketAcl GetBucketPolicy", "backblaze-b2": "GetBucketAcl", "cloudflare-r2": "", "garage": "",
	}
	for name, operations := range want {
		w, _ := at(t, name, publicObjects)
		b, _ := mustMake(t, w)
		var got []string
		for _, one := range b.accessSettings() {
			got = append(got, one.operation())
		}
		if strings.Join(got, " ") != operations {
			t.Errorf("%s: %q is read, want %q", name, got, operations)
		}
	}
}

var (
	allOn    = objectstore.PublicAccessBlock{BlockPublicACLs: true, IgnorePublicACLs: true, BlockPublicPolicy: true, RestrictPublic: true}
	forOurs  = objectstore.PublicAccessBlock{BlockPublicACLs: true, IgnorePublicACLs: true}
	halfOpen = objectstore.PublicAccessBlock{BlockPublicACLs: true, IgnorePublicACLs: true, RestrictPublic: true}
)

// TestOrderOfSteps: whatever was found, the bucket is closed before it is locked, and open last.
func TestOrderOfSteps(t *testing.T) {
	tests := []struct {
		name   string
		access string
		found  []any // policy, block, ownership
		want   string
	}{
		{"new and public", publicObjects, nil, "set public access block|set policy|set public access block"},
		{"new and private", private, nil, ""},
		{"as it should be", publicObjects, []any{true, forOurs, objectstore.OwnerEnforced}, ""},
		{"blocked by somebody", publicObjects, []any{true, allOn, objectstore.OwnerEnforced}, "set public access block|set public access block"},
		{"a run that ended between", publicObjects, []any{false, halfOpen, objectstore.OwnerEnforced}, "set policy|set public access block"},
		{"a policy that went", publicObjects, []any{false, forOurs, objectstore.OwnerEnforced}, "set policy"},
		{"ACLs came back", publicObjects, []any{true, objectstore.PublicAccessBlock{}, "ObjectWriter"}, "set object ownership|set public access block"},
		{"to be closed", private, []any{true, forOurs, objectstore.OwnerEnforced}, "delete policy|set public access block"},
		{"to be locked", private, []any{false, forOurs, "ObjectWriter"}, "set object ownership|set public access block"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, _ := at(t, "aws", tt.access)
			for _, name := range []string{"cors", "lifecycle", "versioning"} {
				delete(w, name)
			}
			b, _ := mustMake(t, w)
			f := found{Missing: tt.found == nil}
			if !f.Missing {
				f.Values = []any{policyOf(t, tt.found[0].(bool)), tt.found[1], tt.found[2]}
			}
			var got []string
			for _, st := range b.steps(b.settings(), f) {
				target, _, _ := strings.Cut(st.effect.Target, " of ")
				got = append(got, st.effect.Verb+" "+target)
			}
			if strings.Join(got, "|") != tt.want {
				t.Errorf("steps = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestClosingLeavesTheStatementsOfOthers: with them the policy is set, and without any it is deleted.
func TestClosingLeavesTheStatementsOfOthers(t *testing.T) {
	for _, others := range [][]string{nil, {theirs}} {
		steps := policy{}.steps("my-instance-media", policyOf(t, true, others...))
		if len(steps) != 1 || steps[0].phase != closing || !steps[0].effect.Destructive || (steps[0].effect.Verb == "delete") != (others == nil) {
			t.Errorf("with %q: %+v", others, steps)
		}
	}
}

// TestWithdrawingLeavesWhatOthersOpened: the block goes on again, but not over a statement of others that needs it off.
func TestWithdrawingLeavesWhatOthersOpened(t *testing.T) {
	w, _ := at(t, "aws", publicObjects)
	for _, name := range []string{"cors", "lifecycle", "versioning"} {
		delete(w, name)
	}
	b, _ := mustMake(t, w)
	for _, others := range [][]string{nil, {theirs}} {
		c := (&withdrawn{b}).Diff(as(policyOf(t, true, others...), forOurs))
		locked := slices.ContainsFunc(c.Effects, func(e resources.Effect) bool { return strings.Contains(e.Target, "block") })
		if locked != (others == nil) || locked != (len(c.Notes) == 0) || c.Action != resources.Update {
			t.Errorf("with %q: %s %+v %q", others, c.Action, c.Effects, c.Notes)
		}
		c = (&withdrawn{b}).Diff(as(policyOf(t, false, others...), forOurs))
		if (c.Action == resources.None) != (others != nil) {
			t.Errorf("closed, with %q: %s %+v", others, c.Action, c.Effects)
		}
	}
}

// TestSettingsThatAreRefused: what the provider does not have is an error that names it.
func TestSettingsThatAreRefused(t *testing.T) {
	num := cty.NumberIntVal
	tests := []struct {
		name, provider, access string
		attr                   string
		value                  cty.Value
		at                     []string
		says                   string
	}{
		{"CORS at MinIO", "minio", publicObjects, "cors", cty.EmptyObjectVal, []string{"cors"}, "MinIO has no CORS"},
		{"an origin with a path", "aws", publicObjects, "cors", object(map[string]cty.Value{"origins": stringList([]string{"https://a.example/"})}), []string{"cors", "origins"}, "without a slash"},
		{"a bare name for an origin", "aws", publicObjects, "cors", object(map[string]cty.Value{"origins": stringList([]string{"a.example"})}), []string{"cors", "origins"}, "scheme"},
		{"no origin", "aws", publicObjects, "cors", object(map[string]cty.Value{"origins": cty.ListValEmpty(cty.String)}), []string{"cors", "origins"}, "leave the block out"},
		{"uploads at MinIO", "minio", publicObjects, "lifecycle", object(map[string]cty.Value{"incomplete_uploads_days": num(3)}), []string{"lifecycle", "incomplete_uploads_days"}, "MinIO refuses"},
		{"no lifecycle at Exoscale", "exoscale", publicObjects, "lifecycle", object(map[string]cty.Value{"incomplete_uploads_days": num(3)}), []string{"lifecycle"}, "Exoscale"},
		{"an empty lifecycle", "aws", publicObjects, "lifecycle", cty.EmptyObjectVal, []string{"lifecycle"}, "empty"},
		{"six days at B2", "backblaze-b2", publicObjects, "lifecycle", object(map[string]cty.Value{"hidden_versions_days": num(6)}), []string{"lifecycle", "hidden_versions_days"}, "7 or more"},
		{"no day", "aws", publicObjects, "lifecycle", object(map[string]cty.Value{"hidden_versions_days": num(0)}), []string{"lifecycle", "hidden_versions_days"}, "1 or more"},
		{"versions at R2", "cloudflare-r2", publicObjects, "lifecycle", object(map[string]cty.Value{"hidden_versions_days": num(9)}), []string{"lifecycle", "hidden_versions_days"}, "Cloudflare R2 keeps no versions"},
		{"versioning at B2", "backblaze-b2", publicObjects, "versioning", cty.True, []string{"versioning"}, "Backblaze B2 always"},
		{"no versioning at B2", "backblaze-b2", publicObjects, "versioning", cty.False, []string{"versioning"}, "Backblaze B2 always"},
		{"versioning at R2", "cloudflare-r2", publicObjects, "versioning", cty.True, []string{"versioning"}, "Cloudflare R2 has no versioning"},
		{"no host at R2", "cloudflare-r2", publicObjects, "public_host", cty.NullVal(cty.String), []string{"public_host"}, "write public_host"},
		{"no host at Garage", "garage", publicObjects, "public_host", cty.NullVal(cty.String), []string{"public_host"}, "Garage"},
		{"r2.dev", "cloudflare-r2", publicObjects, "public_host", cty.StringVal("pub-0123.r2.dev"), []string{"public_host"}, "limited"},
		{"r2.dev with a port", "cloudflare-r2", publicObjects, "public_host", cty.StringVal("pub-0123.r2.dev:443"), []string{"public_host"}, "limited"},
		{"a URL for a host", "cloudflare-r2", publicObjects, "public_host", cty.StringVal("https://media.example.com"), []string{"public_host"}, "without a scheme"},
		{"a path in a host", "cloudflare-r2", publicObjects, "public_host", cty.StringVal("media.example.com/x"), []string{"public_host"}, "without a scheme"},
		{"a host at AWS", "aws", publicObjects, "public_host", cty.StringVal("media.example.com"), []string{"public_host"}, "Amazon S3"},
		{"a host for nothing", "cloudflare-r2", private, "public_host", cty.StringVal("media.example.com"), []string{"public_host"}, "nothing is public"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, _ := at(t, tt.provider, tt.access)
			w[tt.attr] = tt.value
			_, _, err := decide(t, w)
			var attr *resources.AttrError
			if !errors.As(err, &attr) || !slices.Equal(attr.Path, tt.at) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v, want one at %q that says %q", err, tt.at, tt.says)
			}
		})
	}
}

// TestCustomDomainExports: who reads the bucket is sent to its domain, and who writes it to the store.
func TestCustomDomainExports(t *testing.T) {
	w, _ := at(t, "cloudflare-r2", publicObjects)
	_, exports := mustMake(t, w)
	want := map[string]string{
		"url": "https://media.example.com", "host": "media.example.com", "object_acl": "",
	}
	for name, v := range want {
		if got := exports.GetAttr(name).AsString(); got != v {
			t.Errorf("%s = %q, want %q", name, got, v)
		}
	}
	if exports.GetAttr("path_style").True() {
		t.Error("path_style: the bucket does not stand in the path of its domain")
	}
	store := exports.GetAttr("store").GetAttr("endpoint").AsString()
	if store != "https://s3.example.com" {
		t.Errorf("store.endpoint = %q", store)
	}
}

// TestDiffOfACustomDomain: never seen is a manual step, seen once is a failure to look at.
func TestDiffOfACustomDomain(t *testing.T) {
	w, _ := at(t, "cloudflare-r2", publicObjects)
	delete(w, "cors")
	delete(w, "lifecycle")
	b, _ := mustMake(t, w)
	seen := &probes{At: now, Verdicts: objectstore.Verdicts{{Name: "GET", Status: 200, OK: true}}}
	for _, tt := range []struct {
		name   string
		state  state
		action resources.Action
	}{
		{"no such name yet", state{Domain: "no such host"}, resources.Wait},
		{"it answers", state{}, resources.Look},
		{"it served", state{Probes: seen}, resources.None},
		{"it served, and is silent", state{Probes: seen, Domain: "no such host"}, resources.Look},
		{"new", state{found: found{Missing: true}}, resources.Create},
	} {
		tt.state.Now = now
		c := b.Diff(&tt.state)
		if c.Action != tt.action {
			t.Errorf("%s: %s, want %s", tt.name, c.Action, tt.action)
		}
		if c.Action == resources.Wait && (len(c.Notes) < 3 || c.Wait == nil || c.Remember[existedRecord] == nil || len(c.Effects) > 0) {
			t.Errorf("%s: %+v", tt.name, c)
		}
		total(t, c)
	}
}

// TestLaw8ABlockHoldsBackStatementsOfOthers: a block is not taken away while the policy has a public statement of others that it
// holds back, unless that was in force before, and the bucket seen to be as it is to be.
func TestLaw8ABlockHoldsBackStatementsOfOthers(t *testing.T) {
	w, _ := at(t, "aws", publicObjects)
	for _, name := range []string{"cors", "lifecycle", "versioning"} {
		delete(w, name)
	}
	b, _ := mustMake(t, w)
	for _, tt := range []struct {
		name   string
		block  objectstore.PublicAccessBlock
		others []string
		probes *probes
		want   resources.Action
	}{
		{"without any", allOn, nil, nil, resources.Update},
		{"locked, with one", allOn, []string{theirs}, nil, resources.Blocked},
		{"half open, with one", halfOpen, []string{theirs}, nil, resources.Blocked},
		{"open, with one", objectstore.PublicAccessBlock{}, []string{theirs}, nil, resources.Update},
		{"with another than was in force", allOn, []string{theirs}, &probes{Others: "x"}, resources.Blocked},
		{"with the one that was in force", allOn, []string{theirs}, &probes{Others: policyOf(t, true, theirs).ForeignDigest()}, resources.Update},
	} {
		p := policyOf(t, true, tt.others...)
		st := &state{found: as(p, tt.block, objectstore.OwnerEnforced), Foreign: p.Foreign(), Others: p.ForeignDigest(), Probes: tt.probes, Now: now}
		c := b.Diff(st)
		if c.Action != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, c.Action, tt.want)
		}
		if c.Action == resources.Blocked && (!strings.Contains(c.Summary, "Theirs") || len(c.Notes) == 0 || len(c.Effects) > 0) {
			t.Errorf("%s: %q, %q, %d effects", tt.name, c.Summary, c.Notes, len(c.Effects))
		}
	}
}
