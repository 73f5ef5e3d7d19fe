package resources

import (
	"fmt"
	"io/fs"
	"strconv"

	"github.com/converge-agent/converge/host"
	"github.com/zclconf/go-cty/cty"
)

// Ownership is who may do what with a file or directory, as it is written. Each part may be "": then an existing file keeps
// what it has. A kind embeds it in the struct that it decodes into.
type Ownership struct {
	Owner string `attr:"owner"` // a user's name or number
	Group string `attr:"group"` // a group's name or number
	Mode  string `attr:"mode"`  // octal, as CheckFormat has accepted it
}

// OwnershipAttrs are the attributes that Ownership is decoded from.
func OwnershipAttrs() []Attr {
	return []Attr{
		{Name: "owner", Type: cty.String, Doc: "The user who owns it, by name or number. Not written: an existing one keeps " +
			"its owner, a new one belongs to the user that converge runs as."},
		{Name: "group", Type: cty.String, Doc: "The group that it belongs to, by name or number. Not written: an existing one " +
			"keeps its group, a new one gets the group that converge runs as."},
		{Name: "mode", Type: cty.String, Format: Mode, Doc: "Its permissions in octal, such as \"0640\". Not written: an " +
			"existing one keeps its permissions."},
	}
}

// Fill sets the owner, group and mode of want. What is not written is taken from existing, the file that stands at the path
// (nil, or of another type than want: none does), and else from converge's own user and group and from newMode. It reads the
// host's accounts, so it belongs into a Read. The error of an account that does not exist is a *diag.Error that names it.
func (o Ownership) Fill(want, existing *host.File, users host.Users, newMode fs.FileMode) error {
	want.UID, want.GID = users.Self()
	want.Mode = newMode
	if existing != nil && existing.Type == want.Type {
		want.UID, want.GID, want.Mode = existing.UID, existing.GID, existing.Mode
	}
	var err error
	if o.Owner != "" {
		if want.UID, err = users.UID(o.Owner); err != nil {
			return err
		}
	}
	if o.Group != "" {
		if want.GID, err = users.GID(o.Group); err != nil {
			return err
		}
	}
	if mode, ok := o.WrittenMode(); ok {
		want.Mode = mode
	}
	return nil
}

// WrittenMode returns the mode, and whether one is written. CheckFormat has seen that it is octal.
func (o Ownership) WrittenMode() (fs.FileMode, bool) {
	bits, err := strconv.ParseUint(o.Mode, 8, 32)
	return host.ModeFromBits(uint32(bits)), err == nil
}

// Diffs lists what Fill has made different between before and after, of which one may be nil. An owner or group is shown as
// it is written, and else by its number.
func (o Ownership) Diffs(before, after *host.File) []AttrDiff {
	if before == nil || after == nil || before.Type != after.Type {
		return nil
	}
	var out []AttrDiff
	add := func(name, was, is string) {
		out = append(out, AttrDiff{Name: name, Before: was, After: is})
	}
	if before.UID != after.UID {
		add("owner", strconv.Itoa(before.UID), written(o.Owner, after.UID))
	}
	if before.GID != after.GID {
		add("group", strconv.Itoa(before.GID), written(o.Group, after.GID))
	}
	if before.Mode != after.Mode && after.Type != host.Symlink {
		add("mode", octal(before.Mode), octal(after.Mode))
	}
	return out
}

func written(account string, id int) string {
	if account == "" {
		return strconv.Itoa(id)
	}
	return account
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", host.ModeBits(m)) }
