package s3sync

import (
	"net/http"
	"path"
	"strings"
)

// cacheControl is what Mastodon gives each of its uploads (Mastodon 4.6.5 config/initializers/paperclip.rb, s3_headers).
const cacheControl = "public, max-age=315576000, immutable"

// contentTypes are the types of the files that Mastodon stores, by their extension (Mastodon 4.6.5 app/models/
// media_attachment.rb, IMAGE_, VIDEO_ and AUDIO_FILE_EXTENSIONS and _MIME_TYPES). Where Mastodon knows several for one, it
// is the registered one (IANA, Media Types).
var contentTypes = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jfif": "image/jpeg", ".png": "image/png", ".gif": "image/gif",
	".webp": "image/webp", ".avif": "image/avif", ".heic": "image/heic", ".heif": "image/heif", ".svg": "image/svg+xml",
	".ico": "image/vnd.microsoft.icon", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".ogv": "video/ogg",
	".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".wav": "audio/wav",
	".flac": "audio/flac", ".aac": "audio/aac", ".m4a": "audio/mp4", ".3gp": "audio/3gpp", ".wma": "audio/x-ms-wma",
}

// sniffLen is how many bytes contentType looks at (WHATWG MIME Sniffing, "resource header").
const sniffLen = 512

// contentType returns the type of a file by the extension of its key, or else by its first bytes. What looks like a
// document that a browser would run is sent as bytes: it was uploaded by anybody.
func contentType(key string, head []byte) string {
	if t, ok := contentTypes[strings.ToLower(path.Ext(key))]; ok {
		return t
	}
	t := http.DetectContentType(head)
	if strings.HasPrefix(t, "image/") || strings.HasPrefix(t, "video/") || strings.HasPrefix(t, "audio/") {
		return t
	}
	return "application/octet-stream"
}
