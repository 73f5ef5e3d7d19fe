// Package all is the one list of kinds.
package all

import (
	"github.com/converge-agent/converge/acme"
	"github.com/converge-agent/converge/objectstore"
	"github.com/converge-agent/converge/resources"
	"github.com/converge-agent/converge/resources/acmecertificate"
	"github.com/converge-agent/converge/resources/command"
	"github.com/converge-agent/converge/resources/directory"
	"github.com/converge-agent/converge/resources/envfile"
	"github.com/converge-agent/converge/resources/file"
	"github.com/converge-agent/converge/resources/httpcheck"
	"github.com/converge-agent/converge/resources/mastodoninstance"
	"github.com/converge-agent/converge/resources/nginxlocation"
	"github.com/converge-agent/converge/resources/nginxsite"
	"github.com/converge-agent/converge/resources/s3bucket"
	"github.com/converge-agent/converge/resources/s3sync"
	"github.com/converge-agent/converge/resources/store"
	"github.com/converge-agent/converge/resources/symlink"
	"github.com/converge-agent/converge/resources/systemdservice"
	"github.com/converge-agent/converge/resources/wait"
)

// Deps are what kinds share within one run.
type Deps struct {
	// Stores are the clients of the object stores, so that pacing and counting are per store.
	Stores *objectstore.Clients
	// Endpoints finds the endpoints that only a provider can tell.
	Endpoints *objectstore.Endpoints
	// Issuer gets certificates.
	Issuer acme.Issuer
}

// Kinds returns every kind, in the order of the reference. They may be made without Deps to be described or validated.
func Kinds(d Deps) []*resources.Kind {
	return []*resources.Kind{
		mastodoninstance.Kind(),
		store.Kind(d.Endpoints),
		s3bucket.Kind(d.Stores),
		s3sync.Kind(d.Stores),
		acmecertificate.Kind(d.Issuer),
		nginxsite.Kind(),
		nginxlocation.Kind(),
		envfile.Kind(),
		systemdservice.Kind(),
		file.Kind(),
		directory.Kind(),
		symlink.Kind(),
		command.Kind(),
		httpcheck.Kind(),
		wait.Kind(),
	}
}
