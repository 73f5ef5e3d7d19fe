package secrets

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// place is where a secret was told to be.
type place struct {
	where string // a sink, or its beginning with a * behind
	why   string
	// must says that it has to be found there, once something was applied: so the search and the secret are known to be alive.
	must bool
}

// private is the most that the mode of a file with a secret may be; its group may read it (the app's).
const private fs.FileMode = 0o640

// places has every attribute that may hold a secret, and what is planted on the host. Files have to have a mode within private
// besides.
var places = map[string][]place{
	"object_store.access_key_id": {
		{"request to the store: header Authorization", "a signature names its key (Amazon S3, Signature Version 4)", true},
	},
	"object_store.secret_access_key": nil,
	"s3_bucket.app_credentials.access_key_id": {
		{"request to the store: header Authorization", "the key is tried before the app gets it, and a signature names its key", true},
		{"file /etc/app/app.env", "an env_file is told to set mastodon_env", true},
	},
	"s3_bucket.app_credentials.secret_access_key": {
		{"file /etc/app/app.env", "an env_file is told to set mastodon_env", true},
	},
	"acme_certificate.eab.hmac_key": nil,
	"env_file.set": {
		{"file /home/mastodon/live/.env.production", "the env_file is told to hold it", true},
		{"file /full/.env", "the env_file is told to hold it", false},
	},
	"file.content": {
		{"file /etc/app/secret.txt", "the file is told to hold it", true},
		{"file /full/secret.txt", "the file is told to hold it", false},
	},
	"command.env": {
		{"environment of *", "the program is told to have it", true},
	},
	"http_check.headers": {
		{"request to the target: header Planted", "the request is told to carry it", true},
	},

	"the sensitive variable": {
		{"file /etc/app/variable.txt", "the file is told to hold it", true},
	},
	"host: a line that nginx does not understand": {
		{"file /var/log/nginx/*", "nginx itself says so in its own log, when it is told to reload late", false},
	},
	"host: a line that a unit prints": {
		{"file /var/log/web.log", "the unit itself prints it there", true},
	},
	"host: a line that a failing unit prints": {
		{"file /var/log/broken.log", "the unit itself prints it there", true},
	},
	"host: an unmanaged line of .env.production": {
		{"file /home/mastodon/live/.env.production", "it stood there, and stays", true},
	},
	"host: the source of a file": {
		{"file /etc/app/copy.txt", "source tells the file to hold it", true},
	},
	"host: a line of the instance's own site": {
		{"file /etc/nginx/sites-available/mastodon", "it stood there, and stays", true},
		{"file " + stateDir + "/nginx_location/*", "until nginx has judged the site, what stood there is kept, to put it back", true},
		{"file " + stateDir + "/journal/kept/*", "what stood in a file before is kept for a rollback", true},
		{"file /var/lib/another/journal/kept/*", "the same, in another state directory", false},
	},
}

func (p place) holds(sink string) bool { return fits(p.where, sink) }

// fits reports whether a sink is the one of that name, or begins as a name with a * behind says.
func fits(where, sink string) bool {
	if begin, ok := strings.CutSuffix(where, "*"); ok {
		return strings.HasPrefix(sink, begin)
	}
	return where == sink
}

// ownOnly reports whether a file has mode 0600 whatever it holds: what was kept of other files, and what tells of a host.
func ownOnly(sink string) bool {
	return slices.ContainsFunc([]string{
		"file " + stateDir + "/*", "file /var/lib/another/*", "file " + savedPlan, "file " + jsonFile,
	}, func(where string) bool { return fits(where, sink) })
}

// remedy is what to do about a plant where it must not be.
func remedy(plant, sink string, mode fs.FileMode) string {
	name, _, _ := strings.Cut(plant, " of round ")
	for _, p := range places[name] {
		if p.holds(sink) {
			return fmt.Sprintf("it may stand there, but with mode %04o others can read it", mode)
		}
	}
	return "mend the leak; if it was told to be there, places (places_test.go) says so with the reason"
}
