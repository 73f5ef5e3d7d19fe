# frozen_string_literal: true

require "digest"
require "securerandom"
require "tempfile"
require "picture"

# A picture that somebody posts: its id, the names of its files, and their bytes.
module Attachment
  PREFIX = "media_attachments/files"
  SIDES = { "original" => 32, "small" => 16 }.freeze # in pixels

  module_function

  # A new number, like Mastodon's (lib/mastodon/snowflake.rb): milliseconds of the time, then 16 other bits.
  def number = ((Time.now.to_f * 1000).to_i << 16) + SecureRandom.random_number(1 << 16)

  # The id of an attachment in the API, which also says what kind it is.
  def id(number) = "#{PREFIX.tr('/', '.')}.#{number}"

  # What the database keeps of the files of a new attachment, of which the original is stored.
  def files(number)
    name = SecureRandom.hex(8)
    SIDES.map do |style, _|
      { "style" => style, "key" => "#{PREFIX}/#{partition(number)}/#{style}/#{name}.png",
        "sha256" => Digest::SHA256.hexdigest(content(number, style)), "stored" => style == "original" }
    end
  end

  # Paperclip's id_partition: 9 digits or 18, in groups of three.
  def partition(number)
    digits = number.to_s
    digits.rjust((digits.size / 3.0).ceil.clamp(3..) * 3, "0").scan(/.../).join("/")
  end

  # The bytes of a file, the same whenever they are made: a second attempt stores nothing else than the first.
  def content(number, style) = Picture.png(number, SIDES.fetch(style))

  # Stores one of the files.
  def store(storage, number, file)
    Tempfile.create("upload", binmode: true) do |upload|
      upload.write(content(number, file["style"]))
      upload.flush
      storage.put(file["key"], upload.path, "image/png")
    end
  end
end
