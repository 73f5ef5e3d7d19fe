// Package e2e runs converge on whole machines: a host with a Mastodon stand-in, and a host with the object store, the
// certificate authority and the name server that it speaks to. Scenarios are written once, against the interface of
// package machines, and say what they need; the suite prints which ran where.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/converge-agent/converge/test/e2e/machines"
)

var driverName = flag.String("driver", "nspawn", "what makes the machines: nspawn or vagrant")

// driver makes the machines of all scenarios.
var driver machines.Driver

// scenario is one story of a host.
type scenario struct {
	name string
	run  func(*world)
	// provider is the example that is applied: "backblaze-b2" or "minio".
	provider string
	files    int // media that the instance begins with
	// releases are those of Debian that it runs on in containers; virtual machines have one.
	releases []string
	// vms says that it is worth the minutes that virtual machines take. What needs a feature of theirs always is.
	vms   bool
	needs []machines.Feature
}

var (
	debian12 = []string{"bookworm"}
	debian13 = []string{"trixie"}
	both     = []string{"bookworm", "trixie"}
)

var scenarios = []scenario{
	{name: "from fresh to done at Backblaze", run: freshToDone, provider: "backblaze-b2", files: 60, releases: both, vms: true},
	{name: "from fresh to done at MinIO", run: freshToDone, provider: "minio", files: 60, releases: debian13},
	{name: "live migration", run: liveMigration, provider: "backblaze-b2", files: 400, releases: both},
	{name: "timer", run: timerRuns, provider: "backblaze-b2", files: 40, releases: debian12},
	{name: "drift of every kind", run: driftOfEveryKind, provider: "minio", files: 40, releases: both},
	{name: "power cut during the sync", run: powerCutDuringSync, provider: "backblaze-b2", files: 1500, releases: debian12, vms: true},
	{name: "power cuts during apply", run: powerCutsDuringApply, provider: "minio", files: 40, releases: debian13},
	{name: "reboot during apply", run: rebootDuringApply, provider: "backblaze-b2", files: 800, releases: debian13},
	{name: "nginx broken by a neighbour site", run: brokenNeighbour, provider: "backblaze-b2", files: 40, releases: both},
	{name: "store down for the whole run", run: storeDown, provider: "backblaze-b2", files: 40, releases: debian12},
	{name: "network cut during apply", run: networkCut, provider: "minio", files: 1500, releases: debian12},
	{name: "disk full", run: diskFull, provider: "minio", files: 40, releases: debian12},
	{name: "env wiped by an upgrade", run: envWiped, provider: "backblaze-b2", files: 40, releases: debian13},
	{name: "state directory lost", run: stateLost, provider: "backblaze-b2", files: 40, releases: debian12},
	{name: "two runs at once", run: twoRunsAtOnce, provider: "minio", files: 300, releases: debian13},
	{name: "60 and 90 days later", run: monthsLater, provider: "backblaze-b2", files: 40, needs: []machines.Feature{machines.Clock}},
	{name: "reboot into the kernel", run: kernelReboot, provider: "backblaze-b2", files: 40, needs: []machines.Feature{machines.Kernel}},
}

// outcomes is what the suite prints in the end, a line for each scenario.
var outcomes []string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var err error
	switch *driverName {
	case "nspawn":
		driver, err = machines.Nspawn(ctx)
	case "vagrant":
		driver, err = machines.Vagrant(ctx)
	default:
		err = fmt.Errorf("there is no driver %q; there are nspawn and vagrant", *driverName)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, line := range outcomes {
		fmt.Println(line)
	}
	return code
}

func TestScenarios(t *testing.T) {
	for _, s := range scenarios {
		missing := slices.DeleteFunc(slices.Clone(s.needs), driver.Has)
		switch {
		case len(missing) > 0:
			report("elsewhere", s.name, "needs "+strings.Join(names(missing), ", "))
			continue
		case driver.Name() == "vagrant" && !s.vms && s.needs == nil:
			report("elsewhere", s.name, "runs in containers")
			continue
		}
		releases := s.releases
		if driver.Name() == "vagrant" {
			releases = debian12
		}
		for _, release := range releases {
			t.Run(s.name+"/"+release, func(t *testing.T) {
				began := time.Now()
				defer func() {
					outcome := "ok"
					if t.Failed() {
						outcome = "FAILED"
					}
					report(outcome, s.name, fmt.Sprintf("%s, %s, %.0f s", driver.Name(), release, time.Since(began).Seconds()))
				}()
				s.run(newWorld(t, s, release))
			})
		}
	}
}

func report(outcome, name, where string) {
	outcomes = append(outcomes, fmt.Sprintf("  %-10s %-34s %s", outcome, name, where))
}

func names(features []machines.Feature) []string {
	var list []string
	for _, f := range features {
		list = append(list, string(f))
	}
	return list
}
