package e2e

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/converge-agent/converge/test/e2e/machines"
	"github.com/converge-agent/converge/test/machine"
)

func (w *world) installPackaged(unit string) {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "packaging", "systemd", unit))
	w.must(err)
	w.put("/etc/systemd/system/"+unit, string(text))
}

// cutPower takes the power away and gives it back.
func (w *world) cutPower(m machines.Machine) {
	w.Helper()
	w.must(m.Kill(w.Context()))
	w.must(m.Boot(w.Context()))
}

// whole expects that what a run was in the middle of left every file whole: nginx takes its configuration, the env file has
// all its old lines, and nothing unfinished lies about.
func (w *world) whole(env string) {
	w.Helper()
	w.sh("nginx -t -q")
	if !strings.HasPrefix(w.get(envFile), env) {
		w.Error("what was in the env file is not as it was")
	}
}

func powerCutDuringSync(w *world) {
	env := w.get(envFile)
	_, forget := w.meetRun(50)
	w.cutPower(w.social)
	forget()
	if n := w.objects(); n >= 1000 {
		w.Fatalf("the sync had copied %d files already when the power was cut", n)
	}
	w.whole(env)
	w.apply(changed)
	w.done()
}

// powerCutsDuringApply cuts the power again and again, each time as soon as the next step has left its mark.
func powerCutsDuringApply(w *world) {
	env := w.get(envFile)
	for _, mark := range []string{
		"ls -d /var/lib/converge/*", "test -e " + certFile, "test -e " + siteFile, "test -L /etc/nginx/sites-enabled/" + files + ".conf",
		"grep -q ^S3_ENABLED " + envFile, "test -e " + mediaMoved,
	} {
		run := w.startRun()
		w.eventually(mark, func() bool {
			r, err := w.social.Run(w.Context(), "sh", "-c", mark)
			w.must(err)
			if r.Code != 0 && !w.running(run) {
				w.Fatalf("the run ended before %q:\n%s", mark, w.sh("journalctl --no-pager -o cat -u "+run))
			}
			return r.Code == 0
		})
		w.cutPower(w.social)
		w.whole(env)
	}
	w.run("apply", "--auto-approve")
	w.done()
}

func rebootDuringApply(w *world) {
	env := w.get(envFile)
	_, forget := w.meetRun(20)
	w.must(w.social.Reboot(w.Context()))
	forget()
	w.whole(env)
	w.run("apply", "--auto-approve")
	w.done()
}

// brokenNeighbour is a site of somebody else's that nginx refuses: ours must not go live, nor take down what runs.
func brokenNeighbour(w *world) {
	const neighbour = "/etc/nginx/sites-enabled/neighbour"
	w.put(neighbour, "server { listen 80; server_name neighbour.example; no_such_directive on; }\n")
	r := w.run("apply", "--auto-approve", "--detailed-exitcode")
	if r.Code != changedFailed || !strings.Contains(r.Stdout+r.Stderr, neighbour) {
		w.Errorf("exit code %d, want %d, and a message that names %s:\n%s%s", r.Code, changedFailed, neighbour, r.Stdout, r.Stderr)
	}
	if left := w.sh("ls /etc/nginx/sites-enabled"); strings.Contains(left, files) {
		w.Errorf("our site is enabled in a configuration that nginx refuses: %s", left)
	}
	if strings.Contains(w.get(envFile), "S3_ENABLED") {
		w.Error("the instance was switched although its media have no site")
	}
	if status := w.status("https://" + domain + "/"); status != 200 {
		w.Errorf("the instance answers %d", status)
	}
	w.sh("rm " + neighbour)
	w.apply(changed)
	w.done()
}

// storeDown is law 9: what drifted on the host is healed although the store is down for the whole run.
func storeDown(w *world) {
	w.apply(changed)
	w.done()
	w.must(w.services.Down(w.Context(), true))
	w.sh(`sed -i '/^S3_/d' ` + envFile + `
		sed -i 's/nosniff/sniff/' ` + siteFile + `
		systemctl stop mastodon-sidekiq`)
	w.apply(changedFailed)
	if !strings.Contains(w.get(envFile), "\nS3_BUCKET="+w.bucket+"\n") {
		w.Error("the env file was not healed")
	}
	if strings.Contains(w.get(siteFile), `"sniff"`) {
		w.Error("the site was not healed")
	}
	w.sh("systemctl is-active mastodon-sidekiq mastodon-web nginx")
	// As cron runs it: an outage is told when it begins, in each of the ways in which it shows, and when it is over.
	if w.quiet(1) == "" {
		w.Error("the outage was not told")
	}
	w.eventually("the outage is told no more", func() bool { return w.quiet(1) == "" })
	w.must(w.services.Down(w.Context(), false))
	if said := w.quiet(0); !strings.Contains(said, " works again") {
		w.Errorf("the end of the outage was told as %q", said)
	}
	if said := w.quiet(0); said != "" {
		w.Errorf("with nothing to tell it said %q", said)
	}
	w.done()
}

