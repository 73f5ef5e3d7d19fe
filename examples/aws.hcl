# A Mastodon instance whose media move to Amazon S3, behind a caching proxy on this host.
#
#   converge plan  --var bucket=NAME examples/aws.hcl
#   converge apply --var bucket=NAME examples/aws.hcl
#
# What is different at Amazon:
#   public    the prefixes that browsers need, by a bucket policy. New buckets have a block in front of it: converge relaxes it for
#             policies alone, and leaves ACLs off
#   private   backups/ and imports/, which the policy does not name
#   versions  kept because this file says so, and ended after 30 days
#   requests  cost little, traffic to the world a lot: the proxy's cache saves most of it, and a bucket in the region of a host
#             at Amazon the rest
#
# Two IAM users, each with an access key and this policy, on arn:aws:s3:::BUCKET and arn:aws:s3:::BUCKET/*:
#   converge  s3:CreateBucket, s3:ListBucket, s3:ListBucketVersions, s3:ListBucketMultipartUploads,
#             s3:GetObject, s3:PutObject, s3:DeleteObject, s3:DeleteObjectVersion,
#             s3:AbortMultipartUpload, s3:GetBucketPolicy, s3:PutBucketPolicy, s3:DeleteBucketPolicy,
#             s3:GetBucketPublicAccessBlock, s3:PutBucketPublicAccessBlock, s3:GetBucketOwnershipControls,
#             s3:PutBucketOwnershipControls, s3:PutBucketAcl, s3:GetBucketCORS, s3:PutBucketCORS,
#             s3:GetBucketVersioning, s3:PutBucketVersioning, s3:GetLifecycleConfiguration, s3:PutLifecycleConfiguration
#   Mastodon  s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload
#
# The keys are read from /etc/credstore (or systemd's $CREDENTIALS_DIRECTORY); a missing one is named, with the command that
# puts it there. How to make them, step by step: docs/object-stores.md.

variable "live" {
  description = "Mastodon's directory"
  default     = "/home/mastodon/live"
}
variable "files" {
  description = "The public name of the media, whose DNS points at this host"
  default     = "files.example.com"
}
variable "site" {
  description = "The file with the instance's own site of nginx"
  default     = "/etc/nginx/sites-available/mastodon"
}
variable "bucket" {
  description = "The bucket's name, unique at Amazon; without dots, which no certificate of theirs fits"
  default     = "my-instance-media"
}
variable "region" {
  description = "Where the bucket is to be"
  default     = "eu-central-1"
}
variable "email" {
  description = "Where the certificate authority may write to"
  default     = "admin@example.com"
}

# Facts, read before anything is planned.
mastodon_instance "main" {
  path = var.live
}

object_store "aws" {
  provider          = "aws"
  region            = var.region
  access_key_id     = credential("aws.agent.id")
  secret_access_key = credential("aws.agent.key")
}

s3_bucket "media" {
  store      = object_store.aws
  name       = var.bucket
  access     = "public-objects"
  versioning = true # what is deleted or overwritten by mistake can be brought back

  lifecycle {
    hidden_versions_days    = 30 # old versions are paid until then
    incomplete_uploads_days = 7  # and so are parts of uploads that nobody completed
  }

  cors {} # the pages of any origin may use the objects, at the bucket as at the proxy

  app_credentials { # Mastodon's own key, with fewer rights than converge's
    access_key_id     = credential("aws.app.id")
    secret_access_key = credential("aws.app.key")
  }
}

# Everything that is there now. On a large instance this takes many runs; what follows waits until it is done.
s3_sync "bulk" {
  bucket       = s3_bucket.media
  source       = mastodon_instance.main.system_path
  max_runtime  = "50m"
  delete_until = "/etc/nginx/media-moved" # what people delete while it is copied goes from the bucket too
}

acme_certificate "files" {
  domains = [var.files]
  email   = var.email
}

# The bucket first, then the local file: nobody sees a broken image while the copy is under way.
nginx_site "files" {
  server_name = var.files
  certificate = acme_certificate.files

  media_proxy {
    bucket         = s3_bucket.media
    local_fallback = mastodon_instance.main.system_path
    fallback_until = "/etc/nginx/media-moved"
  }
}

systemd_service "nginx" {
  name       = "nginx"
  enabled    = true
  depends_on = [nginx_site.files]
}

# The switch: new uploads go to the bucket, and pages name the new address.
env_file "mastodon" {
  path       = mastodon_instance.main.env_path
  set        = merge(s3_bucket.media.mastodon_env, nginx_site.files.mastodon_env)
  depends_on = [systemd_service.nginx, s3_sync.bulk]
}

systemd_service "mastodon" {
  for_each   = toset(mastodon_instance.main.media_units)
  name       = each.key
  restart_on = [env_file.mastodon]
}

# What was written between the copy and the restart.
s3_sync "delta" {
  bucket       = s3_bucket.media
  source       = mastodon_instance.main.system_path
  delete_until = "/etc/nginx/media-moved"
  depends_on   = [systemd_service.mastodon]
}

# From now on the bucket has everything, and the old disk is not asked any more: what is deleted stays deleted. And no
# sync deletes from the bucket any more, whatever goes from the disk.
file "moved" {
  path       = "/etc/nginx/media-moved"
  content    = "The media have moved to the bucket. While this file is here, nginx serves none from the disk, and what goes from the disk stays in the bucket.\n"
  depends_on = [s3_sync.delta]
}

# Other servers have stored the old addresses of media: these lead to the new ones for ever. The disk is served no more.
nginx_location "system" {
  site        = var.site
  server_name = mastodon_instance.main.web_domain
  match       = "/system/"
  redirect    = "https://${var.files}"
  except      = ["/system/backups/", "/system/imports/"]
  depends_on  = [s3_sync.delta]
}

# Every apply asks the proxy as a browser would: nobody may list the bucket, or see the archives.
http_check "listing" {
  url        = "https://${var.files}/?list-type=2"
  depends_on = [systemd_service.nginx]

  expect {
    status = 404
  }
}
http_check "archives" {
  url        = "https://${var.files}/backups/"
  depends_on = [systemd_service.nginx]

  expect {
    status = 404
  }
}
