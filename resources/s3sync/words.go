package s3sync

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tally is a number of files and their bytes.
type tally struct{ Files, Bytes int64 }

func (t *tally) add(size int64) {
	t.Files++
	t.Bytes += size
}

func (t tally) plus(u tally) tally { return tally{t.Files + u.Files, t.Bytes + u.Bytes} }

// String is such as "2,000 files, 38.2 MB".
func (t tally) String() string { return fmt.Sprintf("%s, %s", files(t.Files), size(t.Bytes)) }

func files(n int64) string {
	if n == 1 {
		return "1 file"
	}
	return count(n) + " files"
}

func objects(n int64) string {
	if n == 1 {
		return "1 object"
	}
	return count(n) + " objects"
}

// count writes a number with commas: "2,913,406".
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// size writes a number of bytes in decimal units: "38.2 MB".
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		if v /= 1000; v < 999.95 || unit == "TB" {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
	}
	return ""
}

// about writes a duration to be read at a glance: "7 h", "40 min".
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(1, int(d.Seconds())))
	case d < 100*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()+0.5))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24+0.5))
}
