package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/test/e2e/browser"
	"github.com/converge-agent/converge/test/e2e/instance"
)

// freshToDone is the whole life of an example on a fresh host: a plan that changes nothing, an apply that does it, and an
// apply that finds nothing left to do. A browser looks before and after.
func freshToDone(w *world) {
	w.want(0, "validate")
	env := w.get(envFile)
	before := w.traces()
	w.plan(changed)
	w.same("a plan", before, w.traces())
	for range 5 {
		w.post()
	}
	w.look("before", domain)

	w.apply(changed)
	w.done()
	if !strings.HasPrefix(w.get(envFile), env) {
		w.Error("what was in the env file is not as it was")
	}
	w.post() // by the app itself, into the bucket
	w.look("after", files)
	w.checkMedia()
	for _, path := range []string{"/?list-type=2", "/", "/backups/dumps/1.tar.gz", "/imports/data/1.csv"} {
		if status := w.status("https://" + files + path); status != http.StatusNotFound {
			w.Errorf("GET %s of the media site: status %d, want 404", path, status)
		}
	}
}

// post has the instance take a new picture, as soon as it is up.
func (w *world) post() string {
	w.Helper()
	var id string
	w.eventually("the instance takes a picture", func() bool {
		m, err := w.instance.Post(w.Context())
		id = m.ID
		return err == nil
	})
	return id
}

// status is what a visitor gets for a URL, without following redirects.
func (w *world) status(url string) int {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, url, nil)
	w.must(err)
	client := *w.instance.HTTPClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	w.must(err)
	w.must(resp.Body.Close())
	return resp.StatusCode
}

// look opens the instance's page in a browser. Every image must be there, from the host that is named, and nothing in the
// console.
func (w *world) look(when, host string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	b, err := browser.Open(ctx, browser.Options{
		Dial:  driver.DialContext,
		Hosts: map[string]string{domain: w.social.IP(), files: w.social.IP()},
		CAPEM: []string{w.services.CAPEM, w.services.ACMERootPEM},
	})
	w.must(err)
	defer func() { w.must(b.Close()) }()
	page, err := b.Load(ctx, "https://"+domain+"/")
	w.must(err)
	problems := page.Problems()
	from := 0
	for _, image := range page.Images {
		if strings.HasPrefix(image.URL, "https://"+host+"/") {
			from++
		}
	}
	if from == 0 {
		problems = append(problems, fmt.Sprintf("none of %d images comes from %s", len(page.Images), host))
	}
	if len(problems) == 0 {
		return
	}
	w.Errorf("the page %s the switch:\n%s", when, strings.Join(problems, "\n"))
	dir, err := filepath.Abs(filepath.Join(repository, ".cache", "e2e"))
	w.must(err)
	w.keep(dir, strings.NewReplacer("/", "-", " ", "-").Replace(w.Name())+"-"+when+".png", page.Screenshot)
}

// s3 is another tool of the admin's, with the agent's key.
func (w *world) s3() *s3.Client {
	w.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(w.services.CAPEM)) {
		w.Fatal("the lab has no certificate")
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return driver.DialContext(ctx, network, net.JoinHostPort(w.services.IP, "443"))
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	w.Cleanup(transport.CloseIdleConnections)
	return s3.New(s3.Options{
		Region: w.services.Region, BaseEndpoint: aws.String(w.services.Endpoint), UsePathStyle: true,
		HTTPClient:  &http.Client{Transport: transport, Timeout: time.Minute},
		Credentials: credentials.NewStaticCredentialsProvider(w.services.AgentKey, w.services.AgentSecret, ""),
	})
}

// more are the kinds that no example has.
const more = `
directory "d" {
  path = "/srv/d"
  mode = "0750"
}
file "f" {
  path    = "/srv/d/f"
  content = "as it shall be\n"
}
symlink "l" {
  path   = "/srv/l"
  target = "/srv/d/f"
}
command "c" {
  run     = ["touch", "/srv/d/made"]
  creates = "/srv/d/made"
}
`

// driftOfEveryKind damages one thing of each kind, by hand, and expects it named as drift and healed.
func driftOfEveryKind(w *world) {
	w.apply(changed)
	w.done()
	w.put("/etc/converge-more/more.hcl", more)
	w.sh(agentBinary + " apply --auto-approve /etc/converge-more")
	contents := func() string {
		return w.sh(`find /srv /etc/nginx /etc/ssl/` + files + ` ` + envFile + ` -printf '%p %y %m %U:%G %l\n' | sort
			find /srv /etc/nginx ` + envFile + ` -type f -exec sha256sum {} + | sort`)
	}
	before := contents()
	w.sh(`sed -i 's/^S3_BUCKET=.*/S3_BUCKET=elsewhere/' ` + envFile + `
		sed -i 's/nosniff/sniff/' ` + siteFile + `
		systemctl stop mastodon-sidekiq && systemctl disable nginx
		echo elsewhere >> ` + mediaMoved + `
		sed -i '/include.*converge/d' ` + instance.Site + `
		rm /etc/ssl/` + files + `/live
		rm -r /srv/d && ln -sfn /tmp /srv/l`)
	_, err := w.s3().DeleteBucketPolicy(w.Context(), &s3.DeleteBucketPolicyInput{Bucket: &w.bucket})
	w.must(err)

	want := []string{"acme_certificate.files", "env_file.mastodon", "file.moved", "nginx_location.system", "nginx_site.files", "s3_bucket.media",
		`systemd_service.mastodon["mastodon-sidekiq"]`, "systemd_service.nginx"}
	if got := drifts(w.plan(changed)); !slices.Equal(got, want) {
		w.Errorf("the plan shows drift of %q, want %q", got, want)
	}
	w.apply(changed)
	if got, want := w.sh(agentBinary+" apply --auto-approve /etc/converge-more"), "4 changed"; !strings.Contains(got, want) {
		w.Errorf("the other kinds: want %s\n%s", want, got)
	}
	w.same("damage and healing", before, contents())
	w.done()
}

// timerRuns leaves all to the timer that is shipped, as a host does for ever.
func timerRuns(w *world) {
	for _, unit := range []string{"converge.service", "converge.timer"} {
		w.installPackaged(unit)
	}
	w.sh("systemd-analyze verify /etc/systemd/system/converge.service /etc/systemd/system/converge.timer")
	// Every few seconds instead of twice an hour.
	w.put("/etc/systemd/system/converge.timer.d/soon.conf", "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/3\nRandomizedDelaySec=0\nAccuracySec=1s\n")
	w.sh("systemctl daemon-reload && systemctl start converge.timer")
	w.eventually("the timer makes the host be what the file says", func() bool {
		r, err := w.social.Run(w.Context(), "test", "-e", mediaMoved)
		w.must(err)
		return r.Code == 0
	})
	w.sh("systemctl stop converge.timer")
	w.eventually("the last run ends", func() bool { return !w.running("converge.service") })
	if got := w.sh("systemctl show --property=Result --value converge.service"); got != "success" {
		w.Errorf("the run ended with %s:\n%s", got, w.sh("journalctl --no-pager -u converge"))
	}
	w.done()

	w.sh("systemctl stop mastodon-sidekiq && systemctl start converge.service && systemctl is-active mastodon-sidekiq")
	cursor := w.sh("journalctl --sync && journalctl --no-pager -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p'")
	w.sh("systemctl start converge.service && journalctl --sync")
	if said := w.sh("journalctl --no-pager -o cat --after-cursor='" + cursor + "' _SYSTEMD_UNIT=converge.service"); said != "" {
		w.Errorf("a run that changed nothing was not silent:\n%s", said)
	}
}
