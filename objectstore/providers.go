package objectstore

import "regexp"

// The limits that Amazon S3 has, and the stores that repeat them (Amazon S3 User Guide, "Multipart upload limits").
var (
	s3Parts = Multipart{MinPart: 5 << 20, MaxPart: 5 << 30, MaxParts: 10000}
	anyPart = Multipart{} // unknown
)

// The names of buckets that Amazon S3 takes, and the same without dots, which no host name below a wildcard certificate may have.
var (
	dottedBucket   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	dotlessBucket  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
	dottedRule     = "3 to 63 lower-case letters, digits, dots and hyphens"
	dotlessRule    = "3 to 63 lower-case letters, digits and hyphens"
	anyRegion      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	numberedRegion = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]$`)
	hex32          = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// The masters of Backblaze accounts: 12 hex digits (the account's id), or 25 characters that end in ten zeros, where an
// application key's count stands (b2-sdk-python, AbstractAccountInfo.is_master_key; Backblaze docs, "Application Keys").
var (
	b2OldMaster = regexp.MustCompile(`^[0-9a-f]{12}$`)
	b2NewMaster = regexp.MustCompile(`^[0-9a-zA-Z]{15}0{10}$`)
)

// freeOfCharge are the classes and prices of stores that charge for no request.
var (
	oneClass     = map[string]string{"*": "request"}
	freeOfCharge = map[string]Price{"request": {}}
)

// The rights that an app needs of a store that names them as Amazon does: those of the operations that Mastodon sends (4.6.5
// and kt-paperclip 7.3: lib/paperclip/storage/s3.rb). Without s3:CreateBucket a mistyped bucket cannot come to be.
var s3AppRights = []string{
	"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
}

// s3AppACLRights are the same where each upload sends an ACL.
var s3AppACLRights = []string{
	"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:PutObjectAcl",
}

// s3AgentRights are those of converge's own key where objects become public by policy, with create = true.
var s3AgentRights = []string{
	"s3:AbortMultipartUpload", "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:DeleteObject", "s3:DeleteObjectVersion",
	"s3:GetBucketAcl", "s3:GetBucketCORS", "s3:GetBucketPolicy", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration",
	"s3:GetObject", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutBucketAcl",
	"s3:PutBucketCORS", "s3:PutBucketPolicy", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:PutObject",
}

// s3AgentACLRights are the same where each upload sends an ACL, and the bucket's own is to stay private.
var s3AgentACLRights = []string{
	"s3:AbortMultipartUpload", "s3:CreateBucket", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetBucketAcl",
	"s3:GetBucketCORS", "s3:GetBucketPolicy", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:GetObject",
	"s3:GetObjectAcl", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutBucketAcl",
	"s3:PutBucketCORS", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:PutObject", "s3:PutObjectAcl",
}

// providers is the table. What depends on the provider anywhere in converge is asked of it.
var providers = []*Provider{
	{ //nolint:gosec // no credential: the example of Amazon's own documents
		Name: "aws", Title: "Amazon S3", Proven: true,
		Endpoint:      "https://s3.{region}.amazonaws.com",
		Region:        numberedRegion,
		RegionExample: "eu-central-1",
		NamesRegion:   true,
		KeyID:         regexp.MustCompile(`^AKIA[A-Z0-9]{16}$`),
		KeyIDExample:  "AKIAIOSFODNN7EXAMPLE",
		Secret:        regexp.MustCompile(`^[A-Za-z0-9/+]{40}$`),
		SecretRule:    "40 letters, digits, slashes and plus signs",
		BucketName:    dottedBucket, BucketReserved: "xn--", BucketRule: dottedRule + ", not xn-- at the start",
		Public: BucketPolicy, PrivatePrefixes: true, PublicAccessBlock: true, Ownership: true,
		Never: map[Public]string{
			ObjectACL: "Amazon S3 refuses ACLs in new buckets, and converge switches them off in others (BucketOwnerEnforced)",
		},
		CORS: true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		ConditionalWrites: true, BatchDelete: true,
		Multipart: s3Parts,
		RateLimit: "3500 PUT, COPY, POST or DELETE and 5500 GET or HEAD a second for each prefix, then 503 SlowDown",
		Classes: map[string]string{
			"*": "GET", "CopyObject": "PUT/LIST", "CreateBucket": "PUT/LIST", "CreateMultipartUpload": "PUT/LIST",
			"CompleteMultipartUpload": "PUT/LIST", "ListObjectsV2": "PUT/LIST", "ListObjectVersions": "PUT/LIST",
			"PutBucketAcl": "PUT/LIST", "PutBucketCors": "PUT/LIST", "PutBucketLifecycleConfiguration": "PUT/LIST",
			"PutBucketOwnershipControls": "PUT/LIST", "PutBucketPolicy": "PUT/LIST", "PutBucketVersioning": "PUT/LIST",
			"PutObject": "PUT/LIST", "PutObjectAcl": "PUT/LIST", "PutPublicAccessBlock": "PUT/LIST", "UploadPart": "PUT/LIST",
			"AbortMultipartUpload": "DELETE", "DeleteBucketPolicy": "DELETE", "DeleteObject": "DELETE", "DeleteObjects": "DELETE",
		},
		Prices: map[string]Price{
			"PUT/LIST": {PerThousand: 0.005, Currency: "USD"},
			"GET":      {PerThousand: 0.0004, Currency: "USD"},
			"DELETE":   {},
		},
		CustomDomain: "CloudFront, or a proxy of one's own",
		AgentRights: []string{
			"s3:AbortMultipartUpload", "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:DeleteObject",
			"s3:DeleteObjectVersion", "s3:GetBucketCORS", "s3:GetBucketOwnershipControls", "s3:GetBucketPolicy",
			"s3:GetBucketPublicAccessBlock", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration", "s3:GetObject",
			"s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutBucketAcl", "s3:PutBucketCORS",
			"s3:PutBucketOwnershipControls", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning",
			"s3:PutLifecycleConfiguration", "s3:PutObject",
		},
		AppRights: s3AppRights,
		Notes: []string{
			"Since April 2023 new buckets take no ACLs and block public policies: converge relaxes the block for policies alone.",
			"Prices are those of us-east-1; other regions cost somewhat more.",
		},
		Sources: []string{
			"Amazon S3 User Guide: Endpoints, Bucket naming rules, Blocking public access, Object Ownership, Multipart upload limits, " +
				"Optimizing performance",
			"IAM User Guide: IAM identifiers; rclone 1.76 backend/s3/provider/AWS.yaml (addressing)",
			"AWS price list as quoted by c3x.dev (requests)",
		},
		Date: "2026-11",
	},
	{
		Name: "backblaze-b2", Title: "Backblaze B2", Proven: true,
		Endpoint:       "https://s3.{region}.backblazeb2.com",
		HTTPSOnly:      true,
		Region:         regexp.MustCompile(`^[a-z]{2}-[a-z]+-[0-9]{3}$`),
		RegionExample:  "us-west-001",
		PathStyle:      true,
		KeyID:          regexp.MustCompile(`^[0-9]{3}[0-9a-f]{22}$`),
		KeyIDExample:   "0014aa9865d6f0000000000b0",
		BucketName:     regexp.MustCompile(`^[a-z0-9][a-z0-9-]{4,61}[a-z0-9]$`),
		BucketReserved: "b2-",
		BucketRule:     "6 to 63 lower-case letters, digits and hyphens, not b2- at the start",
		IsMasterKey: func(id string) bool {
			return b2OldMaster.MatchString(id) || b2NewMaster.MatchString(id)
		},
		Public: BucketACL,
		CORS:   true, Lifecycle: true, AlwaysVersioned: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart: s3Parts,
		RateLimit: "500 requests a second for new accounts, then 503 SlowDown, at times with Retry-After",
		Classes: map[string]string{
			"*":         "C",
			"PutObject": "A", "CreateMultipartUpload": "A", "UploadPart": "A", "CompleteMultipartUpload": "A",
			"AbortMultipartUpload": "A", "DeleteObject": "A", "DeleteObjects": "A",
			"GetObject": "B", "HeadObject": "B",
			"AnonymousGET": "B", "AnonymousPUT": "A", "AnonymousDELETE": "A",
		},
		Prices: map[string]Price{
			"A": {},
			"B": {PerThousand: 0.0004, Currency: "USD", Free: 2500, FreePer: "day"},
			"C": {PerThousand: 0.004, Currency: "USD", Free: 2500, FreePer: "day"},
		},
		CustomDomain: "a CNAME behind Cloudflare, or a proxy of one's own",
		AgentRights: []string{
			"deleteFiles", "listAllBucketNames", "listBuckets", "listFiles", "readBuckets", "readFiles", "writeBuckets", "writeFiles",
		},
		AppRights: []string{"deleteFiles", "listAllBucketNames", "listBuckets", "listFiles", "readFiles", "writeFiles"},
		Notes: []string{
			"The account's master key, and keys from before 4 May 2020, do not work with the S3 interface.",
			"An account lives in one region; the first three digits of a key id are the last three of its region.",
			"Mastodon's SDK sends a CRC32 with DeleteObjects from 4.6 on, whatever is set (aws/aws-sdk-ruby#3167). Where B2 refuses it, as it did with " +
				"uploads in 2025, media that are deleted many at once stay in the bucket. Whether it does today is unknown.",
			"An upload may send an ACL only if it equals the bucket's, so none is sent.",
			"writeBuckets cannot be given to a key that is restricted to a bucket: create the bucket in the console for such a key.",
			"Old versions of objects are kept and paid until a rule of the lifecycle ends them.",
		},
		Unknown: []string{"Secret", "AbortsUploads", "Multipart"},
		Sources: []string{
			"Backblaze docs: S3-Compatible API, S3 Put Bucket ACL, Create and Manage Buckets, Application Keys, S3-Compatible App Keys, " +
				"Rate Limits, Transaction Prices",
			"mastodon/mastodon#33624 (checksums); sathinduga/obsidian-s3-sync-and-backup#84, and vdavid/cmdr, \"S3 live " +
				"verification\", 2026-10-02 (conditional writes: 501)",
			"b2-sdk-python, AbstractAccountInfo.is_master_key (shape of keys)",
		},
		Date: "2026-11",
	},
	{
		Name: "ceph-rgw", Title: "Ceph RADOS Gateway", Proven: true, OwnServer: true,
		Region: anyRegion, RegionExample: "default", DefaultRegion: "us-east-1",
		PathStyle:  true,
		BucketName: dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true, ACLs: true,
		CORS: true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart:    s3Parts,
		CustomDomain: "a proxy of one's own",
		AgentRights:  s3AgentRights,
		AppRights:    s3AppRights,
		Notes: []string{
			"ACLs work too: with public_by = \"object-acl\" each upload is made public on its own.",
			"If-None-Match is honoured by newer versions only: write conditional_writes = true where yours does.",
		},
		Unknown: []string{"RateLimit"},
		Sources: []string{
			"Ceph docs: S3 API, Bucket Policies, Multisite; RGW 16 of Debian, run",
			"BlueMapS3Storage#73 (trailing checksums refused)",
		},
		Date: "2026-11",
	},
	{ //nolint:gosec // no credential: the form of one
		Name: "cloudflare-r2", Title: "Cloudflare R2", Proven: true,
		Endpoint:       "https://{account}.r2.cloudflarestorage.com",
		Account:        hex32,
		AccountExample: "023e105f4ecef8ad9ca31a8372d0c353",
		Jurisdictions:  []string{"eu", "fedramp"},
		HTTPSOnly:      true,
		Region:         regexp.MustCompile(`^auto$`),
		RegionExample:  "auto",
		DefaultRegion:  "auto",
		PathStyle:      true,
		KeyID:          hex32,
		KeyIDExample:   "6b1d3a0e5f2c4897a1b0c9d8e7f60514",
		Secret:         regexp.MustCompile(`^[0-9a-f]{64}$`),
		SecretRule:     "64 hex digits",
		BucketName:     dotlessBucket, BucketRule: dotlessRule,
		Public: CustomDomain,
		CORS:   true, Lifecycle: true, AbortsUploads: true,
		ConditionalWrites: true, RefusesChecksums: true, BatchDelete: true,
		Multipart: Multipart{MinPart: 5 << 20, MaxPart: 5115 << 20, MaxParts: 10000, EqualParts: true},
		RateLimit: "1 write a second for each key, then 429 TooManyRequests; 50 a second for settings of buckets",
		Classes: map[string]string{
			"*":          "A",
			"HeadBucket": "B", "HeadObject": "B", "GetObject": "B", "GetBucketCors": "B", "GetBucketLifecycleConfiguration": "B",
			"GetBucketLocation": "B", "AnonymousGET": "B",
			"DeleteObject": "free", "DeleteObjects": "free", "AbortMultipartUpload": "free", "AnonymousDELETE": "free",
			"AnonymousPUT": "free",
		},
		Prices: map[string]Price{
			"A":    {PerThousand: 0.0045, Currency: "USD", Free: 1_000_000, FreePer: "month"},
			"B":    {PerThousand: 0.00036, Currency: "USD", Free: 10_000_000, FreePer: "month"},
			"free": {},
		},
		CustomDomain: "a custom domain of the bucket, in a zone of the same account: public_host of the s3_bucket; at most 50 a bucket",
		AgentRights:  []string{"Object Read & Write"},
		AppRights:    []string{"Object Read & Write"},
		Notes: []string{
			"Object Read & Write does for a bucket that is there, with create = false; to create one, or to set CORS and the lifecycle, " +
				"converge's token needs Admin Read & Write.",
			"The r2.dev address of a bucket is limited in rate and not for production.",
			"What the dashboard shows as S3 API has the bucket at its end: write account_id instead.",
			"There are no ACLs and no bucket policies; an ACL that an upload sends is ignored.",
			"Uploads in parts that nobody completed end after 7 days.",
		},
		Sources: []string{
			"Cloudflare docs, R2: Authentication, S3 API compatibility, Extensions, Public buckets, Limits, Pricing, Release notes",
			"mastodon/documentation admin/optional/object-storage (S3_PERMISSION)",
		},
		Date: "2026-11",
	},
	{
		Name: "digitalocean", Title: "DigitalOcean Spaces",
		Endpoint:      "https://{region}.digitaloceanspaces.com",
		Region:        regexp.MustCompile(`^[a-z]{3}[0-9]$`),
		RegionExample: "fra1",
		BucketName:    dotlessBucket, BucketRule: dotlessRule,
		Public: ObjectACL, PrivatePrefixes: true, ObjectACL: "public-read",
		CORS: true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart: s3Parts,
		RateLimit: "150 PUT, POST, COPY, DELETE or LIST a second for each bucket, 750 requests a second for each address",
		Classes:   oneClass, Prices: freeOfCharge,
		CustomDomain: "its CDN, or a proxy of one's own",
		AgentRights:  []string{"fullaccess"},
		AppRights:    []string{"readwrite"},
		Notes: []string{
			"Set File Listing to Restricted in the control panel: a bucket whose listing is open shows every object.",
			"Bucket policies work too, but not on cold storage buckets: public_by = \"policy\".",
		},
		Unknown: []string{"KeyID", "Secret", "ConditionalWrites", "RefusesChecksums", "AbortsUploads", "Multipart"},
		Sources: []string{
			"DigitalOcean docs: Spaces, Limits, Configure bucket policies, Pricing, spaces_key (rights of keys); rclone 1.76 backend/s3/provider/DigitalOcean.yaml",
			"mastodon/documentation admin/optional/object-storage (object ACL, File Listing)",
		},
		Date: "2026-11",
	},
	{
		Name: "exoscale", Title: "Exoscale SOS",
		Endpoint:      "https://sos-{region}.exo.io",
		Region:        regexp.MustCompile(`^[a-z]{2}-[a-z]{2,4}-[0-9]$`),
		RegionExample: "ch-gva-2",
		PathStyle:     true,
		BucketName:    dotlessBucket, BucketRule: dotlessRule,
		Public: ObjectACL, PrivatePrefixes: true, ObjectACL: "public-read",
		CORS:             true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart:    anyPart,
		CustomDomain: "a proxy of one's own",
		AgentRights:  s3AgentACLRights,
		AppRights:    s3AppACLRights,
		Notes: []string{
			"The bucket itself must have no ACL that lets everybody read it: that would open its listing.",
			"Mastodon's own documentation asks for S3_FORCE_SINGLE_REQUEST here.",
		},
		Unknown: []string{
			"PathStyle", "KeyID", "Secret", "Lifecycle", "Versioning", "AbortsUploads", "ConditionalWrites", "RefusesChecksums",
			"BatchDelete", "Multipart", "RateLimit", "Classes", "AgentRights", "AppRights",
		},
		Sources: []string{
			"mastodon/documentation admin/optional/object-storage; Exoscale's Terraform provider, SosBucketPolicy",
		},
		Date: "2026-11",
	},
	{
		Name: "garage", Title: "Garage",
		Region: anyRegion, RegionExample: "garage", DefaultRegion: "garage",
		PathStyle:  true,
		BucketName: dottedBucket, BucketRule: dottedRule,
		Public: CustomDomain,
		CORS:   true, Lifecycle: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart:    s3Parts,
		RateLimit:    "none of its own",
		CustomDomain: "the website of the bucket: garage bucket website --allow NAME, at a host name of its [s3_web] root_domain",
		AgentRights:  []string{"--owner", "--read", "--write"},
		AppRights:    []string{"--read", "--write"},
		Notes: []string{
			"There are no ACLs and no bucket policies: a key has rights on a bucket, and everybody reads through the website.",
			"Keys make no buckets unless they may: garage key allow --create-bucket NAME.",
		},
		Unknown: []string{"KeyID", "Secret", "AbortsUploads", "ConditionalWrites", "RefusesChecksums", "BatchDelete", "Multipart"},
		Sources: []string{"Garage docs: S3 Compatibility status, Exposing websites, CLI"},
		Date:    "2026-11",
	},
	{
		Name: "generic", Title: "Any other S3-compatible store",
		Region: anyRegion, RegionExample: "us-east-1",
		PathStyle:  true,
		BucketName: dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true, ACLs: true,
		CORS: true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		RefusesChecksums: true,
		Multipart:        s3Parts,
		CustomDomain:     "a proxy of one's own",
		AgentRights:      s3AgentRights,
		AppRights:        s3AppRights,
		Notes: []string{
			"Nothing is known of it. What the probes find is compared with public_by, conditional_writes, checksum_headers and " +
				"batch_delete of the object_store.",
		},
		Unknown: []string{
			"PathStyle", "KeyID", "Secret", "BucketName", "Public", "PrivatePrefixes", "CORS", "Lifecycle", "Versioning", "AbortsUploads",
			"ConditionalWrites", "RefusesChecksums", "BatchDelete", "Multipart", "RateLimit", "Classes", "CustomDomain", "AgentRights",
			"AppRights",
		},
		Sources: []string{"Amazon S3 API Reference, as far as stores keep to it"},
		Date:    "2026-11",
	},
	{
		Name: "hetzner", Title: "Hetzner Object Storage",
		Endpoint:      "https://{region}.your-objectstorage.com",
		Region:        regexp.MustCompile(`^(fsn1|nbg1|hel1)$`),
		RegionExample: "fsn1",
		BucketName:    dotlessBucket, BucketRule: dotlessRule,
		Public: BucketPolicy, PrivatePrefixes: true, ACLs: true,
		CORS: true, Lifecycle: true, Versioning: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart: anyPart,
		Classes:   oneClass, Prices: freeOfCharge,
		CustomDomain: "none: a proxy of one's own is needed",
		AgentRights:  s3AgentRights,
		AppRights:    s3AppRights,
		Notes: []string{
			"A bucket that is created as public lets everybody list it: converge creates private ones and opens prefixes by policy.",
			"At most 100 buckets, and 50 million objects in each.",
		},
		Unknown: []string{"KeyID", "Secret", "AbortsUploads", "ConditionalWrites", "BatchDelete", "Multipart", "RateLimit"},
		Sources: []string{
			"Hetzner docs: Object Storage, Supported actions, Buckets and objects; home-assistant/core#144015 (checksums)",
		},
		Date: "2026-11",
	},
	{
		Name: "idrive-e2", Title: "iDrive e2", Proven: true,
		Discovery:     "https://api.idrivee2.com/api/service/get_region_end_point",
		Region:        anyRegion,
		RegionExample: "us-east-1",
		DefaultRegion: "us-east-1",
		PathStyle:     true,
		BucketName:    dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true, Unseen: true,
		CORS: true, Lifecycle: true, Versioning: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart: anyPart,
		Classes:   oneClass, Prices: freeOfCharge,
		CustomDomain: "Add CNAME in the console, for each region with a certificate of one's own; the bucket's name must be the first " +
			"label of the host (files for files.example.com)",
		AgentRights: []string{ // no ACLs are known there
			"s3:AbortMultipartUpload", "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:DeleteObject",
			"s3:DeleteObjectVersion", "s3:GetBucketCORS", "s3:GetBucketPolicy", "s3:GetBucketVersioning",
			"s3:GetLifecycleConfiguration", "s3:GetObject", "s3:ListBucket", "s3:ListBucketMultipartUploads",
			"s3:ListBucketVersions", "s3:PutBucketCORS", "s3:PutBucketPolicy", "s3:PutBucketVersioning",
			"s3:PutLifecycleConfiguration", "s3:PutObject",
		},
		AppRights: s3AppRights,
		Notes: []string{
			"Every account and region has a host of its own: converge asks iDrive for that of the access key, or write endpoint.",
			"Public access is for paid accounts. A bucket that support opened by hand was readable and writable for everybody.",
			"Names of objects have at most 254 characters.",
		},
		Unknown: []string{"KeyID", "Secret", "AbortsUploads", "ConditionalWrites", "Multipart", "RateLimit", "AgentRights", "AppRights"},
		Sources: []string{
			"iDrive e2 docs: FAQ, Developer guide, Transaction prices; rclone 1.76 backend/s3 (setEndpointValueForIDriveE2)",
			"rclone/rclone#7445 (checksums)",
		},
		Date: "2026-11",
	},
	{
		Name: "ionos", Title: "IONOS Object Storage",
		Endpoint:       "https://s3.{region}.ionoscloud.com",
		Region:         numberedRegion,
		RegionExample:  "eu-central-1",
		SigningRegions: map[string]string{"eu-central-1": "de"},
		PathStyle:      true,
		BucketName:     dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true, ACLs: true,
		CORS: true, Lifecycle: true, Versioning: true,
		RefusesChecksums: true, BatchDelete: true,
		Multipart:    anyPart,
		CustomDomain: "a proxy of one's own",
		AgentRights:  s3AgentRights,
		AppRights:    s3AppRights,
		Notes: []string{
			"ACLs work too: public_by = \"object-acl\".",
			"Buckets can have a block in front of public access: take it away in the console if the probes are refused.",
		},
		Unknown: []string{
			"KeyID", "Secret", "PublicAccessBlock", "AbortsUploads", "ConditionalWrites", "RefusesChecksums", "BatchDelete", "Multipart",
			"RateLimit", "Classes", "AgentRights", "AppRights",
		},
		Sources: []string{
			"IONOS docs: Object Storage, Access management; IONOS's Pulumi provider; rclone 1.76 backend/s3/provider/IONOS.yaml",
		},
		Date: "2026-11",
	},
	{
		Name: "minio", Title: "MinIO", Proven: true,
		Region: anyRegion, RegionExample: "us-east-1", DefaultRegion: "us-east-1",
		PathStyle:  true,
		BucketName: dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true,
		Lifecycle: true, Versioning: true,
		ConditionalWrites: true, BatchDelete: true,
		Multipart:    s3Parts,
		RateLimit:    "none unless the server is given one",
		CustomDomain: "a proxy of one's own",
		AgentRights: []string{
			"s3:AbortMultipartUpload", "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:DeleteObject",
			"s3:DeleteObjectVersion", "s3:GetBucketPolicy", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration",
			"s3:GetObject", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutBucketPolicy",
			"s3:PutBucketVersioning", "s3:PutLifecycleConfiguration", "s3:PutObject",
		},
		AppRights: s3AppRights,
		Notes: []string{
			"Its ready-made policies download and public let everybody list the bucket: converge writes one of its own.",
			"CORS is not a bucket's setting: every origin is allowed.",
			"A lifecycle that aborts incomplete uploads is refused.",
			"The project ended on 2026-02-12 and gets no more fixes.",
		},
		Sources: []string{"MinIO docs: S3 API Compatibility, Access Management; MinIO of 2026-02-12, run"},
		Date:    "2026-11",
	},
	{
		Name: "ovh", Title: "OVHcloud Object Storage",
		Endpoint:      "https://s3.{region}.io.cloud.ovh.net",
		Region:        regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)*(-[0-9])?$`),
		RegionExample: "gra",
		BucketName:    dottedBucket, BucketRule: dottedRule,
		Public: ObjectACL, PrivatePrefixes: true, ObjectACL: "public-read",
		CORS: true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		ConditionalWrites: true, RefusesChecksums: true, BatchDelete: true,
		Multipart:    anyPart,
		CustomDomain: "a proxy of one's own",
		AgentRights:  s3AgentACLRights,
		AppRights:    s3AppACLRights,
		Notes:        []string{"Whether bucket policies work is unknown: ACLs do."},
		Unknown: []string{
			"KeyID", "Secret", "BucketName", "CORS", "BatchDelete", "Multipart", "RateLimit", "Classes", "AgentRights", "AppRights",
		},
		Sources: []string{
			"OVHcloud docs: Object Storage, Conditional writes (2026-06-09); OVHcloud's Pulumi provider (lifecycle, versioning); rclone 1.76 backend/s3/provider/OVHcloud.yaml",
			"ovh/public-cloud-roadmap#781, earth-mover/icechunk#2115 (checksums)",
		},
		Date: "2026-11",
	},
	{ //nolint:gosec // no credential: the form of one
		Name: "scaleway", Title: "Scaleway Object Storage", Proven: true,
		Endpoint:      "https://s3.{region}.scw.cloud",
		Region:        regexp.MustCompile(`^[a-z]{2}-[a-z]{3}$`),
		RegionExample: "fr-par",
		KeyID:         regexp.MustCompile(`^SCW[A-Z0-9]{17}$`),
		KeyIDExample:  "SCWXXXXXXXXXXXXXXXXX",
		Secret:        regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
		SecretRule:    "a UUID, such as 11111111-2222-3333-4444-555555555555",
		BucketName:    dottedBucket, BucketRule: dottedRule,
		Public: ObjectACL, PrivatePrefixes: true, ObjectACL: "public-read",
		Never: map[Public]string{BucketPolicy: "a bucket policy at Scaleway locks out every key that it does not name, converge's and the app's too"},
		CORS:  true, Lifecycle: true, Versioning: true, AbortsUploads: true,
		ConditionalWrites: true, BatchDelete: true,
		Multipart: Multipart{MinPart: 5 << 20, MaxPart: 5 << 30, MaxParts: 1000},
		RateLimit: "a number that is not published, then 429 Too Many Requests",
		Classes:   oneClass, Prices: freeOfCharge,
		CustomDomain: "an Edge Services pipeline, or a proxy of one's own",
		AgentRights:  []string{"ObjectStorageBucketsWrite", "ObjectStorageObjectsDelete", "ObjectStorageObjectsWrite", "ObjectStorageReadOnly"},
		AppRights:    []string{"ObjectStorageBucketsRead", "ObjectStorageObjectsDelete", "ObjectStorageObjectsRead", "ObjectStorageObjectsWrite"},
		Notes: []string{
			"A bucket policy locks out every key that it does not name, and goes before ACLs: converge writes none.",
			"A bucket whose ACL is public-read can be listed by everybody: the bucket stays private, and each object is public.",
			"An upload has at most 1000 parts.",
		},
		Unknown: []string{"PublicAccessBlock"},
		Sources: []string{
			"Scaleway docs: Object Storage FAQ, Manage object visibility, Bucket policy, Supported checksums (2025-06), " +
				"Conditional writes (2026-07-03), Request rate errors; IAM permission sets; rclone 1.76 backend/s3/provider/Scaleway.yaml",
			"mastodon/documentation admin/optional/object-storage",
		},
		Date: "2026-11",
	},
	{
		Name: "wasabi", Title: "Wasabi", Proven: true,
		Endpoint:      "https://s3.{region}.wasabisys.com",
		Region:        numberedRegion,
		RegionExample: "eu-central-1",
		BucketName:    dottedBucket, BucketRule: dottedRule,
		Public: BucketPolicy, PrivatePrefixes: true, ACLs: true,
		CORS: true, Lifecycle: true, Versioning: true,
		BatchDelete: true,
		Multipart:   anyPart,
		RateLimit:   "not published; 400 RequestRateLimitExceeded when it is reached",
		Classes:     oneClass, Prices: freeOfCharge,
		CustomDomain: "a bucket with the name of the host and a CNAME, or a proxy of one's own",
		AgentRights:  s3AgentRights,
		AppRights:    s3AppRights,
		Notes: []string{
			"An ACL that lets everybody read the bucket opens its listing, and goes before the policy.",
			"Accounts from after 13 March 2023, and trials, cannot make anything public until Wasabi's support allows it.",
			"Each object is paid for 90 days, however soon it is deleted: media that Mastodon caches for a week cost thirteen times that.",
			"Mastodon's own documentation asks for S3_FORCE_SINGLE_REQUEST here.",
		},
		Unknown: []string{"KeyID", "Secret", "PublicAccessBlock", "AbortsUploads", "Multipart", "CustomDomain"},
		Sources: []string{
			"Wasabi docs: Policies, Defining a bucket policy for public access (2025-12), Operations on buckets (2026-07), Pricing; rclone 1.76 backend/s3/provider/Wasabi.yaml; rclone/rclone#7445 (checksums)",
			"mastodon/documentation admin/optional/object-storage (listing by ACL)",
			"vdavid/cmdr, \"S3 live verification\", 2026-10-02 (conditional writes: ignored, the object is overwritten)",
		},
		Date: "2026-11",
	},
}
