package e2e

import (
	"regexp"
	"slices"
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
	w.onlyChanged(out, "acme_certificate.files", "nginx_site.files")
	if got := w.sh("systemctl show --property=Id,InvocationID mastodon-web mastodon-sidekiq nginx"); got != services {
		w.Errorf("something was restarted:\n%s\nbefore:\n%s", got, services)
	}
	if w.get(envFile) != env {
		w.Error("the env file was changed")
	}
	w.sh("curl -fsS -o /dev/null https://" + files + "/" + w.anyKey()) // the renewed one is served, and valid by the clocks of then

	w.setClocks(began.AddDate(0, 0, 90))
	w.apply(unchanged) // it looks again at what it looks at each week: the bucket from outside, and its list
	w.done()
	if third := w.sh("sha256sum " + certFile); third != second {
		w.Error("30 days after it was renewed the certificate was renewed again")
	}
}

// onlyChanged expects that an apply has changed these resources and no others. To look at something is no change.
func (w *world) onlyChanged(out string, addresses ...string) {
	w.Helper()
	for _, m := range regexp.MustCompile(`(?m)^  [~+] (\S+)`).FindAllStringSubmatch(out, -1) {
		if !slices.Contains(addresses, m[1]) {
			w.Errorf("%s was changed, and only %q should have been:\n%s", m[1], addresses, out)
		}
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
