package objectstore

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/providers.md anew")

const providersFile = "../docs/providers.md"

// TestProvidersPageIsCurrent holds docs/providers.md to the table.
func TestProvidersPageIsCurrent(t *testing.T) {
	want := providersPage()
	if *update {
		if err := os.WriteFile(providersFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(providersFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/providers.md is not what the table says; run: go test ./objectstore -run ProvidersPage -update")
	}
}

const pageHead = `# Providers of object stores

What converge knows of each provider, made from its table (objectstore/providers.go) by ` + "`go test ./objectstore -update`" + `.

No test can reach a provider. "Proven against a simulation" means: converge runs end to end against a server that refuses what the
provider's documents, and the reports of its users, say that it refuses. "From documents, unproven" means that nobody has run it. The
date is when the documents were read. "Unknown" is what they do not say; behind it stands what converge takes for it, which is the
careful choice. After an apply, probes look how the store really behaves.

Where a store differs from its entry, write it into the ` + "`object_store`" + `: ` + "`public_by`, `conditional_writes`, `checksum_headers`" + ` and
` + "`batch_delete`" + ` go before the table. A store that is not listed is ` + "`provider = \"generic\"`" + `.
`

func providersPage() string {
	b := &strings.Builder{}
	b.WriteString(pageHead)
	b.WriteString("\n| provider | | objects become public by | `backups/` can stay private | requests cost |\n|---|---|---|---|---|\n")
	for _, name := range Names() {
		p, _ := Lookup(name)
		fmt.Fprintf(b, "| [`%s`](#%s) | %s | %s | %s | %s |\n", name, anchor(p.Title), p.Evidence(), said(p, "Public", waysWords[p.Public]),
			yes(p, "PrivatePrefixes", p.PrivatePrefixes), pricesShort(p))
	}
	for _, name := range Names() {
		p, _ := Lookup(name)
		writeProvider(b, p)
	}
	return b.String()
}

// anchor is GitHub's name of a heading.
func anchor(title string) string {
	keep := func(r rune) rune {
		if r == ' ' {
			return '-'
		}
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", r) {
			return r
		}
		return -1
	}
	return strings.Map(keep, strings.ToLower(title))
}

var waysWords = map[Public]string{
	BucketPolicy: "a bucket policy over their prefixes", ObjectACL: "the ACL of each object",
	BucketACL: "the bucket's ACL, all at once", CustomDomain: "a domain that is connected in the console, all at once",
}

func writeProvider(b *strings.Builder, p *Provider) {
	fmt.Fprintf(b, "\n## %s\n\n`provider = \"%s\"`: %s, facts of %s.\n\n| | |\n|---|---|\n", p.Title, p.Name, p.Evidence(), p.Date)
	for _, row := range rowsOf(p) {
		if row[1] != "" {
			fmt.Fprintf(b, "| %s | %s |\n", row[0], strings.ReplaceAll(row[1], "|", `\|`))
		}
	}
	b.WriteString("\n")
	for _, note := range p.Notes {
		fmt.Fprintf(b, "- %s\n", note)
	}
	b.WriteString("\nRead in:\n")
	for _, source := range p.Sources {
		fmt.Fprintf(b, "- %s\n", source)
	}
}

func rowsOf(p *Provider) [][2]string {
	return [][2]string{
		{"address", addressWords(p)},
		{"region", regionWords(p)},
		{"addressing", said(p, "PathStyle", cond(p.PathStyle, "the bucket in the path", "the bucket in the host name"))},
		{"access key id", keyWords(p)},
		{"secret access key", cond(p.Secret != nil, p.SecretRule, cond(!p.Knows("Secret"), "form unknown", ""))},
		{"names of buckets", said(p, "BucketName", p.BucketRule)},
		{"objects become public by", said(p, "Public", waysWords[p.Public])},
		{"ACL that uploads send", cond(p.ObjectACL != "", "`"+p.ObjectACL+"`", "none")},
		{"a prefix can stay private", yes(p, "PrivatePrefixes", p.PrivatePrefixes)},
		{"new buckets block public access", yes(p, "PublicAccessBlock", p.PublicAccessBlock)},
		{"new buckets have ACLs switched off", yes(p, "Ownership", p.Ownership)},
		{"CORS", yes(p, "CORS", p.CORS)},
		{"lifecycle", yes(p, "Lifecycle", p.Lifecycle)},
		{"lifecycle ends incomplete uploads", yes(p, "AbortsUploads", p.AbortsUploads)},
		{"versions", cond(p.AlwaysVersioned, "always kept", yes(p, "Versioning", p.Versioning))},
		{"conditional writes (If-None-Match)", yes(p, "ConditionalWrites", p.ConditionalWrites)},
		{"checksum headers", yes(p, "RefusesChecksums", !p.RefusesChecksums)},
		{"many deletions in one request", yes(p, "BatchDelete", p.BatchDelete)},
		{"uploads in parts", partsWords(p)},
		{"rate limit", said(p, "RateLimit", p.RateLimit)},
		{"requests cost", pricesWords(p)},
		{"a domain of one's own", said(p, "CustomDomain", p.CustomDomain)},
		{"rights of converge's key", said(p, "AgentRights", quoted(p.AgentRights))},
		{"rights of the app's key", said(p, "AppRights", quoted(p.AppRights))},
	}
}

// said is text, or unknown with text as what is taken for it.
func said(p *Provider, field, text string) string {
	switch {
	case p.Knows(field):
		return text
	case text == "":
		return "unknown"
	}
	return "unknown; taken for: " + text
}

func yes(p *Provider, field string, is bool) string {
	return said(p, field, cond(is, "yes", "no"))
}

func cond(is bool, then, otherwise string) string {
	if is {
		return then
	}
	return otherwise
}

func quoted(rights []string) string {
	return "`" + strings.Join(rights, "`, `") + "`"
}

func addressWords(p *Provider) string {
	switch {
	case p.Discovery != "":
		return "asked for at `" + p.Discovery + "`, or written as `endpoint`"
	case p.Endpoint == "":
		return "of your own: `endpoint`"
	}
	text := "`" + p.Endpoint + "`" + cond(p.HTTPSOnly, ", https only", "")
	if p.Account != nil {
		text += "; `account_id` is such as `" + p.AccountExample + "`"
	}
	for _, j := range p.Jurisdictions {
		text += fmt.Sprintf("; for buckets in the jurisdiction %s, write `endpoint = \"%s\"`", j,
			strings.Replace(p.Endpoint, "{account}", "{account}."+j, 1))
	}
	return text
}

func regionWords(p *Provider) string {
	text := "such as `" + p.RegionExample + "`"
	if p.DefaultRegion != "" {
		text = "`" + p.DefaultRegion + "` where none is written"
	}
	for _, region := range slices.Sorted(maps.Keys(p.SigningRegions)) {
		text += fmt.Sprintf("; `%s` signs as `%s`", region, p.SigningRegions[region])
	}
	return text
}

func keyWords(p *Provider) string {
	switch {
	case p.KeyID != nil:
		return "such as `" + p.KeyIDExample + "`" + cond(p.IsMasterKey != nil, "; the account's master key is refused", "")
	case !p.Knows("KeyID"):
		return "form unknown"
	}
	return "any"
}

func partsWords(p *Provider) string {
	m := p.Multipart
	if m == (Multipart{}) {
		return "unknown"
	}
	text := fmt.Sprintf("%d MiB to %d MiB each, at most %s", m.MinPart>>20, m.MaxPart>>20, grouped(int64(m.MaxParts)))
	return said(p, "Multipart", text+cond(m.EqualParts, ", all but the last of one size", ""))
}

func pricesShort(p *Provider) string {
	most, free := Price{}, int64(0)
	for _, price := range p.Prices {
		if price.PerThousand > most.PerThousand {
			most = price
		}
		free = max(free, price.Free)
	}
	switch {
	case p.Prices == nil:
		return cond(p.Knows("Classes"), "nothing, it is your own", "unknown")
	case most.PerThousand == 0:
		return "nothing"
	case free > 0:
		return "something, beyond what is free"
	}
	return "something"
}

func pricesWords(p *Provider) string {
	if p.Prices == nil {
		return cond(p.Knows("Classes"), "", "unknown")
	}
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(p.Prices)) {
		price := p.Prices[class]
		text := "nothing"
		if price.PerThousand > 0 {
			text = fmt.Sprintf("%s %g for 1,000", price.Currency, price.PerThousand)
		}
		if price.Free > 0 {
			text += fmt.Sprintf(", %s a %s free", grouped(price.Free), price.FreePer)
		}
		if class == onlyClass {
			return text
		}
		parts = append(parts, fmt.Sprintf("%s (%s): %s", className(class), operationsOf(p, class), text))
	}
	return strings.Join(parts, "; ")
}

func operationsOf(p *Provider, class string) string {
	var ops []string
	for op, c := range p.Classes {
		if c == class && op != "*" && !strings.HasPrefix(op, "Anonymous") {
			ops = append(ops, op)
		}
	}
	slices.Sort(ops)
	if p.Classes["*"] == class {
		ops = append(ops, cond(len(ops) > 0, "and ", "")+"all others")
	}
	return strings.Join(ops, ", ")
}
