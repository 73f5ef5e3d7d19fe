# frozen_string_literal: true

require "digest"
require "attachment"
require "cache_buster"
require "database"
require "environment"
require "storage"

# Mastodon's background jobs: they make the second style of each new picture, and delete what is to be deleted, both in the
# storage that this process was started with. A job that fails is tried again, also after a restart: a deletion until it
# succeeds, a style a limited number of times, for its original may be in a storage that is not used any more. An attachment
# has one job at a time, so none overtakes another of the same.
class Workers
  THREADS = 4
  TICK = 0.1 # seconds between looks for new jobs
  LONGEST_PAUSE = 5 # seconds between attempts of one job
  RETRIES = 25 # of a style: two minutes

  def initialize(root)
    @database = Database.new(File.join(root, "tmp", "database.jsonl"))
    @storage = Storage.from(ENV, root)
    @jobs = Queue.new
    @lock = Mutex.new
    @running = {}
    @failures = Hash.new(0)
    @due = {}
  end

  # Works until stop, and finishes the jobs that it had begun.
  def run
    Environment.note_start(@storage.name)
    threads = Array.new(THREADS) { Thread.new { work } }
    until @stopped
      hand_out unless @quiet
      sleep TICK
    end
    @jobs.close
    threads.each(&:join)
  end

  def stop = @stopped = true

  # Begins no more jobs.
  def quiet = @quiet = true

  private

  def hand_out
    now = monotonic
    @database.unsettled.each do |medium|
      @lock.synchronize do
        next if @running.key?(medium.id) || @running.size >= THREADS || @due.fetch(medium.id, now) > now

        @running[medium.id] = true
        @jobs << medium
      end
    end
  end

  def work
    while (medium = @jobs.pop)
      finish(medium.id, attempt(medium))
    end
  end

  # Does what is due for an attachment, and returns whether that went well.
  def attempt(medium)
    medium.live? ? store(medium) : remove(medium)
    true
  rescue StandardError => e
    warn "#{medium.live? ? 'store the small style of' : 'delete'} #{medium.id}: #{e.class}: #{e.message}"
    abandon(medium)
    false
  end

  def abandon(medium)
    @database.abandon(medium.id) if medium.live? && @failures[medium.id] >= RETRIES
  rescue SystemCallError => e
    warn "give up on #{medium.id}: #{e.message}"
  end

  def finish(id, done)
    @lock.synchronize do
      @running.delete(id)
      if done
        @failures.delete(id)
        @due.delete(id)
      else
        @due[id] = monotonic + [0.25 * (2**@failures[id]), LONGEST_PAUSE].min
        @failures[id] += 1
      end
    end
  end

  # As when a video is processed: reads the original from the storage, and stores another file beside it.
  def store(medium)
    original = medium.file("original")
    content = @storage.get(original["key"])
    raise "the original has other content" unless Digest::SHA256.hexdigest(content) == original["sha256"]

    number = Integer(medium.id[/\d+\z/], 10)
    medium.files.reject { |f| f["stored"] }.each do |file|
      Attachment.store(@storage, number, file)
      @database.stored(medium.id, file["style"])
    end
  end

  # Half of them are deleted like one post, and half like all of an account.
  def remove(medium)
    keys = medium.files.map { |f| f["key"] }
    @storage.delete(keys, batch: Integer(medium.id[/\d+\z/], 10).even?)
    keys.each { |key| CacheBuster.from(ENV)&.bust(@storage.url(key)) }
    @database.removed(medium.id)
  end

  def monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC)
end
