package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// attachment is one kind of media: where it lies, the styles that each has, and the endings that its files come with.
// Prefixes and styles are those of Mastodon 4.5's models (app/models, has_attached_file) and config/initializers/paperclip.rb.
type attachment struct {
	prefix    string
	styles    []string
	endings   []string
	snowflake bool // 18-digit ids, of posts and accounts; else small ones
	weight    int  // how many of a hundred
	least     int  // how many there are in any case
}

var attachments = []attachment{
	{"media_attachments/files", []string{"original", "small"}, []string{"png", "jpeg", "webp", "mp4"}, true, 38, 2},
	{"media_attachments/thumbnails", []string{"original"}, []string{"png"}, true, 2, 1},
	{"accounts/avatars", []string{"original"}, []string{"png", "jpg"}, true, 3, 1},
	{"accounts/headers", []string{"original"}, []string{"jpeg"}, true, 3, 1},
	{"custom_emojis/images", []string{"original", "static"}, []string{"png"}, false, 2, 1},
	{"site_uploads/files", []string{"original", "@1x", "@2x"}, []string{"png"}, false, 0, 1},
	{"preview_card_providers/icons", []string{"original"}, []string{"png"}, false, 0, 1},
	{"cache/media_attachments/files", []string{"original", "small"}, []string{"jpg", "webp", "mp4"}, true, 24, 1},
	{"cache/accounts/avatars", []string{"original"}, []string{"png", "jpg"}, true, 12, 1},
	{"cache/accounts/headers", []string{"original"}, []string{"jpeg"}, true, 6, 1},
	{"cache/custom_emojis/images", []string{"original", "static"}, []string{"png"}, false, 5, 1},
	{"cache/preview_cards/images", []string{"original"}, []string{"jpg"}, false, 5, 1},
	{"backups/dumps", []string{"original"}, []string{"zip"}, false, 0, 2},
	{"imports/data", []string{"original"}, []string{"csv"}, false, 0, 1},
}

// addMedia writes about n files: first those that every instance has, then by weight.
func (i *Instance) addMedia(random *rand.Rand, n int) error {
	var out errgroup.Group
	out.SetLimit(8) // writing waits for the disk, and random must be asked by one alone
	for _, a := range attachments {
		for range a.least {
			i.addAttachment(&out, random, a, len(a.styles))
		}
	}
	for len(i.keys) < n {
		i.addAttachment(&out, random, pick(random), n-len(i.keys))
	}
	slices.Sort(i.keys)
	return out.Wait()
}

func pick(random *rand.Rand) attachment {
	at := random.IntN(100)
	for _, a := range attachments {
		if at -= a.weight; at < 0 {
			return a
		}
	}
	return attachments[0]
}

// addAttachment writes the files of one attachment, at most n.
func (i *Instance) addAttachment(out *errgroup.Group, random *rand.Rand, a attachment, n int) {
	id := random.Uint64N(90_000)
	if a.snowflake {
		// Ids are times, so those of one instance share their first groups.
		id = 109_000_000_000_000_000 + random.Uint64N(12)*1_000_000_000_000_000 + random.Uint64N(1_000_000_000_000)
	}
	ending := a.endings[random.IntN(len(a.endings))]
	name := fmt.Sprintf("%016x.%s", random.Uint64(), ending)
	for _, style := range a.styles[:min(n, len(a.styles))] {
		key := strings.Join([]string{a.prefix, partition(id), style, name}, "/")
		if style == "small" && ending == "mp4" { // the still of a video
			key = strings.TrimSuffix(key, "mp4") + "png"
		}
		body := content(random, key)
		out.Go(func() error { return writeFile(i.Path(key), body, 0o644) })
		i.keys = append(i.keys, key)
	}
}

// partition is Paperclip's id_partition: 9 digits, or as many as there are, in groups of three.
func partition(id uint64) string {
	digits := fmt.Sprintf("%09d", id)
	for len(digits)%3 != 0 {
		digits = "0" + digits
	}
	var groups []string
	for ; digits != ""; digits = digits[3:] {
		groups = append(groups, digits[:3])
	}
	return strings.Join(groups, "/")
}

// content is 1 to 40 KB of the type that a key's ending says. Pictures can be decoded; videos, WebP pictures and archives
// have the right beginning and noise behind it.
func content(random *rand.Rand, key string) []byte {
	var b bytes.Buffer
	size := 1<<10 + random.IntN(38<<10)
	switch key[strings.LastIndexByte(key, '.')+1:] {
	case "png":
		_ = (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, picture(random, min(size/4, 2<<10))) // a buffer takes all
	case "jpg", "jpeg":
		_ = jpeg.Encode(&b, picture(random, size), nil)
	case "webp":
		b.WriteString("RIFF")
		_ = binary.Write(&b, binary.LittleEndian, uint32(size+12))
		b.WriteString("WEBPVP8 ")
		_ = binary.Write(&b, binary.LittleEndian, uint32(size))
		b.Write(noise(random, size))
	case "mp4":
		b.WriteString("\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42")
		_ = binary.Write(&b, binary.BigEndian, uint32(size+8))
		b.WriteString("mdat")
		b.Write(noise(random, size))
	case "zip":
		b.WriteString("PK\x03\x04")
		b.Write(noise(random, size))
	case "csv":
		b.WriteString("Account address,Show boosts\n")
		for b.Len() < 2000 {
			fmt.Fprintf(&b, "user%d@elsewhere.test,true\n", random.IntN(1000))
		}
	}
	return b.Bytes()
}

// picture is a noisy picture of about n pixels.
func picture(random *rand.Rand, n int) image.Image {
	width := 16
	for width*width < n {
		width += 4
	}
	img := image.NewRGBA(image.Rect(0, 0, width, max(1, n/width)))
	tint := random.Uint32()
	for y := range img.Rect.Dy() {
		for x := range width {
			v := random.Uint32()
			img.SetRGBA(x, y, color.RGBA{uint8(v ^ tint), uint8(v>>9 | tint>>8), uint8(y ^ int(tint>>16)), 255})
		}
	}
	return img
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b[:n]
}
