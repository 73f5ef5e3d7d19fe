package objectstore

import (
	"strings"
	"testing"
)

func mustRules(t *testing.T, kind *RuleKind, rules string) *Rules {
	t.Helper()
	r, err := parseRules(kind, []byte(`<?xml version="1.0"?><`+kind.root+` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+rules+`</`+kind.root+`>`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	theirCORS   = `<CORSRule><ID>theirs</ID><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod></CORSRule>`
	oursInXML   = `<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>HEAD</AllowedMethod><AllowedHeader>Range</AllowedHeader><MaxAgeSeconds>3600</MaxAgeSeconds>`
	oursInOther = "\n  <MaxAgeSeconds>3600</MaxAgeSeconds> <AllowedMethod>HEAD</AllowedMethod><AllowedMethod>GET</AllowedMethod>\n<AllowedHeader>range</AllowedHeader><AllowedOrigin>*</AllowedOrigin><ExposeHeader/>"
)

var ourCORS = CORSRule{Origins: []string{"*"}, Methods: []string{"GET", "HEAD"}, Headers: []string{"Range"}, MaxAge: 3600}

// TestOurRuleAmongOthers: which one is ours, and whether it is as it shall be.
func TestOurRuleAmongOthers(t *testing.T) {
	ours := ourCORS.Rule()
	withID := "<CORSRule><ID>converge</ID>"
	tests := []struct {
		name, rules string
		is, right   bool
	}{
		{"none", theirCORS, false, false},
		{"ours", theirCORS + withID + oursInXML + "</CORSRule>", true, true},
		{"in other words", withID + oursInOther + "</CORSRule>", true, true},
		{"changed", withID + strings.Replace(oursInXML, "3600", "1", 1) + "</CORSRule>", true, false},
		{"with more in it", withID + oursInXML + "<ExposeHeader>ETag</ExposeHeader></CORSRule>", true, false},
		{"without ids", "<CORSRule>" + oursInOther + "</CORSRule>" + strings.Replace(theirCORS, "<ID>theirs</ID>", "", 1), true, true},
		{"the same of another id", "<CORSRule><ID>theirs</ID>" + oursInXML + "</CORSRule>", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := mustRules(t, CORS, tt.rules)
			found := now.Ours(ours)
			if (found != nil) != tt.is || found != nil && found.Equal(ours) != tt.right {
				t.Errorf("ours = %v, want one: %v, right: %v", found, tt.is, tt.right)
			}
			set := now.With(ours, ours)
			if again := set.Ours(ours); again == nil || !again.Equal(ours) || !set.Once() {
				t.Errorf("set: %s", set.encode())
			}
			if n := strings.Count(string(set.encode()), "<CORSRule>") - strings.Count(tt.rules, "<CORSRule>"); (n == 1) == tt.is {
				t.Errorf("setting it added %d rules: %s", n, set.encode())
			}
			if out := set.With(nil, ours); out.Ours(ours) != nil {
				t.Errorf("taken out: %s", out.encode())
			}
		})
	}
}

// TestRulesOfOthersStayByteByByte, with parts that nobody knows, and in their order.
func TestRulesOfOthersStayByteByByte(t *testing.T) {
	first := "<Rule><ID>a</ID><Status>Enabled</Status><Filter><And><Prefix>x/</Prefix><New attr=\"1\">&lt;é</New></And></Filter><Expiration><Days>9</Days></Expiration></Rule>"
	last := "<Rule> <Status>Disabled</Status> <Prefix/></Rule>"
	ours := LifecycleRule{HiddenVersionsDays: 7, IncompleteUploadsDays: 3}.Rule()
	now := mustRules(t, Lifecycle, first+"<Rule><ID>converge</ID><Status>Disabled</Status></Rule>"+last)
	for _, after := range []string{string(now.With(ours, ours).encode()), string(now.With(nil, ours).encode())} {
		if !strings.Contains(after, first) || !strings.Contains(after, last) || strings.Index(after, first) > strings.Index(after, last) {
			t.Errorf("rules = %s", after)
		}
	}
	twice := mustRules(t, Lifecycle, strings.Repeat("<Rule><ID>converge</ID><Status>Disabled</Status></Rule>", 2))
	if twice.Once() || !twice.With(ours, ours).Once() || !twice.With(nil, ours).Empty() {
		t.Errorf("two rules of our id: %s", twice.With(ours, ours).encode())
	}
}

// TestLifecycleMeaning: stores give back the prefix in another place, or not at all.
func TestLifecycleMeaning(t *testing.T) {
	ours := LifecycleRule{HiddenVersionsDays: 7}.Rule()
	version := "<NoncurrentVersionExpiration><NoncurrentDays>%</NoncurrentDays></NoncurrentVersionExpiration>"
	for text, same := range map[string]bool{
		"<Status>Enabled</Status><Prefix></Prefix>" + version:                       true,
		"<Filter/><Status>Enabled</Status>" + version:                               true,
		"<Filter><Prefix/></Filter><Status>Enabled</Status>" + version:              true,
		"<Filter><Prefix>x/</Prefix></Filter><Status>Enabled</Status>" + version:    false,
		"<Status>Disabled</Status>" + version:                                       false,
		"<Status>Enabled</Status>" + strings.Replace(version, "%", "8", 1):          false,
		"<Status>Enabled</Status><Expiration><Days>1</Days></Expiration>" + version: false,
	} {
		rule, err := parseRule(Lifecycle, strings.ReplaceAll(text, "%", "7"))
		if err != nil || rule.Equal(ours) != same {
			t.Errorf("%s: equal %v, want %v (%v)", text, rule.Equal(ours), same, err)
		}
	}
	if got, want := ours.String(), "NoncurrentVersionExpiration/NoncurrentDays 7; Status Enabled"; got != want {
		t.Errorf("in words: %s, want %s", got, want)
	}
}

// TestDocumentsThatCannotBeKept are not written anew: a part that went lost could widen a rule that deletes.
func TestDocumentsThatCannotBeKept(t *testing.T) {
	for _, text := range []string{
		"", "<html></html>", "<LifecycleConfiguration><Rule>", "<CORSConfiguration></CORSConfiguration>",
		`<LifecycleConfiguration xmlns:x="u"><Rule><x:Filter/></Rule></LifecycleConfiguration>`,
		"<LifecycleConfiguration><TransitionDefaults/></LifecycleConfiguration>",
	} {
		if r, err := parseRules(Lifecycle, []byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, r)
		}
	}
}
