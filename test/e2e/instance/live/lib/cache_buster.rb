# frozen_string_literal: true

require "net/http"

# Tells a cache that a URL is to be fetched anew, as Mastodon's app/lib/cache_buster.rb does: a request for it with the header
# and the value that the settings name. What the cache answers makes no difference.
class CacheBuster
  def self.from(env) = env["CACHE_BUSTER_ENABLED"] == "true" ? new(env) : nil

  def initialize(env)
    @header = env["CACHE_BUSTER_SECRET_HEADER"]
    @secret = env["CACHE_BUSTER_SECRET"]
    @method = env.fetch("CACHE_BUSTER_HTTP_METHOD", "GET")
  end

  def bust(url)
    uri = URI.parse(url)
    request = Net::HTTPGenericRequest.new(@method, false, true, uri)
    request[@header] = @secret if @header && @secret
    Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https") { |http| http.request(request) }
  end
end
