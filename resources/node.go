package resources

import "time"

// Node is one resource of an evaluated configuration, ready for the engine.
type Node struct {
	Address Address
	Kind    *Kind
	// Resource is nil where there is nothing to converge: the kind only exports, or Err is set.
	Resource Resource
	// Needs are the addresses that it refers to or names in depends_on. Those that are no node are ignored.
	Needs []Address
	// Config stands for the written configuration, secrets included, by a digest. The engine keys it before keeping it.
	Config string
	// Facts stands for what a block of facts was found to be, by a digest like Config; "" for every other kind, but for one of
	// which the attribute Asked was found (Kind.Find): it stands for that.
	Facts string
	Asked string
	// Timeout bounds each Read and each Apply; 0: nothing does.
	Timeout time.Duration
	// Retry says how often a failed Apply is tried, and with what pause.
	Retry Retry
	// Err is why it could not be evaluated, a missing secret for one. It fails this resource and nothing else.
	Err error
	// Absent says that ensure is "absent": once converged, it leaves nothing on the host.
	Absent bool
	// Where is the place of its block: "site.hcl:12".
	Where string
}

// Retry is how often an Apply that fails is tried in all; 0 means once. Before each further try passes Delay.
type Retry struct {
	Attempts int
	Delay    time.Duration
}
