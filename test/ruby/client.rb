# frozen_string_literal: true

# The object storage of Mastodon as a program that is told what to do: one JSON object a line in, one a line out.
#
# The client is the Mastodon stand-in's (test/e2e/instance/live/lib/storage.rb), which is set up by the rules of Mastodon 4.6.5,
# config/initializers/paperclip.rb. Added here is what the stand-in has no use for: to look at objects, to change their ACL when
# an account is suspended, to create a bucket that is missing, and to send what the SDK of Mastodon 4.6 and later sends.

require "aws-sdk-s3"
require "json"
require_relative "environment"
require_relative "storage"

# Media as Mastodon sees them.
class Media < Storage::S3
  def head(key)
    found = bucket.object(path(key)).head
    { size: found.content_length, type: found.content_type, cache_control: found.cache_control }
  end

  # Uploads as kt-paperclip does (lib/paperclip/storage/s3.rb, flush_writes), which creates a bucket that it does not find.
  def put(key, file, content_type)
    super
  rescue Aws::S3::Errors::NoSuchBucket
    bucket.create
    retry
  end

  # Closes or opens an object as the suspension of an account does, and its end (app/services/suspend_account_service.rb,
  # unsuspend_account_service.rb). Where no ACL is set nothing is sent; that a store knows no ACLs is only logged.
  def permit(key, acl)
    return "nothing sent" if @env["S3_PERMISSION"] == ""

    bucket.object(path(key)).acl.put(acl: acl || @env.fetch("S3_PERMISSION", "public-read"))
    "sent"
  rescue Aws::S3::Errors::NoSuchKey, Aws::S3::Errors::NotImplemented => e
    "logged: #{e.class.name.split('::').last}"
  end

  private

  # From aws-sdk-s3 1.178 on an upload in parts names its checksums (MultipartFileUploader#create_opts).
  def write_options(content_type)
    return super unless NewerSDK.on? && NewerSDK.checksums?

    super.merge(checksum_algorithm: "CRC32")
  end
end

# What aws-sdk-s3 sends from 1.178 on (2025-01), simulated on Debian's 1.117, which knows no AWS_REQUEST_CHECKSUM_CALCULATION: a
# CRC32 with every request that may have a checksum unless that variable is when_required, a CRC32 with those that must have
# one in any case, and no Content-MD5 (aws-sdk-core lib/aws-sdk-core/plugins/checksum_algorithm.rb; aws/aws-sdk-ruby#3167).
# Mastodon has it from 4.6 on; 4.5 pins aws-sdk-core below 3.216, the core that came with it.
class NewerSDK < Seahorse::Client::Plugin
  class << self
    attr_accessor :on
    alias on? on

    def checksums? = ENV.fetch("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported").downcase != "when_required"
  end

  def add_handlers(handlers, _config)
    handlers.add(Handler, step: :initialize, priority: 99)
  end

  # Chooses the checksum of a request.
  class Handler < Seahorse::Client::Handler
    def call(context)
      trait = context.operation.http_checksum
      choose(context, trait) if NewerSDK.on? && trait&.key?("requestAlgorithmMember")
      @handler.call(context)
    end

    private

    def choose(context, trait)
      if trait["requestChecksumRequired"] || NewerSDK.checksums?
        context.params[trait["requestAlgorithmMember"].to_sym] ||= "CRC32"
      else
        context[:checksum_algorithms] = "none" # what the plugins that add Content-MD5 look at
      end
    end
  end
end

# The program: each of its methods is a command.
class Program
  CLEAN = ENV.to_h.freeze

  # Starts anew in the directory of an instance, with what its files say. Says which storage that gives.
  def load(directory:, newer:)
    ENV.replace(CLEAN)
    Dir.chdir(directory)
    Environment.load_rails
    Aws.config = {} # an SDK that was loaded earlier may remember
    NewerSDK.on = newer
    @storage = ENV["S3_ENABLED"] == "true" ? Media.new(ENV) : Storage.from(ENV, directory)
    @storage.name
  end

  # What the settings file says, without anything of it being in the environment.
  def parse(file:) = Dotenv::Parser.call(File.read(file))

  def put(key:, file:, type:) = @storage.put(key, file, type).then { nil }

  def get(key:) = Digest::SHA256.hexdigest(@storage.get(key))

  def head(key:) = @storage.head(key)

  def url(key:) = @storage.url(key)

  def permit(key:, acl: nil) = @storage.permit(key, acl)

  def delete(keys:, batch: false) = @storage.delete(keys, batch: batch).then { nil }

  def run
    $stdin.each_line do |line|
      order = JSON.parse(line, symbolize_names: true)
      puts JSON.generate(answer(order.delete(:do), order))
      $stdout.flush
    end
  end

  private

  def answer(command, arguments)
    { ok: public_send(command, **arguments) }
  rescue StandardError => e
    { error: "#{e.class}: #{e.message}" }
  end
end

Aws::S3::Client.add_plugin(NewerSDK)
Program.new.run
