package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/converge-agent/converge/test/lab"
)

// failure is something wrong with one thing that a converged host needs, and what converge has to say of it.
type failure struct {
	name     string
	extra    string        // more configuration, beside the example
	breakIt  func(*broken) // nil where extra alone is wrong
	mend     func(*broken) // undoes breakIt
	sabotage string        // what drifts meanwhile on the rest of the host; wipedKey where it is ""
	planned  int           // exit code of plan: 1 where the failure shows in it, else 2
	says     []string      // words on stderr
	tells    []string      // words on stdout, of what the failure holds back
	keeps    func(*broken) // what else must hold after the failure
}

// broken is the host of the failures.
type broken struct{ *example }

// wipedKey takes the last of the managed keys out of the env file, as a package's upgrade does.
const wipedKey = `sed -i '/^S3_RETRY_LIMIT=/d' ` + exampleEnv + `; ! grep -q S3_RETRY_LIMIT ` + exampleEnv

// wipedEnv takes all of them out, as an env file that is put back from a template has none.
const wipedEnv = `sed -i -E '/^(S3_|AWS_|CACHE_BUSTER_)/d' ` + exampleEnv + `; ! grep -q ^S3_ ` + exampleEnv

const otherBucket = `
s3_bucket "other" {
  store = object_store.b2
  name  = "taken-by-another"
  access = "public-objects"
}
s3_sync "other" {
  bucket = s3_bucket.other
  source = "/home/mastodon/live/public/system"
}
`

const otherSite = `
nginx_site "blog" {
  server_name = "blog.example.com"
  redirect    = "https://example.com"
}
`

const otherUnit = `
systemd_service "dying" {
  name = "dying"
}
`

