# frozen_string_literal: true

require "json"
require "time"

# The media that the instance knows: a file with one fact a line, in the order in which they happened. A fact is on the disk
# before anybody is told of it, so a kill loses none. What is still to be done follows from the facts.
class Database
  # One attachment. files are {"style", "key", "sha256", "stored"}; a time is the text of one, or nil.
  Medium = Struct.new(:id, :files, :created_at, :abandoned_at, :deleted_at, :removed_at, keyword_init: true) do
    def live? = deleted_at.nil?
    def settled? = live? ? !abandoned_at.nil? || files.all? { |f| f["stored"] } : !removed_at.nil?
    def file(style) = files.find { |f| f["style"] == style }
  end

  def initialize(path)
    @path = path
    @lock = Mutex.new
    @offset = 0
    @media = {}
    @unsettled = {}
  end

  # A new attachment, some of whose files are stored.
  def add(id, files) = append("event" => "add", "id" => id, "files" => files)

  # One more of its files is stored.
  def stored(id, style) = append("event" => "stored", "id" => id, "style" => style)

  # The rest of its files will never be stored.
  def abandon(id) = append("event" => "abandon", "id" => id)

  # It is to be deleted, whatever happens.
  def delete(id) = append("event" => "delete", "id" => id)

  # Its files are deleted.
  def removed(id) = append("event" => "removed", "id" => id)

  def find(id) = synchronize { @media[id] }

  # All attachments, the oldest first.
  def all = synchronize { @media.values }

  # Those with something left to do, the oldest first.
  def unsettled = synchronize { @unsettled.values }

  private

  # Yields with the facts read that anybody has written.
  def synchronize
    @lock.synchronize do
      File.open(@path, "rb") { |file| read(file) }
      yield
    end
  end

  def append(fact)
    line = "#{JSON.generate(fact.merge('at' => Time.now.utc.iso8601(6)))}\n"
    @lock.synchronize do
      File.open(@path, "r+b") do |file|
        file.flock(File::LOCK_EX) # against the other process
        read(file)
        file.seek(@offset) # over half a line of a writer that was killed, or whose disk was full
        file.write(line)
        file.fdatasync
        read(file)
      end
      @media[fact["id"]]
    end
  end

  # Applies the whole lines that are new.
  def read(file)
    file.seek(@offset)
    text = file.read
    whole = text.rindex("\n")
    return unless whole

    text[0..whole].each_line { |line| apply(JSON.parse(line)) }
    @offset += whole + 1
  end

  def apply(fact)
    id, at = fact.values_at("id", "at")
    medium = @media[id]
    case fact["event"]
    when "add" then medium = @media[id] = Medium.new(id: id, files: fact["files"], created_at: at)
    when "stored" then medium.file(fact["style"])["stored"] = true
    when "abandon" then medium.abandoned_at ||= at
    when "delete" then medium.deleted_at ||= at
    when "removed" then medium.removed_at ||= at
    end
    medium.settled? ? @unsettled.delete(id) : @unsettled[id] = medium
  end
end
