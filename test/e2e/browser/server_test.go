package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"log"
	"net/http"
	"strings"
)

var red = color.RGBA{R: 0xff, A: 0xff}

// silent is for a server whose clients hang up because they do not trust it.
var silent = log.New(io.Discard, "", 0)

// pages are the bodies of documents at web.test.
var pages = map[string]string{
	"/good": `<title>All is well</title><style>body { margin: 0 } img { display: block }</style>
		<img src="https://files.test/a.png">
		<img src="/old/a.png">
		<img src="https://files.test/b.svg#part">
		<p style="height: 20000px"></p>
		<img src="https://files.test/lazy.png" loading="lazy" width="30" height="20">
		<img src="https://files.test/none.png" loading="lazy" style="display: none">
		<script>
			const ask = again => fetch("https://files.test/public.json").then(answer => answer.json()).then(() => {
				if (again > 0) return ask(again - 1);
				const late = new Image();
				late.src = "https://files.test/script.png";
				document.body.append(late);
			});
			addEventListener("load", () => ask(100));
		</script>`,
	"/missing-image": `<img src="/none.png">`,
	"/missing-media": `<img src="https://files.test/none.png">`,
	"/not-an-image":  `<img src="/good">`,
	"/lazy-missing":  `<p style="height: 20000px"></p><img src="https://files.test/none.png" loading="lazy">`,
	"/csp":           `<img src="https://files.test/a.png">`,
	"/csp-script":    `<script>document.title = "it ran"</script>`,
	"/cors":          `<script>fetch("https://files.test/private.json").catch(() => {})</script>`,
	"/mixed-image":   `<img src="http://files.test/a.png">`,
	"/mixed-script":  `<script src="http://files.test/a.js"></script>`,
	"/failed-fetch":  `<script>fetch("/fails")</script>`,
	"/unknown-host":  `<img src="https://unknown.test/a.png">`,
	"/untrusted":     `<img src="https://stranger.test/a.png">`,
	"/console-error": `<script>console.error("it went wrong", 7)</script>`,
	"/exception":     `<script>throw new Error("it broke")</script>`,
	"/no-favicon":    `<link rel="icon" href="https://plain.test/favicon.ico">`,
	"/visitor":       `<script>document.title = document.cookie ? "known" : "new"; document.cookie = "seen=1; max-age=3600"</script>`,
	"/endless":       `<img src="https://files.test/endless.png">`,
	"/good-plain":    `<title>Plain</title><img src="/a.png">`,
}

var headers = map[string]string{
	"/csp":        "img-src 'self'",
	"/csp-script": "script-src 'self'",
}

func serve(w http.ResponseWriter, r *http.Request) {
	body, isPage := pages[r.URL.Path]
	switch {
	case isPage:
		if policy, ok := headers[r.URL.Path]; ok {
			w.Header().Set("Content-Security-Policy", policy)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, "<!doctype html><html lang=en>", body)
	case strings.HasSuffix(r.URL.Path, "/none.png"):
		http.NotFound(w, r)
	case r.URL.Path == "/old/a.png":
		http.Redirect(w, r, "https://files.test/a.png", http.StatusMovedPermanently)
	case r.URL.Path == "/endless.png":
		w.Header().Set("Content-Type", "image/png")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, ".png"), r.URL.Path == "/favicon.ico":
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(picture())
	case strings.HasSuffix(r.URL.Path, ".svg"):
		w.Header().Set("Content-Type", "image/svg+xml")
		_, _ = fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="50"><rect width="40" height="50"/></svg>`)
	case r.URL.Path == "/public.json":
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = fmt.Fprint(w, "{}")
	case r.URL.Path == "/private.json":
		_, _ = fmt.Fprint(w, "{}")
	case r.URL.Path == "/fails":
		http.Error(w, "not now", http.StatusServiceUnavailable)
	default:
		http.NotFound(w, r)
	}
}

// picture is a red one of 30 by 20 pixels.
func picture() []byte {
	i := image.NewRGBA(image.Rect(0, 0, 30, 20))
	draw.Draw(i, i.Bounds(), image.NewUniform(red), image.Point{}, draw.Src)
	var b bytes.Buffer
	_ = png.Encode(&b, i) // a buffer takes everything
	return b.Bytes()
}
