package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
)

// wrong makes the diagnostic of an error at a place in a file.
func wrong(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(format, args...),
		Subject:  at.Ptr(),
	}
}

// fromError makes the diagnostic of a failure that belongs to no place in a file.
func fromError(summary string, err error) hcl.Diagnostics {
	detail := sentence(err.Error())
	if fix := diag.Fix(err); fix != "" {
		detail += " " + fix
	}
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail}}
}

// sentence gives a text of the error style a capital and a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.ContainsAny(s[len(s)-1:], ".?!…") {
		s += "."
	}
	return s
}

// nearest ends a sentence about a name that nothing has: with the known one that was most likely meant, where there is one.
func nearest(got string, known []string) string {
	if hint := resources.Nearest(got, known); hint != "" {
		return hint
	}
	return "."
}

// place gives a range as "site.hcl:12".
func place(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

// asError puts diagnostics into one line, for where there is no room for snippets.
func asError(diags hcl.Diagnostics) error {
	var lines []string
	for _, d := range unique(diags) {
		if d.Severity != hcl.DiagError {
			continue
		}
		text := d.Summary + ": " + strings.TrimSuffix(strings.Join(strings.Fields(d.Detail), " "), ".")
		if d.Subject != nil {
			text = place(*d.Subject) + ": " + text
		}
		lines = append(lines, text)
	}
	return errors.New(strings.Join(lines, "; "))
}

// unique drops the diagnostics that say the same of the same place, as every instance of a for_each does.
func unique(diags hcl.Diagnostics) hcl.Diagnostics {
	seen := map[string]bool{}
	var out hcl.Diagnostics
	for _, d := range diags {
		key := d.Summary + "\x00" + d.Detail
		if d.Subject != nil {
			key += "\x00" + d.Subject.String()
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return out
}
