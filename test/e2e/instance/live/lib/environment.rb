# frozen_string_literal: true

require "digest"
require "dotenv"
require "json"
require "time"

# Where the settings of the processes come from.
module Environment
  module_function

  # The directory of the instance. Units start there.
  def root = Dir.pwd

  def ruby = "/usr/bin/ruby"

  # Reads the settings as Rails does in production (Dotenv::Rails): what the process has wins, then the first file that says it.
  def load_rails
    Dotenv.load(*%w[.env.production.local .env.local .env.production .env].map { |name| File.join(root, name) })
  end

  # Reads them as streaming does, which knows one file (streaming/index.js).
  def load_streaming = Dotenv.load(File.join(root, ".env.production"))

  # Notes in tmp/<unit>.loaded when this process started, and with what storage settings. A secret is noted by its digest.
  def note_start(storage)
    env = ENV.to_h.select { |name, _| name.match?(/\A(S3|AWS|PAPERCLIP)_|\A(EXTRA_MEDIA_HOSTS|CDN_HOST)\z/) }
    env = env.to_h { |name, value| [name, name.include?("SECRET") ? "sha256:#{Digest::SHA256.hexdigest(value)}" : value] }
    path = File.join(root, "tmp", "#{unit}.loaded")
    note = { pid: Process.pid, started_at: Time.now.utc.iso8601(6), storage: storage, env: env }
    File.write("#{path}.new", "#{JSON.generate(note)}\n")
    File.rename("#{path}.new", path)
  rescue SystemCallError => e # Mastodon starts on a full disk too
    warn "note the start: #{e.message}"
  end

  # The systemd unit that this process belongs to, as its control group says (cgroups(7)).
  def unit
    File.read("/proc/self/cgroup")[%r{/([^/\n]+)\.service$}, 1] || File.basename($PROGRAM_NAME)
  end
end
