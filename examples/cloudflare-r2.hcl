# A Mastodon instance whose media move to Cloudflare R2, behind a caching proxy on this host.
#
#   converge plan  --var account=ID --var bucket=NAME --var public_host=HOST examples/cloudflare-r2.hcl
#   converge apply --var account=ID --var bucket=NAME --var public_host=HOST examples/cloudflare-r2.hcl
#
# What is different at Cloudflare:
#   bucket    you create it in the dashboard, where you have to go anyway for its custom domain: then converge's token needs no
#             right to make buckets
#   public    all objects at once, at that custom domain (R2, the bucket, Settings, Custom Domains). At the store's own address
#             nothing is public, and nobody can list the bucket at either
#   private   nothing: backups/ and imports/ are only unguessable (their names are random) at the custom domain; the proxy
#             refuses them
#   versions  none: what is deleted is gone
#   requests  writes and listings cost the most, reads little, traffic nothing
#
# Two R2 API tokens; each shows an Access Key ID (32 characters) and a Secret Access Key (64) once:
#   converge  Object Read & Write, for the bucket alone
#   Mastodon  Object Read & Write, for the bucket alone
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
  description = "The bucket's name, unique in the account"
  default     = "my-instance-media"
}
variable "account" {
  description = "The account's id: the first part of what the dashboard shows as S3 API, 32 hex digits"
  default     = "023e105f4ecef8ad9ca31a8372d0c353"
}
variable "public_host" {
  description = "The bucket's custom domain, in a zone of the same account; not the name of the media, which leads to the proxy"
  default     = "r2.example.com"
}
variable "email" {
  description = "Where the certificate authority may write to"
  default     = "admin@example.com"
}

# Facts, read before anything is planned.
mastodon_instance "main" {
  path = var.live
}

object_store "r2" {
  provider          = "cloudflare-r2" # there is one region, auto
  account_id        = var.account
  access_key_id     = credential("r2.agent.id")
  secret_access_key = credential("r2.agent.key")
}

s3_bucket "media" {
  store       = object_store.r2
  name        = var.bucket
  access      = "public-objects"
  public_host = var.public_host
  create      = false

  app_credentials { # Mastodon's own key, with fewer rights than converge's
    access_key_id     = credential("r2.app.id")
    secret_access_key = credential("r2.app.key")
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
