package host

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/diag"
)

// systemUsers looks accounts up in /etc/passwd and /etc/group, and then, since a static program does not load the modules
// of nsswitch.conf(5), with getent(1), which does: for accounts of LDAP or systemd-homed.
type systemUsers struct{}

// SystemUsers returns the accounts of this host.
func SystemUsers() Users { return systemUsers{} }

func (systemUsers) Self() (uid, gid int) { return os.Geteuid(), os.Getegid() }

func (systemUsers) UID(name string) (int, error) {
	if id, ok := number(name); ok {
		return id, nil
	}
	if u, err := user.Lookup(name); err == nil {
		return strconv.Atoi(u.Uid)
	}
	if id, ok := getent("passwd", name); ok {
		return id, nil
	}
	return 0, NoAccount("user", name)
}

func (systemUsers) GID(name string) (int, error) {
	if id, ok := number(name); ok {
		return id, nil
	}
	if g, err := user.LookupGroup(name); err == nil {
		return strconv.Atoi(g.Gid)
	}
	if id, ok := getent("group", name); ok {
		return id, nil
	}
	return 0, NoAccount("group", name)
}

// NoAccount is the failure to find an account; what is "user" or "group".
func NoAccount(what, name string) error {
	return diag.New(fmt.Sprintf("look up the %s %q", what, name), "there is none on this host",
		fmt.Sprintf("Create it (%sadd --system %s), or correct the name.", what, name))
}

// number reads a decimal user or group id. The highest number means "unchanged" to chown(2), and is none.
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n < math.MaxUint32
}

// accountName is what an account may be called (useradd(8), with the capitals and dots that directories use).
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._@-]*\$?$`)

// getent returns the id that the third field of an entry of a database holds.
func getent(database, name string) (int, bool) {
	if !accountName.MatchString(name) {
		return 0, false
	}
	r, err := SystemCommands().Probe(context.Background(), Command{Args: []string{"getent", database, name}})
	if err != nil || r.Code != 0 {
		return 0, false
	}
	fields := strings.Split(string(r.Stdout), ":")
	if len(fields) < 3 {
		return 0, false
	}
	return number(fields[2])
}
