package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/converge-agent/converge/plans"
	"github.com/spf13/pflag"
)

// control is what of a configuration a run is about, and how it goes about it.
type control struct {
	targets     []string
	parallelism int
	failFast    bool
}

func (c *control) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.targets, "target", nil,
		"only the resource at `ADDRESS`, and all that it needs; without an index all its instances; may be given several times")
	c.parallelism = plans.DefaultParallelism
	f.Var((*width)(&c.parallelism), "parallelism", "how many resources are read at once; they are changed one after the other")
}

// width is a flag of how many at once.
type width int

func (w *width) String() string { return strconv.Itoa(int(*w)) }
func (w *width) Type() string   { return "int" }

func (w *width) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("%q is not a number from 1 to 1000", text)
	}
	*w = width(n)
	return nil
}

// partial says of a plan that it is only about a part of the configuration.
func (t *terminal) partial(p *plans.Plan) {
	if len(p.Targets) > 0 {
		t.printf("Only a part of the configuration: %s, and what is needed for it.\n", strings.Join(p.Targets, ", "))
	}
}
