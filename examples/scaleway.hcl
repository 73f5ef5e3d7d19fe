# A Mastodon instance whose media move to Scaleway Object Storage, behind a caching proxy on this host.
#
#   converge plan  --var bucket=NAME examples/scaleway.hcl
#   converge apply --var bucket=NAME examples/scaleway.hcl
#
# What is different at Scaleway:
#   public    each object on its own, by the ACL of its upload: converge and Mastodon both send it (S3_PERMISSION), and
#             Mastodon can hide the media of people whom you suspend
#   private   the bucket, or everybody could list it; and what has no such ACL: backups/ (Mastodon uploads archives as private)
#   policy    none: a bucket policy would lock out every key that it does not name, in the console too
#   requests  cost nothing
#
# Two IAM applications with an API key each, and a policy with these permission sets for the bucket's project:
#   converge  ObjectStorageReadOnly, ObjectStorageBucketsWrite, ObjectStorageObjectsWrite, ObjectStorageObjectsDelete
#   Mastodon  ObjectStorageBucketsRead, ObjectStorageObjectsRead, ObjectStorageObjectsWrite, ObjectStorageObjectsDelete
# Choose that project as the preferred one of both keys: that is where a key finds its buckets.
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
  description = "The bucket's name, unique in all regions of Scaleway"
  default     = "my-instance-media"
}
variable "region" {
  description = "fr-par, nl-ams or pl-waw"
  default     = "fr-par"
}
variable "email" {
  description = "Where the certificate authority may write to"
  default     = "admin@example.com"
}

# Facts, read before anything is planned.
mastodon_instance "main" {
  path = var.live
}

object_store "scaleway" {
  provider          = "scaleway"
  region            = var.region
  access_key_id     = credential("scaleway.agent.id")
  secret_access_key = credential("scaleway.agent.key")
}

s3_bucket "media" {
  store  = object_store.scaleway
  name   = var.bucket
  access = "public-objects"

  lifecycle {
    incomplete_uploads_days = 7 # parts of uploads that nobody completed are paid until then
  }

  app_credentials { # Mastodon's own key, with fewer rights than converge's
    access_key_id     = credential("scaleway.app.id")
    secret_access_key = credential("scaleway.app.key")
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
