# frozen_string_literal: true

require "zlib"

# Small pictures that browsers can show.
module Picture
  module_function

  # A square PNG (ISO/IEC 15948) of 8-bit RGB noise. The same seed gives the same picture.
  def png(seed, side)
    noise = Random.new(seed)
    rows = Array.new(side) { "\0".b + noise.bytes(3 * side) }.join
    header = [side, side, 8, 2, 0, 0, 0].pack("N2C5")
    "\x89PNG\r\n\x1A\n".b + chunk("IHDR", header) + chunk("IDAT", Zlib.deflate(rows)) + chunk("IEND", "")
  end

  def chunk(type, data) = [data.bytesize].pack("N") + type + data + [Zlib.crc32(type + data)].pack("N")
end