var failures = []failure{
	{
		name:    "wrong secret key",
		planned: 1,
		breakIt: func(b *broken) { b.put("/etc/credstore/b2.agent.key", "K001wrongButSecretAllTheSame2Xq") },
		mend:    func(b *broken) { b.put("/etc/credstore/b2.agent.key", b.agent.secret) },
		says: []string{"s3_bucket.media", b2Endpoint, "SignatureDoesNotMatch",
			"-> The secret_access_key does not belong to access_key_id: write both again"},
	},
	{
		name:     "wrong secret of the app",
		planned:  2,
		breakIt:  func(b *broken) { b.put("/etc/credstore/b2.app.key", "K001wrongButSecretAllTheSame2Xq") },
		mend:     func(b *broken) { b.put("/etc/credstore/b2.app.key", b.app.secret) },
		sabotage: "sed -i s/nosniff/sniff/ " + exampleSite, // the env file is what the new key would change
		says: []string{"s3_bucket.media", "try the app's key on the bucket my-instance-media", "the secret does not belong to this key",
			"SignatureDoesNotMatch", "-> The secret_access_key does not belong to access_key_id: write both again in app_credentials"},
	},
	{
		name:    "bucket of somebody else",
		planned: 1,
		extra:   otherBucket,
		says:    []string{"s3_bucket.other", "taken-by-another", "AccessDenied", "belongs to somebody else", "another name"},
	},
	{
		name:    "store down",
		planned: 1,
		breakIt: func(b *broken) {
			b.relay.Close()
			b.sh("f=" + exampleLive + "/public/system/accounts/avatars/owed.png; mkdir -p ${f%/*}; echo new > $f; touch -d '1 hour ago' $f; chown -R mastodon: ${f%/*}")
		},
		mend: func(b *broken) {
			b.openRelay()
			b.apply(2) // what was held back
		},
		sabotage: wipedEnv,
		says:     []string{"s3_bucket.media", b2Endpoint, "the store cannot be reached (dial tcp", "connection refused", "-> Check that the store is up", "curl -sS"},
		tells:    []string{"ok env_file.mastodon", "-- s3_sync.bulk skipped: needs s3_bucket.media (failed)"},
	},
	{
		name:    "missing agent key",
		planned: 1,
		breakIt: func(b *broken) { b.sh("mv /etc/credstore/b2.agent.key /root/kept") },
		mend:    func(b *broken) { b.sh("mv /root/kept /etc/credstore/b2.agent.key") },
		says: []string{"s3_bucket.media", `credential("b2.agent.key")`, "there is no /etc/credstore/b2.agent.key",
			"install -D -m 0600 /dev/stdin /etc/credstore/b2.agent.key"},
	},
	{
		name:    "agent key with a blank in it",
		planned: 1,
		breakIt: func(b *broken) { b.put("/etc/credstore/b2.agent.key", "K001wrong "+b.agent.secret) },
		mend:    func(b *broken) { b.put("/etc/credstore/b2.agent.key", b.agent.secret) },
		says:    []string{"object_store.b2", "secret_access_key", "has a blank", "write the bare key"},
	},
	{
		name:     "missing app key",
		planned:  1,
		breakIt:  func(b *broken) { b.sh("mv /etc/credstore/b2.app.key /root/kept") },
		mend:     func(b *broken) { b.sh("mv /root/kept /etc/credstore/b2.app.key") },
		sabotage: "systemctl stop mastodon-sidekiq; sed -i s/nosniff/sniff/ " + exampleSite, // the env file is what uses it
		says: []string{"env_file.mastodon", `credential("b2.app.key")`,
			"install -D -m 0600 /dev/stdin /etc/credstore/b2.app.key"},
	},
	{
		name:    "no nginx",
		planned: 1,
		breakIt: func(b *broken) { b.sh("mv /usr/sbin/nginx /root/kept") },
		mend:    func(b *broken) { b.sh("mv /root/kept /usr/sbin/nginx") },
		says:    []string{"nginx_site.files", "nginx is not installed", "-> Install it: apt install nginx"},
	},
	{
		name:    "neighbour breaks nginx",
		planned: 2,
		extra:   otherSite,
		breakIt: func(b *broken) {
			putFile(b.t, b.m, "/etc/nginx/sites-enabled/neighbour", "server {\n  listen 80;\n  lissen 81;\n}\n", 0o644)
		},
		mend: func(b *broken) { b.sh("rm /etc/nginx/sites-enabled/neighbour") },
		says: []string{"nginx_site.blog", `nginx refuses it: unknown directive "lissen" in /etc/nginx/sites-enabled/neighbour:3`, "Mend the line that nginx names"},
		keeps: func(b *broken) {
			if status, _ := b.visit(b.instance.Public()[0]); status != 200 {
				b.t.Errorf("the media site answers %d", status)
			}
		},
	},
	{
		name:    "unit that dies at once",
		planned: 2,
		extra:   otherUnit,
		breakIt: func(b *broken) { putUnit(b.t, b.m, "dying.service", "ExecStart=/bin/sh -c 'exit 7'") },
		mend: func(b *broken) {
			b.sh("rm /etc/systemd/system/dying.service; systemctl daemon-reload; systemctl reset-failed")
		},
		says: []string{"systemd_service.dying", "dying.service", "exit status 7", "-> Read why with: journalctl -u dying.service"},
	},
	{
		name:    "authority down when a renewal is due",
		planned: 2,
		breakIt: func(b *broken) {
			b.plantOldCertificate()
			b.relay.SetDown(letsEncrypt, true)
		},
		mend: func(b *broken) {
			b.relay.SetDown(letsEncrypt, false)
			b.apply(2)
		},
		says: []string{"acme_certificate.files", "renew " + exampleFiles, "it expires in 9 days", letsEncrypt,
			"-> Check that this host can reach the authority"},
		keeps: func(b *broken) {
			if got := b.relay.Requests(letsEncrypt); got == 0 || got > 20 {
				b.t.Errorf("the authority was asked %d times", got)
			}
			if got := b.sh("find /etc/nginx -name 'converge-acme*'; find /var/lib/converge-acme -type f"); got != "" {
				b.t.Errorf("of the challenge is left: %s", got)
			}
		},
	},
}

// TestFailures breaks one thing after the other on a converged host.
func TestFailures(t *testing.T) {
	w := newTown(t, b2Endpoint).newWorld(t, backblaze)
	w.installExample("backblaze-b2.hcl", exampleConfig)
	b := &broken{&example{world: w, path: exampleConfig}}
	b.planted = append(b.planted, "K001wrongButSecretAllTheSame2Xq")
	b.takeBucket("taken-by-another")
	b.converge(0, b.args("apply", "--auto-approve")...)
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = nil }()
			start := time.Now()
			b.run(f)
			t.Logf("%.1f s", time.Since(start).Seconds())
		})
	}
	t.Run("disabled while a renewal is due", func(t *testing.T) {
		w.t = t
		defer func() { w.t = nil }()
		b.renewsWhileDisabled()
	})
	w.t = t
	b.checkSecrets()
}

