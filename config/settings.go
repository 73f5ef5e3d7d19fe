package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// Settings returns what gives the variables the same values again in another directory and environment: the texts from the
// environment and those that were given, and the files with absolute paths, in the order of their precedence. The texts of
// sensitive variables are left out; the names of those are returned, sorted.
func (c *Config) Settings(given Variables) (kept Variables, withheld []string, err error) {
	keep := func(name, text string) {
		if v := c.variables[name]; v != nil && v.sensitive {
			withheld = append(withheld, name)
			return
		}
		kept = append(kept, Setting{Assignment: name + "=" + text})
	}
	for _, name := range c.variableNames() {
		if text, ok := c.fromEnvironment(name); ok {
			keep(name, text)
		}
	}
	for _, g := range given {
		if g.File == "" {
			name, text, _ := strings.Cut(g.Assignment, "=")
			keep(name, text)
			continue
		}
		path, err := filepath.Abs(g.File)
		if err != nil {
			return nil, nil, err
		}
		kept = append(kept, Setting{File: path})
	}
	slices.Sort(withheld)
	return kept, slices.Compact(withheld), nil
}

// fromEnvironment returns the text that the environment gives a variable.
func (c *Config) fromEnvironment(name string) (string, bool) {
	if c.loader.Getenv == nil {
		return "", false
	}
	return c.loader.Getenv(EnvPrefix + name)
}
