package resources_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/host/hosttest"
	"github.com/converge-agent/converge/resources"
	"github.com/zclconf/go-cty/cty"
)

// owned is a configuration as a kind has it: Ownership is embedded.
type owned struct {
	Path string `attr:"path"`
	resources.Ownership
}

func TestDecodeFillsEmbeddedStructs(t *testing.T) {
	config := cty.ObjectVal(map[string]cty.Value{
		"path": cty.StringVal("/x"), "owner": cty.StringVal("mastodon"), "group": cty.NullVal(cty.String), "mode": cty.StringVal("0640"),
	})
	var got owned
	if err := resources.Decode(config, &got); err != nil {
		t.Fatal(err)
	}
	want := owned{"/x", resources.Ownership{Owner: "mastodon", Mode: "0640"}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFill(t *testing.T) {
	users := hosttest.Users{Users: map[string]int{"mastodon": 991}, Groups: map[string]int{"www": 33}, SelfUID: 7, SelfGID: 8}
	existing := &host.File{Mode: 0o660, UID: 1, GID: 2}
	for name, tc := range map[string]struct {
		o        resources.Ownership
		existing *host.File
		want     host.File
	}{
		"nothing written, new":         {resources.Ownership{}, nil, host.File{Mode: 0o600, UID: 7, GID: 8}},
		"nothing written, existing":    {resources.Ownership{}, existing, host.File{Mode: 0o660, UID: 1, GID: 2}},
		"existing of another type":     {resources.Ownership{}, &host.File{Type: host.Directory, Mode: 0o777, UID: 1}, host.File{Mode: 0o600, UID: 7, GID: 8}},
		"everything written":           {resources.Ownership{Owner: "mastodon", Group: "www", Mode: "4750"}, existing, host.File{Mode: 0o750 | fs.ModeSetuid, UID: 991, GID: 33}},
		"the group alone, by number":   {resources.Ownership{Group: "99"}, existing, host.File{Mode: 0o660, UID: 1, GID: 99}},
		"no permissions for anybody":   {resources.Ownership{Mode: "000"}, existing, host.File{Mode: 0, UID: 1, GID: 2}},
		"root is always an account":    {resources.Ownership{Owner: "root"}, existing, host.File{Mode: 0o660, UID: 0, GID: 2}},
		"zero as a number is an owner": {resources.Ownership{Owner: "0"}, nil, host.File{Mode: 0o600, UID: 0, GID: 8}},
	} {
		var got host.File
		if err := tc.o.Fill(&got, tc.existing, users, 0o600); err != nil || !got.Same(&tc.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tc.want)
		}
	}
	for _, o := range []resources.Ownership{{Owner: "www"}, {Group: "mastodon"}} {
		if err := o.Fill(&host.File{}, nil, users, 0); err == nil || !strings.Contains(err.Error(), o.Owner+o.Group) {
			t.Errorf("%+v: got %v, want an error that names the missing account", o, err)
		}
	}
}

func TestDiffs(t *testing.T) {
	o := resources.Ownership{Owner: "mastodon"}
	before := &host.File{Mode: 0o644, UID: 0, GID: 0}
	after := &host.File{Mode: 0o640, UID: 991, GID: 33}
	want := "[{owner 0 mastodon false false} {group 0 33 false false} {mode 0644 0640 false false}]"
	if got := fmt.Sprint(o.Diffs(before, after)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := o.Diffs(nil, after); got != nil {
		t.Errorf("of a new file: got %v, want none", got)
	}
}
