package main

import (
	"bytes"
	_ "embed"
	"net"
	"net/url"
	"text/template"

	"github.com/converge-agent/converge/test/lab"
)

//go:embed site.hcl.tmpl
var siteTemplate string

// siteValues are what the configuration is filled in with.
type siteValues struct {
	Provider, Region, Endpoint, Directory, CAFile string
	Bucket, Files                                 string
}

const (
	filesName  = "files.social.test"
	bucketName = "social-test-media"
	live       = "/home/mastodon/live"
	configFile = "/etc/converge/site.hcl"
	caFile     = "/etc/converge/lab-ca.pem"
)

// site is the configuration of the story.
func site(s *lab.S3, a *lab.ACME) (string, error) {
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil {
		return "", err
	}
	endpoint.Host = net.JoinHostPort(s.Name, endpoint.Port()) // nginx checks certificates by name alone
	t, err := template.New("site").Parse(siteTemplate)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, siteValues{
		Provider: s.Personality.String(), Region: s.Region, Endpoint: endpoint.String(), Directory: a.DirectoryURL, CAFile: caFile,
		Bucket: bucketName, Files: filesName,
	})
	return b.String(), err
}

// secrets are the files that credential() finds in /etc/credstore (systemd.exec(5), "CREDENTIALS").
func secrets(s *lab.S3) map[string]string {
	return map[string]string{
		"/etc/credstore/store.agent.id":  s.AgentKey,
		"/etc/credstore/store.agent.key": s.AgentSecret,
		"/etc/credstore/store.app.id":    s.AppKey,
		"/etc/credstore/store.app.key":   s.AppSecret,
	}
}
