// Package systemdservice is the kind systemd_service: a unit that runs, or does not, and that is restarted or reloaded
// exactly when what it reads has changed since it last read it.
package systemdservice

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// patience is how long a unit that was commanded is watched.
type patience struct {
	apart  time.Duration // before the command, from the last write
	job    time.Duration // how long systemd's job may take
	poll   time.Duration // between two looks
	settle time.Duration // how long it must stay up to count as up
	limit  time.Duration // how long it may take to get there
}

// The job of a service of Type=simple is done as soon as its process is forked (systemd.service(5)), and one that falls
// over does so at once or, with a wrong setting, while it boots. Two seconds catch the first; for the second there are
// http_check and the next run. Sixty bound a unit that keeps being restarted. systemd bounds most jobs itself, by 90 s for
// each step, but not that of a oneshot service (TimeoutStartSec=). The kernel takes the timestamps of files from its tick,
// of up to 10 ms: a start within that from a write would leave it open which was first.
var production = patience{
	apart: 50 * time.Millisecond, job: 15 * time.Minute, poll: 100 * time.Millisecond, settle: 2 * time.Second, limit: time.Minute,
}

// Kind returns the kind systemd_service.
func Kind() *resources.Kind { return kind(production) }

func kind(p patience) *resources.Kind {
	ensure := resources.EnsureAttr()
	ensure.Doc = "With \"absent\" it is to be stopped, and not to start at boot. A unit file is removed by the resource that wrote it."
	return &resources.Kind{
		Name: "systemd_service",
		Doc: "A systemd unit that runs (or does not), starts at boot (or does not), and is restarted or reloaded when what it " +
			"reads has changed. A restart that is owed stays owed until it is done, by converge or by hand, and several " +
			"changes cost one restart.",
		Attrs: []resources.Attr{
			{Name: "name", Type: cty.String, Required: true, Doc: "The unit's name, such as \"mastodon-web\" or " +
				"\"mastodon-streaming@4000.service\". Without a suffix it is a service."},
			{Name: "running", Type: cty.Bool, Doc: "Whether it is to run. Not written: true, or false where masked = true. A " +
				"unit of Type=oneshot without RemainAfterExit=yes is left alone unless it failed, for nothing tells whether it ran."},
			{Name: "enabled", Type: cty.Bool, Doc: "Whether it is to start at boot. Not written: not managed."},
			{Name: "masked", Type: cty.Bool, Doc: "Whether it is to be impossible to start, by anybody. Not written: not " +
				"managed, and a masked unit that is to run is an error."},
			{Name: "restart_on", Ref: []string{"any"}, List: true, Doc: "The resources that the unit reads when it starts: when " +
				"their content is other than what it has read, it is restarted."},
			{Name: "reload_on", Ref: []string{"any"}, List: true, Doc: "The resources that the unit reads again on a reload. A " +
				"restart that is due makes the reload unnecessary."},
			ensure,
		},
		Exports: []resources.Attr{
			{Name: "name", Type: cty.String, Doc: "The unit's full name, such as \"mastodon-web.service\"."},
		},
		New: func(_ resources.Address, config cty.Value) (resources.Resource, cty.Value, error) {
			s, err := newService(p, config)
			if err != nil {
				return nil, cty.NilVal, err
			}
			return s, cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(s.name)}), nil
		},
	}
}

// service is one unit that is to be so.
type service struct {
	patience
	name      string // full
	running   bool
	enabled   *bool // nil: not managed
	masked    *bool // nil: not managed
	restartOn []resources.Address
	reloadOn  []resources.Address

	// loaded is what Apply has seen the unit load, for the proof that follows before there is a record of it.
	loaded *resources.Loaded
	// seen is when what is watched had changed as this run first looked at it.
	seen map[resources.Address]time.Time
}

func newService(p patience, config cty.Value) (*service, error) {
	var c struct {
		Name      string              `attr:"name"`
		Running   bool                `attr:"running"`
		Enabled   bool                `attr:"enabled"`
		Masked    bool                `attr:"masked"`
		RestartOn []resources.Address `attr:"restart_on"`
		ReloadOn  []resources.Address `attr:"reload_on"`
		Ensure    string              `attr:"ensure"`
	}
	if err := resources.Decode(config, &c); err != nil {
		return nil, err
	}
	if err := checkName(c.Name); err != nil {
		return nil, &resources.AttrError{Path: []string{"name"}, Err: err}
	}
	s := &service{patience: p, name: host.UnitName(c.Name), running: c.Running, restartOn: c.RestartOn, reloadOn: c.ReloadOn}
	absent := c.Ensure == resources.Absent
	if written(config, "enabled") || absent {
		s.enabled = &c.Enabled
	}
	if written(config, "masked") {
		s.masked = &c.Masked
	}
	if !written(config, "running") {
		s.running = !c.Masked && !absent
	}
	for attr, on := range map[string]bool{"running": c.Running, "enabled": c.Enabled} {
		switch {
		case on && c.Masked:
			return nil, &resources.AttrError{Path: []string{attr}, Err: fmt.Errorf("a unit cannot be %s and masked; take one of the two out", attr)}
		case on && absent:
			return nil, &resources.AttrError{Path: []string{attr}, Err: fmt.Errorf("a unit cannot be %s and absent; take one of the two out", attr)}
		}
	}
	return s, nil
}

func written(config cty.Value, attr string) bool {
	bare, _ := config.Unmark()
	return !bare.GetAttr(attr).IsNull()
}

// unitName is what systemd.unit(5) allows in a name.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]{1,255}$`)

func checkName(name string) error {
	switch {
	case strings.ContainsAny(name, "*?["):
		return fmt.Errorf("%q is a pattern, and it must be one unit; name the units one by one, with for_each", name)
	case !unitName.MatchString(name):
		return fmt.Errorf("%q is not the name of a unit; write one such as \"nginx\" or \"mastodon-streaming@4000.service\"", name)
	case strings.HasSuffix(strings.TrimSuffix(name, ".service"), "@"):
		return fmt.Errorf("%q is a template; write one of its instances, such as \"mastodon-streaming@4000\"", name)
	}
	return nil
}

// Claims lists nothing: a unit's file belongs to whoever writes it, and two blocks for one unit restart it once.
func (s *service) Claims() []resources.Claim { return nil }

// Watches lists nothing: there is no file to watch.
func (s *service) Watches() []string { return nil }

// triggers are all resources that the unit reads from.
func (s *service) triggers() []resources.Address { return slices.Concat(s.restartOn, s.reloadOn) }