// renewsWhileDisabled: the certificate is renewed and served, everything else is held and nobody is told, until converge is
// enabled again.
func (b *broken) renewsWhileDisabled() {
	b.t.Helper()
	contents := b.get(exampleEnv)
	b.plantOldCertificate()
	old := b.get(exampleCert + "/fullchain.pem")
	b.sh(wipedKey)
	b.converge(0, "disable", "a test", "--for", "2h")
	if out := b.plan(2); !strings.Contains(out, "Converge is disabled (a test) until") {
		b.t.Errorf("the plan does not say that converge is disabled:\n%s", out)
	}
	r := b.converge(2, b.args("apply", "--auto-approve", "--detailed-exitcode", "--quiet")...)
	if !strings.Contains(r.Stdout, "acme_certificate.files") || strings.Contains(r.Stdout, "env_file.mastodon") {
		b.t.Errorf("the apply says:\n%s", r.Stdout)
	}
	chain := b.get(exampleCert + "/fullchain.pem")
	if chain == old {
		b.t.Error("the certificate was not renewed")
	}
	if leaf, _ := pem.Decode([]byte(chain)); leaf == nil || !bytes.Equal(leaf.Bytes, b.served()) {
		b.t.Error("nginx does not serve the renewed certificate")
	}
	if b.get(exampleEnv) == contents {
		b.t.Error("the drift was healed though converge is disabled")
	}
	if r := b.converge(0, b.args("apply", "--auto-approve", "--detailed-exitcode", "--quiet")...); r.Stdout+r.Stderr != "" {
		b.t.Errorf("with nothing to renew it says:\n%s%s", r.Stdout, r.Stderr)
	}
	b.converge(0, "enable")
	b.apply(2)
	b.plan(0)
	if b.get(exampleEnv) != contents {
		b.t.Error("the drift was not healed")
	}
}

// served is the certificate that nginx shows, in DER.
func (b *broken) served() []byte {
	b.t.Helper()
	resp, err := b.browser(b.acme.RootFile, b.m.IP+":443").Get("https://" + exampleFiles + "/")
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.TLS.PeerCertificates[0].Raw
}

// run breaks, sabotages, applies and mends.
func (b *broken) run(f failure) {
	extra := exampleConfig + "/extra.hcl"
	if f.extra != "" {
		b.put(extra, f.extra)
	}
	if f.breakIt != nil {
		f.breakIt(b)
	}
	contents := b.traces("contents")
	sabotage := wipedKey
	if f.sabotage != "" {
		sabotage = f.sabotage
	}
	b.sh(sabotage)
	b.plan(f.planned)
	r := b.converge(6, b.args("apply", "--auto-approve", "--detailed-exitcode")...)
	message := strings.Join(strings.Fields(r.Stderr), " ")
	for _, words := range f.says {
		if !strings.Contains(message, words) {
			b.t.Errorf("stderr does not say %q:\n%s", words, r.Stderr)
		}
	}
	told := strings.Join(strings.Fields(r.Stdout), " ")
	for _, words := range f.tells {
		if !strings.Contains(told, words) {
			b.t.Errorf("stdout does not say %q:\n%s", words, r.Stdout)
		}
	}
	b.wantSame("damage, the failed apply and its healing", contents, b.traces("contents"))
	for _, unit := range exampleUnits {
		if got := b.sh("systemctl is-active " + unit + " || true"); got != "active" {
			b.t.Errorf("%s is %s", unit, got)
		}
	}
	if f.keeps != nil {
		f.keeps(b)
	}
	b.sh("rm -f " + extra)
	if f.mend != nil {
		f.mend(b)
	}
	b.plan(0)
}

func (b *broken) put(name, content string) { putFile(b.t, b.m, name, content+"\n", 0o600) }

// takeBucket has another customer of the store make a bucket.
func (b *broken) takeBucket(name string) {
	b.t.Helper()
	other := newS3(b.t, b.lab, lab.B2)
	own := b.store
	b.store = other
	defer func() { b.store = own }()
	if _, err := b.client().CreateBucket(b.t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		b.t.Fatal(err)
	}
}

// plantOldCertificate puts a certificate that ends in ten days in the place of the current one.
func (b *broken) plantOldCertificate() {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: exampleFiles}, DNSNames: []string{exampleFiles},
		NotBefore: time.Now().AddDate(0, 0, -80), NotAfter: time.Now().AddDate(0, 0, 10),
	}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"fullchain.pem": {Type: "CERTIFICATE", Bytes: chain}, "privkey.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		mode := os.FileMode(0o644)
		if name == "privkey.pem" {
			mode = 0o600
		}
		putFile(b.t, b.m, exampleCert+"/"+name, string(pem.EncodeToMemory(block)), mode)
	}
}
