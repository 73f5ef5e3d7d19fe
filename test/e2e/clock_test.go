package e2e

import (
	"strings"
	"time"

	"github.com/converge-agent/converge/test/e2e/instance"
)

// monthsLater sets the clocks of all machines ahead: the certificate is renewed when it is due, and nothing else changes.
func monthsLater(w *world) {
	w.apply(changed)
	w.done()
	began := time.Now()
	first := w.sh("sha256sum " + certFile)
	w.setClocks(began.AddDate(0, 0, 60).Add(time.Hour))
	services := w.sh("systemctl show --property=Id,InvocationID mastodon-web mastodon-sidekiq nginx")
	env := w.get(envFile)
	out := w.apply(changed)
	second := w.sh("sha256sum " + certFile)
	if second == first {
		w.Errorf("the certificate was not renewed:\n%s", out)
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "  ~ ") && !strings.Contains(line, " acme_certificate.files ") && !strings.Contains(line, " nginx_site.files ") {
			w.Errorf("after 60 days more was changed than the certificate: %s", line)
		}
	}
	if got := w.sh("systemctl show --property=Id,InvocationID mastodon-web mastodon-sidekiq nginx"); got != services {
		w.Errorf("something was restarted:\n%s\nbefore:\n%s", got, services)
	}
	if w.get(envFile) != env {
		w.Error("the env file was changed")
	}
	w.sh("curl -fsS -o /dev/null https://" + files + "/" + w.anyKey()) // the renewed one is served, and valid by the clocks of then

	w.setClocks(began.AddDate(0, 0, 90))
	out = w.apply(changed) // the weekly listing of the bucket, and no more
	if !strings.Contains(out, "1 changed,") || !strings.Contains(out, "the last one is more than a week old") {
		w.Errorf("after 90 days more was done than a listing:\n%s", out)
	}
	w.done()
	if third := w.sh("sha256sum " + certFile); third != second {
		w.Error("30 days after it was renewed the certificate was renewed again")
	}
}

// anyKey is the key of a live picture.
func (w *world) anyKey() string {
	w.Helper()
	known, err := w.instance.Known(w.Context())
	w.must(err)
	for _, m := range known {
		if m.State == instance.StateLive {
			return m.Key
		}
	}
	w.Fatal("the instance has no live media")
	return ""
}

func (w *world) setClocks(to time.Time) {
	w.Helper()
	w.must(w.other.SetClock(w.Context(), to))
	w.must(w.social.SetClock(w.Context(), to))
}

// kernelReboot restarts the machine with its kernel: all is up again by itself, and nothing is left to do.
func kernelReboot(w *world) {
	w.apply(changed)
	w.done()
	before := w.sh("cat /proc/sys/kernel/random/boot_id")
	w.must(w.social.Reboot(w.Context()))
	if w.sh("cat /proc/sys/kernel/random/boot_id") == before {
		w.Fatal("it is the same boot")
	}
	w.done()
	w.look("after", files)
}
