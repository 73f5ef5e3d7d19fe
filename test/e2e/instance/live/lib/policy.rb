# frozen_string_literal: true

require "uri"

# The Content-Security-Policy of the instance's pages, by the rules of Mastodon 4.4 to 4.6 (app/lib/content_security_policy.rb,
# config/initializers/content_security_policy.rb).
class Policy
  def initialize(env)
    @env = env
  end

  # The value of the header. A host that cannot be part of a URL is an error, as it is when Mastodon starts.
  def header
    {
      "base-uri" => %w['none'],
      "default-src" => %w['none'],
      "frame-ancestors" => %w['none'],
      "font-src" => ["'self'", assets_host],
      "img-src" => ["'self'", "data:", "blob:", *media_hosts],
      "media-src" => ["'self'", "data:", *media_hosts],
      "manifest-src" => ["'self'", assets_host],
      "form-action" => %w['self'],
      "child-src" => ["'self'", "blob:", assets_host],
      "worker-src" => ["'self'", "blob:", assets_host],
      "connect-src" => ["'self'", "data:", "blob:", *media_hosts, streaming],
      "script-src" => ["'self'", assets_host, "'wasm-unsafe-eval'"],
      "frame-src" => %w['self' https:],
      "style-src" => ["'self'", assets_host]
    }.map { |directive, sources| "#{directive} #{sources.uniq.join(' ')}" }.join("; ")
  end

  private

  # Neither the store's endpoint nor the host name that is the default of S3_HOSTNAME is among them, and S3_ENABLED is not
  # looked at.
  def media_hosts
    host = %w[S3_ALIAS_HOST S3_CLOUDFRONT_HOST AZURE_ALIAS_HOST S3_HOSTNAME].filter_map { |name| url(@env[name]) }.first
    [assets_host, host, root_url, *@env.fetch("EXTRA_MEDIA_HOSTS", "").split(/\s*,\s*|\s+/)].compact
  end

  def assets_host = @env["CDN_HOST"] || url(web_domain)

  def root_url
    root = @env["PAPERCLIP_ROOT_URL"]
    closed(URI.join(assets_host, root)) unless root.nil? || root.empty?
  end

  def streaming = @env.fetch("STREAMING_API_BASE_URL", "wss://#{web_domain}")

  def web_domain = @env.fetch("WEB_DOMAIN") { @env.fetch("LOCAL_DOMAIN") }

  def url(host)
    closed(URI.parse("https://#{host}")) unless host.nil? || host.empty?
  end

  def closed(uri)
    uri.path += "/" unless uri.path.empty? || uri.path.end_with?("/")
    uri.to_s
  end
end
