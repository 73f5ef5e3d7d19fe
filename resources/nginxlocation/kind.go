// Package nginxlocation is the kind nginx_location: what becomes of the paths below one of a site of nginx that somebody else
// wrote. It adds one line to each of the site's server blocks, and leaves the rest of it alone.
package nginxlocation

import (
	"errors"
	"path"
	"regexp"
	"strings"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/nginx"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// Kind returns the kind nginx_location.
func Kind() *resources.Kind {
	return &resources.Kind{
		Name: "nginx_location",
		Doc: "What becomes of the paths below one of a site of nginx that you wrote, such as /system/ of Mastodon's: they are " +
			"redirected for good, and nothing below is served from the disk any more. It wins over every location that the site " +
			"has for them, in whatever form. One line at the head of the site's server blocks includes a file of converge's; the " +
			"rest of the site stays as it is, byte for byte. The whole configuration is tested before it goes live, and put back " +
			"if nginx refuses it.",
		Attrs: attrs(),
		Exports: []resources.Attr{
			{Name: "path", Type: cty.String, Doc: "The file that the site's server blocks include."},
		},
		New: newResource,
	}
}

func attrs() []resources.Attr {
	return []resources.Attr{
		{Name: "site", Type: cty.String, Format: resources.Path, Required: true,
			Doc: "The file with the site's server blocks, such as \"/etc/nginx/sites-available/mastodon\", or a link to it."},
		{Name: "server_name", Type: cty.String, Format: resources.DNSName,
			Doc: "Only the server blocks that have this name. Not written: every one in the file."},
		{Name: "match", Type: cty.String, Required: true,
			Doc: "How the paths begin, between slashes: \"/system/\". As nginx does for its locations, the path is looked at decoded " +
				"and without dot segments."},
		{Name: "redirect", Type: cty.String, Format: resources.URL, Required: true,
			Doc: "The URL, without a slash at its end, that they are sent to for good (301). What follows match is added as the " +
				"client wrote it, with its encoding and arguments: /system/a/b.png leads to the URL and /a/b.png."},
		{Name: "except", Type: cty.List(cty.String), Default: cty.ListValEmpty(cty.String),
			Doc: "Paths below match that nobody may see, each between slashes: they are answered with 404."},
		{Name: "conf_dir", Type: cty.String, Format: resources.Path, Default: cty.StringVal("/etc/nginx"),
			Doc: "The directory that holds nginx.conf. The file that is included stands below it, in converge."},
		{Name: "unit", Type: cty.String, Default: cty.StringVal("nginx"), Doc: "The systemd unit that is reloaded, if it runs."},
		resources.EnsureAttr(),
	}
}

// config is what was written.
type config struct {
	Site       string   `attr:"site"`
	ServerName string   `attr:"server_name"`
	Match      string   `attr:"match"`
	Redirect   string   `attr:"redirect"`
	Except     []string `attr:"except"`
	ConfDir    string   `attr:"conf_dir"`
	Unit       string   `attr:"unit"`
	Ensure     string   `attr:"ensure"`
}

// location is one location that is to be so.
type location struct {
	config
	unit string // full name
	name string // of the files that are made for it
	text []byte // of the file that is included

	// loaded is what Apply has seen nginx load, for the proof that follows before there is a record of it.
	loaded *resources.Loaded
}

func newResource(addr resources.Address, v cty.Value) (resources.Resource, cty.Value, error) {
	l := &location{}
	if err := resources.Decode(v, &l.config); err != nil {
		return nil, cty.NilVal, err
	}
	l.unit = host.UnitName(l.Unit)
	wanted := nginx.Location{Origin: addr.String(), Match: l.Match, Redirect: l.Redirect, Except: l.Except}
	var err error
	if l.text, err = wanted.Render(); err != nil {
		return nil, cty.NilVal, attrError(err)
	}
	l.name = fileName(l.Site, l.Match)
	return l, cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(l.include())}), nil
}

// attributes are where the fields of a nginx.Location are written.
var attributes = map[string]string{"Match": "match", "Redirect": "redirect", "Except": "except"}

// attrError gives an error of a field to the attribute that it was written in.
func attrError(err error) error {
	var bad *nginx.FieldError
	if errors.As(err, &bad) {
		return &resources.AttrError{Path: []string{attributes[bad.Field]}, Err: bad.Err}
	}
	return err
}

var odd = regexp.MustCompile(`[^A-Za-z0-9._~-]+`)

// fileName is made from what stays when a block gets another label: "mastodon-system". Two blocks of one name own one file,
// which the engine refuses.
func fileName(site, match string) string {
	return odd.ReplaceAllString(strings.TrimSuffix(path.Base(site), ".conf")+"-"+strings.Trim(match, "/"), "-")
}

func (l *location) dir() string     { return path.Join(l.ConfDir, "converge") }
func (l *location) include() string { return path.Join(l.dir(), l.name+".conf") }
func (l *location) main() string    { return path.Join(l.ConfDir, "nginx.conf") }

// undoPath is what lies in the state directory between the writing of the files and the verdict of nginx.
func (l *location) undoPath(stateDir string) string {
	return path.Join(stateDir, "nginx_location", l.name+".undo")
}

// Claims lists the file that is included, and the site, which others may edit too. Where it is written by its link in
// sites-enabled, that leads to sites-available.
func (l *location) Claims() []resources.Claim {
	claims := []resources.Claim{{Path: l.dir()}, {Path: l.include(), Own: true}, {Path: l.Site}}
	if path.Base(path.Dir(l.Site)) == "sites-enabled" {
		claims = append(claims, resources.Claim{Path: path.Join(path.Dir(path.Dir(l.Site)), "sites-available", path.Base(l.Site))})
	}
	return claims
}

// Watches lists the same files.
func (l *location) Watches() []string { return []string{l.include(), l.Site} }
