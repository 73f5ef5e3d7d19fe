# frozen_string_literal: true

require "fileutils"
require "tempfile"
require "uri"

# Where media are kept, by the rules of Mastodon's config/initializers/paperclip.rb (4.3 to 4.6) and of kt-paperclip.
#
# Each storage puts, gets and deletes by key, which is the path below public/system, and knows the URL of a key.
module Storage
  module_function

  # Only the text "true" switches object storage on.
  def from(env, root) = env["S3_ENABLED"] == "true" ? S3.new(env) : Disk.new(env, root)

  # The files of the instance's host.
  class Disk
    def initialize(env, root)
      @directory = env.fetch("PAPERCLIP_ROOT_PATH", ":rails_root/public/system").gsub(":rails_root", root)
      @path = env.fetch("PAPERCLIP_ROOT_URL", "/system")
      domain = env.fetch("WEB_DOMAIN") { env.fetch("LOCAL_DOMAIN") }
      @host = env.fetch("CDN_HOST", "https://#{domain}")
    end

    def name = "filesystem"

    def warm = nil

    def url(key) = URI.join(@host, "#{@path}/#{key}").to_s

    # Moves a file into its place, as Paperclip does. From /tmp, which is of the unit alone, that is a copy: for a moment the
    # file is there in part.
    def put(key, file, _content_type)
      path = File.join(@directory, key)
      attempts = 0
      begin
        FileUtils.mkdir_p(File.dirname(path))
        FileUtils.cp(file, path)
      rescue Errno::ENOENT # a deletion has just found the new directory empty
        retry if (attempts += 1) < 5
        raise
      end
      FileUtils.chmod(0o666 & ~File.umask, path)
      File.open(path, &:fsync)
      File.open(File.dirname(path), &:fsync)
    end

    def get(key) = File.binread(File.join(@directory, key))

    # Deletes files, and the directories that are empty then.
    def delete(keys, **)
      keys.each do |key|
        path = File.join(@directory, key)
        FileUtils.rm_f(path)
        raise "#{key} is still there" if File.exist?(path)

        prune(File.dirname(path))
      end
    end

    private

    def prune(directory)
      while directory.start_with?("#{@directory}/")
        Dir.rmdir(directory)
        directory = File.dirname(directory)
      end
    rescue Errno::ENOTEMPTY, Errno::EEXIST, Errno::ENOENT
      nil # others live there, or another deletion was faster
    end
  end

  # Object storage.
  class S3
    SLOW_DOWN_RETRIES = 5 # kt-paperclip, lib/paperclip/storage/s3.rb
    BATCH_READ_TIMEOUT = 120 # seconds; app/lib/attachment_batch.rb

    def initialize(env)
      @env = env
      @region = env.fetch("S3_REGION", "us-east-1")
      @loading = Mutex.new
    end

    def name = "s3"

    # Loads the SDK, which takes a second or two, so that the first request need not wait for it.
    def warm = bucket

    def url(key)
      protocol = @env.fetch("S3_PROTOCOL", "https")
      return "#{protocol}://#{alias_host}/#{path(key)}" if aliased?

      hostname = @env.fetch("S3_HOSTNAME") { "s3-#{@region}.amazonaws.com" }
      "#{protocol}://#{hostname}/#{@env['S3_BUCKET']}/#{path(key)}"
    end

    def put(key, file, content_type)
      attempt = 0
      begin
        bucket.object(path(key)).upload_file(file, **write_options(content_type))
      rescue Aws::S3::Errors::SlowDown
        attempt += 1
        raise if attempt > SLOW_DOWN_RETRIES

        sleep((2**attempt) * 0.5)
        retry
      end
    end

    def get(key)
      options = {}
      options[:mode] = "single_request" if @env["S3_FORCE_SINGLE_REQUEST"] == "true"
      options[:checksum_mode] = "DISABLED" unless @env["S3_ENABLE_CHECKSUM_MODE"] == "true"
      Tempfile.create("download") do |file|
        bucket.object(path(key)).download_file(file.path, **options)
        File.binread(file.path)
      end
    end

    # Deletes objects one by one, as a post that is deleted does, or many at once, as the deletion of an account does
    # (app/lib/attachment_batch.rb). Mastodon does not look at the keys that the latter could not delete; here it is an error,
    # since a deletion that was accepted has to happen.
    def delete(keys, batch: false)
      return keys.each { |key| bucket.object(path(key)).delete } unless batch

      objects = keys.map { |key| { key: path(key) } }
      objects.each_slice(Integer(@env.fetch("S3_BATCH_DELETE_LIMIT", "1000"), 10)) do |slice|
        errors = patient_bucket.delete_objects(delete: { objects: slice, quiet: true }).errors
        raise "delete #{errors.map(&:key).join(', ')}: #{errors.first.code}" unless errors.empty?
      end
    end

    private

    # That the variable exists is enough: an empty one gives URLs without a host.
    def aliased? = @env.key?("S3_ALIAS_HOST") || @env.key?("S3_CLOUDFRONT_HOST")

    def alias_host = @env["S3_ALIAS_HOST"] || @env["S3_CLOUDFRONT_HOST"]

    def path(key) = [@env["S3_KEY_PREFIX"], key].reject { |part| part.nil? || part.empty? }.join("/")

    # What an upload sends. S3_PERMISSION has three states: not set is public-read, and empty is no ACL at all.
    def write_options(content_type)
      acl = @env.fetch("S3_PERMISSION", "public-read")
      {
        content_type: content_type,
        cache_control: "public, max-age=315576000, immutable",
        multipart_threshold: @env.fetch("S3_MULTIPART_THRESHOLD", 15 * 1024 * 1024).to_i,
        acl: acl.empty? ? nil : acl,
        storage_class: @env["S3_STORAGE_CLASS"]
      }.compact
    end

    def bucket = @loading.synchronize { @bucket ||= new_bucket(read_timeout) }

    def patient_bucket = @loading.synchronize { @patient_bucket ||= new_bucket([read_timeout, BATCH_READ_TIMEOUT].max) }

    def read_timeout = @env.fetch("S3_READ_TIMEOUT", "5").to_i

    def new_bucket(read_timeout)
      require "aws-sdk-s3"
      options = {
        region: @region,
        access_key_id: @env["AWS_ACCESS_KEY_ID"],
        secret_access_key: @env["AWS_SECRET_ACCESS_KEY"],
        signature_version: @env.fetch("S3_SIGNATURE_VERSION", "v4"),
        http_open_timeout: @env.fetch("S3_OPEN_TIMEOUT", "5").to_i,
        http_read_timeout: read_timeout,
        http_idle_timeout: 5,
        retry_limit: @env.fetch("S3_RETRY_LIMIT", "0").to_i
      }
      if @env.key?("S3_ENDPOINT")
        options[:endpoint] = @env["S3_ENDPOINT"]
        options[:force_path_style] = @env["S3_OVERRIDE_PATH_STYLE"] != "true"
      end
      Aws::S3::Resource.new(**options).bucket(@env["S3_BUCKET"])
    end
  end
end
