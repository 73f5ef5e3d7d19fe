# A Mastodon instance whose media live in a MinIO server of one's own, behind a caching proxy on this host.
#
#   converge plan  --var endpoint=https://s3.example.com:9000 examples/minio.hcl
#   converge apply --var endpoint=https://s3.example.com:9000 examples/minio.hcl
#
# What is different at MinIO:
#   public    the prefixes that browsers need, by a bucket policy. MinIO's ready-made policies download and public are not that:
#             they let everybody list the bucket
#   private   backups/ and imports/, which the policy does not name
#   CORS      is not a setting of the bucket
#   support   the project ended on 2026-02-12 and gets no more fixes. Other stores of one's own with bucket policies: provider =
#             "ceph-rgw", or "generic"
#
# Two users, each with this policy on arn:aws:s3:::BUCKET and arn:aws:s3:::BUCKET/* (mc admin policy create):
#   converge  s3:CreateBucket, s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject,
#             s3:AbortMultipartUpload, s3:GetBucketPolicy, s3:PutBucketPolicy, s3:DeleteBucketPolicy
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
variable "bucket" { default = "mastodon" }
variable "endpoint" {
  description = "The store's address, with https://"
}
variable "ca_file" {
  description = "The authority that signed the store's certificate, when no public one did"
  default     = null
}
variable "email" {
  description = "Where the certificate authority may write to"
  default     = "admin@example.com"
}

# Facts, read before anything is planned.
mastodon_instance "main" {
  path = var.live
}

object_store "own" {
  provider          = "minio"
  endpoint          = var.endpoint
  ca_file           = var.ca_file
  access_key_id     = credential("minio.agent.id")
  secret_access_key = credential("minio.agent.key")
}

s3_bucket "media" {
  store  = object_store.own
  name   = var.bucket
  access = "public-objects"

  app_credentials { # Mastodon's own key, with fewer rights than converge's
    access_key_id     = credential("minio.app.id")
    secret_access_key = credential("minio.app.key")
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
    cache_size     = "5GB" # the store is near
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