// quiet applies as cron does, and returns what that would have mailed.
func (w *world) quiet(code int) string {
	w.Helper()
	r := w.run("apply", "--auto-approve", "--quiet")
	if r.Code != code {
		w.Fatalf("apply --quiet: exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

func networkCut(w *world) {
	env := w.get(envFile)
	run, forget := w.meetRun(20)
	w.must(w.social.Unplug(w.Context()))
	w.eventually("the run gives up", func() bool { return !w.running(run) })
	w.whole(env)
	w.must(w.social.Plug(w.Context()))
	forget()
	w.run("apply", "--auto-approve")
	w.done()
}

// saysFull reports whether a run said that there is no room, however its lines are wrapped.
func saysFull(r machine.Result) bool {
	return strings.Contains(strings.Join(strings.Fields(r.Stdout+r.Stderr), " "), "no space left on device")
}

// diskFull has the instance's directory, and then the state directory, on file systems without room.
func diskFull(w *world) {
	w.sh(`systemctl stop mastodon-web mastodon-sidekiq
		mv ` + live + ` /home/mastodon/was && mkdir ` + live + `
		mount -t tmpfs -o size=64m,mode=755 tmpfs ` + live + ` && chown mastodon: ` + live + `
		cp -a /home/mastodon/was/. ` + live + `
		systemctl start mastodon-web mastodon-sidekiq`)
	env := w.get(envFile)
	w.sh("dd if=/dev/zero of=" + live + "/filler bs=4k 2>/dev/null || true")
	r := w.run("apply", "--auto-approve", "--detailed-exitcode")
	if r.Code != changedFailed || !saysFull(r) {
		w.Errorf("exit code %d, want %d, and a message that says why:\n%s%s", r.Code, changedFailed, r.Stdout, r.Stderr)
	}
	if w.get(envFile) != env {
		w.Error("the env file is not as it was")
	}
	w.sh("rm " + live + "/filler; ls -a " + live + " | { ! grep -F .env.production. ; }")

	w.sh(`cp -a /var/lib/converge /var/lib/was
		mount -t tmpfs -o size=8m,mode=700 tmpfs /var/lib/converge && cp -a /var/lib/was/. /var/lib/converge
		dd if=/dev/zero of=/var/lib/converge/filler bs=4k 2>/dev/null || true`)
	if r := w.run("apply", "--auto-approve"); r.Code != 1 || !saysFull(r) {
		w.Errorf("exit code %d, want 1, and a message that says why:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.whole(env)
	w.sh("rm /var/lib/converge/filler")
	w.run("apply", "--auto-approve")
	w.done()
}

// envWiped is an upgrade that writes the env file anew: the app then writes to its disk, and knows nothing of the bucket.
func envWiped(w *world) {
	env := w.get(envFile)
	w.apply(changed)
	w.done()
	w.put(envFile, env)
	w.sh("chown mastodon: " + envFile + " && chmod 640 " + envFile + " && systemctl restart mastodon-web mastodon-sidekiq")
	w.post()
	w.apply(changed)
	w.done()
	w.look("after", files)
}

// stateLost: without its records converge may do more than needed, and never brings back what was deleted.
func stateLost(w *world) {
	id := w.post()
	w.apply(changed)
	w.done()
	w.must(w.instance.Delete(w.Context(), id))
	w.must(w.instance.Settle(w.Context()))
	w.checkMedia()
	w.sh("rm -r /var/lib/converge")
	w.run("apply", "--auto-approve")
	w.done()
}

func twoRunsAtOnce(w *world) {
	run, forget := w.meetRun(5)
	r := w.run("apply", "--auto-approve")
	if !w.running(run) {
		w.Fatal("the first run had ended already")
	}
	forget()
	if r.Code != 1 || !strings.Contains(r.Stderr, "another run of converge holds it") {
		w.Errorf("exit code %d, want 1, and who holds the lock:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.want(0, "apply", "--auto-approve", "--lock-timeout", "5m")
	w.done()
}
