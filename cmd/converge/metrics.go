package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/host"
	"github.com/converge-agent/converge/plans"
	"github.com/converge-agent/converge/resources"
	"github.com/spf13/pflag"
)

// metricsFile is the file that node_exporter's textfile collector reads (its name must end in .prom); "": none is wanted.
type metricsFile string

func (m *metricsFile) on(f *pflag.FlagSet) {
	f.StringVar((*string)(m), "metrics-file", "", "write metrics of this run to `FILE`, for node_exporter's textfile collector")
}

// The names of what is told of a run.
const (
	lastRunMetric     = "converge_last_run_timestamp_seconds"
	lastOKMetric      = "converge_last_run_success"
	lastSuccessMetric = "converge_last_success_timestamp_seconds"
	durationMetric    = "converge_run_duration_seconds"
	resourcesMetric   = "converge_resources"
	driftMetric       = "converge_drift_resources"
)

// write replaces the file by one of a run that began at start; a nil report is of a run that could not do its work. What
// this run could not find out stays as the last one told it, so that an alert about a certificate works on, and so does the
// time of the last success. A partial run tells of its own resources only: its success must not end an alert about others.
func (m metricsFile) write(r *plans.Report, start time.Time, partial bool) error {
	if m == "" {
		return nil
	}
	path, err := filepath.Abs(string(m))
	if err != nil {
		return err
	}
	files := host.System()
	before, err := files.Lookup(path)
	if err != nil {
		return diag.Wrap(err, "write metrics to "+path, "")
	}
	if before != nil && before.Type != host.Regular {
		return diag.New("write metrics to "+path, fmt.Sprintf("a %s stands there", before.Type), "Name a file in node_exporter's textfile directory.")
	}
	if before != nil && !isMetrics(string(before.Content)) {
		return diag.New("write metrics to "+path, "something other than metrics stands there", "Name another file, or remove that one by hand.")
	}
	s := samples{}
	if before != nil {
		s = parseSamples(string(before.Content))
	}
	if partial {
		s.takeResources(r)
	} else {
		s.take(r, start, time.Now())
	}
	uid, gid := host.SystemUsers().Self()
	after := &host.File{Content: []byte(s.String()), Mode: 0o644, UID: uid, GID: gid}
	return diag.Wrap(files.Commit(context.Background(), host.Edit{Path: path, Before: before, After: after}), "write metrics", "")
}

// samples are metrics by name.
type samples map[string]*family

type family struct {
	help   string
	values map[string]string // by labels, as written
}

func (s samples) set(name, help, labels string, value float64) {
	f := s[name]
	if f == nil {
		f = &family{values: map[string]string{}}
		s[name] = f
	}
	f.help = help
	f.values[labels] = strconv.FormatFloat(value, 'f', -1, 64)
}

// take puts a run into the samples.
func (s samples) take(r *plans.Report, start, end time.Time) {
	ok := r != nil && r.Count(plans.Failed, plans.Skipped) == 0
	s.set(lastRunMetric, "When the last run ended.", "", float64(end.Unix()))
	s.set(lastOKMetric, "Whether the last run ended without a failure.", "", map[bool]float64{true: 1}[ok])
	s.set(durationMetric, "How long the last run took.", "", seconds(end.Sub(start)))
	if ok {
		s.set(lastSuccessMetric, "When the last run ended that had no failure.", "", float64(end.Unix()))
	}
	if r == nil {
		return
	}
	drift := 0
	for _, o := range plans.Outcomes() {
		n := r.Count(o)
		if o == plans.Unchanged {
			n = unchanged(r)
		}
		s.set(resourcesMetric, "Resources by how they ended in the last run.", labelText("outcome", word(o.String()), nil), float64(n))
	}
	addresses := map[string]bool{}
	for _, res := range r.Results {
		if drifted(res.Item) {
			drift++
		}
		addresses[res.Item.Node.Address.String()] = true
	}
	s.set(driftMetric, "Resources that somebody had changed before the last run.", "", float64(drift))
	s.forget(addresses)
	s.takeResources(r)
}

// takeResources puts what the resources of a run tell of themselves into the samples.
func (s samples) takeResources(r *plans.Report) {
	if r == nil {
		return
	}
	for _, res := range r.Results {
		s.replace(res.Item.Node.Address.String(), res.Metrics)
	}
}

// addressLabel finds the resource that a sample is of.
var addressLabel = regexp.MustCompile(`^\{address="((?:[^"\\]|\\.)*)"`)

// forget drops the samples of resources that are no more.
func (s samples) forget(stay map[string]bool) {
	escaped := map[string]bool{}
	for addr := range stay {
		escaped[labelValue.Replace(addr)] = true
	}
	s.dropWhere(func(addr string) bool { return !escaped[addr] })
}

func (s samples) dropWhere(drop func(address string) bool) {
	for name, f := range s {
		maps.DeleteFunc(f.values, func(labels, _ string) bool {
			m := addressLabel.FindStringSubmatch(labels)
			return m != nil && drop(m[1])
		})
		if len(f.values) == 0 {
			delete(s, name)
		}
	}
}

// replace puts the samples of a resource that was read in the place of the old ones.
func (s samples) replace(address string, metrics []resources.Metric) {
	if len(metrics) == 0 {
		return
	}
	s.dropWhere(func(addr string) bool { return addr == labelValue.Replace(address) })
	for _, m := range metrics {
		s.set(m.Name, m.Help, labelText("address", address, m.Labels), m.Value)
	}
}

var (
	labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helpText   = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// labelText writes labels, the first one first.
func labelText(name, value string, more map[string]string) string {
	parts := []string{name + `="` + labelValue.Replace(value) + `"`}
	for _, n := range slices.Sorted(maps.Keys(more)) {
		parts = append(parts, n+`="`+labelValue.Replace(more[n])+`"`)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// String is the text format of Prometheus, version 0.0.4.
func (s samples) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		f := s[name]
		_, _ = fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, helpText.Replace(f.help), name)
		for _, labels := range slices.SortedFunc(maps.Keys(f.values), cmp.Compare[string]) {
			_, _ = fmt.Fprintf(&b, "%s%s %s\n", name, labels, f.values[labels])
		}
	}
	return b.String()
}

var (
	helpLine   = regexp.MustCompile(`^# HELP (converge_[a-z_]+) (.*)$`)
	sampleLine = regexp.MustCompile(`^(converge_[a-z_]+)(\{.*\})? ([0-9.eE+-]+)$`)
)

// isMetrics reports whether a file may be replaced: it is empty, or begins as what String wrote does.
func isMetrics(text string) bool { return text == "" || strings.HasPrefix(text, "# HELP converge_") }

// parseSamples reads what String wrote. Other lines are dropped.
func parseSamples(text string) samples {
	s, help := samples{}, map[string]string{}
	unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := helpLine.FindStringSubmatch(line); m != nil {
			help[m[1]] = unescape.Replace(m[2])
		}
		if m := sampleLine.FindStringSubmatch(line); m != nil {
			if v, err := strconv.ParseFloat(m[3], 64); err == nil {
				s.set(m[1], help[m[1]], m[2], v)
			}
		}
	}
	return s
}
