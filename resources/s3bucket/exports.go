package s3bucket

import (
	"cmp"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// objectACL is the canned ACL that uploads to the bucket must send; "" for none.
func (b *bucket) objectACL() string {
	if b.Access == publicObjects {
		return b.provider.ObjectACL
	}
	return ""
}

func (b *bucket) exports() cty.Value {
	return cty.ObjectVal(map[string]cty.Value{
		"name":         cty.StringVal(b.Name),
		"host":         cty.StringVal(b.readHost()),
		"url":          cty.StringVal(b.readURL()),
		"path_style":   cty.BoolVal(b.Store.PathStyle && b.publicURL() == ""),
		"provider":     cty.StringVal(b.Store.Provider),
		"store":        b.storeValue(),
		"object_acl":   cty.StringVal(b.objectACL()),
		"mastodon_env": b.mastodonEnv(),
	})
}

// readURL is where everybody reads the objects: the custom domain where there is one, else the store.
func (b *bucket) readURL() string {
	return cmp.Or(b.publicURL(), b.Store.BucketURL(b.Name))
}

func (b *bucket) readHost() string {
	if b.publicURL() != "" {
		return b.PublicHost
	}
	return b.Store.BucketHost(b.Name)
}

func (b *bucket) storeValue() cty.Value {
	return cty.ObjectVal(map[string]cty.Value{
		"provider":          cty.StringVal(b.Store.Provider),
		"region":            cty.StringVal(b.Store.Region),
		"endpoint":          cty.StringVal(b.Store.Endpoint),
		"host":              cty.StringVal(b.Store.Host()),
		"path_style":        cty.BoolVal(b.Store.PathStyle),
		"ca_file":           cty.StringVal(b.Store.CAFile),
		"access_key_id":     b.Store.AccessKeyID.Value(),
		"secret_access_key": b.Store.SecretAccessKey.Value(),

		"public_by":          cty.StringVal(b.Store.PublicBy),
		"conditional_writes": cty.StringVal(string(b.Store.ConditionalWrites)),
		"checksum_headers":   cty.StringVal(string(b.Store.ChecksumHeaders)),
		"batch_delete":       cty.StringVal(string(b.Store.BatchDelete)),
	})
}

// mastodonEnv is the same for all versions from 4.0 on, so that an upgrade of Mastodon cannot break uploads before converge
// runs again (names and meanings: Mastodon 4.6.5 config/initializers/paperclip.rb, app/lib/attachment_batch.rb). What must not
// stay from another provider is written even where it is Mastodon's default.
func (b *bucket) mastodonEnv() cty.Value {
	env := map[string]cty.Value{
		"S3_ENABLED":  cty.StringVal("true"), // exactly so: "True" and "1" leave the media on the disk
		"S3_BUCKET":   cty.StringVal(b.Name),
		"S3_REGION":   cty.StringVal(b.provider.SigningRegion(b.Store.Region)),
		"S3_ENDPOINT": cty.StringVal(b.Store.Endpoint),
		"S3_HOSTNAME": cty.StringVal(b.Store.Host()), // in addresses without S3_ALIAS_HOST, with the bucket in the path
		"S3_PROTOCOL": cty.StringVal("https"),        // of addresses; in production the CSP allows no other

		// Only "true" has the bucket stand in the host name.
		"S3_OVERRIDE_PATH_STYLE": cty.StringVal(strconv.FormatBool(!b.Store.PathStyle)),

		// Written and empty means that no ACL is sent; not written would mean public-read.
		"S3_PERMISSION": cty.StringVal(b.objectACL()),

		// Downloads for reprocessing in one request, not in ranges, which Wasabi, Exoscale and OVH answer wrongly
		// (mastodon/mastodon#16822, #26394, #29186); uploads are not concerned.
		"S3_FORCE_SINGLE_REQUEST": cty.StringVal("true"),
		// Bytes, as the default is. The documentation words it "15 (megabytes)", and a literal 15 breaks uploads.
		"S3_MULTIPART_THRESHOLD": cty.StringVal("15728640"),
		// The defaults, 5 s and no retry, lose uploads when a store is slow. Mastodon's documentation: not above 3.
		"S3_READ_TIMEOUT": cty.StringVal("60"),
		"S3_RETRY_LIMIT":  cty.StringVal("3"),

		// Ruby's SDK, from Mastodon 4.6 on: without these it sends checksums that stores refuse (mastodon/mastodon#33624).
		"AWS_REQUEST_CHECKSUM_CALCULATION": cty.StringVal("when_required"),
		"AWS_RESPONSE_CHECKSUM_VALIDATION": cty.StringVal("when_required"),
	}
	if b.publicURL() != "" {
		env["S3_ALIAS_HOST"] = cty.StringVal(b.PublicHost) // nobody can read at the store's own address
	}
	if b.provider.RefusesChecksums {
		env["S3_ENABLE_CHECKSUM_MODE"] = cty.StringVal("false")
	}
	if !b.provider.BatchDelete {
		// Mastodon deletes many objects in one request whatever it is told; fewer at a time fail less, and are tried more often.
		env["S3_BATCH_DELETE_LIMIT"] = cty.StringVal("100")
		env["S3_BATCH_DELETE_RETRY"] = cty.StringVal("5")
	}
	if b.App != nil {
		env["AWS_ACCESS_KEY_ID"] = b.App.AccessKeyID.Value()
		env["AWS_SECRET_ACCESS_KEY"] = b.App.SecretAccessKey.Value()
	}
	return cty.MapVal(env)
}
