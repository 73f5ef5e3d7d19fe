package config

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are the functions of the language. Those that read secrets are made for each evaluation, see secretSource.
type functions struct {
	plain map[string]function.Function
}

// secretFunctions are the names of those whose results are secret.
var secretFunctions = []string{"env", "credential", "secret_file", "dotenv"}

func (f functions) has(name string) bool {
	_, ok := f.plain[name]
	return ok || slices.Contains(secretFunctions, name)
}

func (f functions) names() []string { return append(f.plainNames(), secretFunctions...) }

func (f functions) plainNames() []string { return slices.Sorted(maps.Keys(f.plain)) }

// plainFunctions returns the functions that only compute, or read files of the configuration. Names and meanings are those
// of Terraform ("Functions - Configuration Language").
//
// Secrets are marked value by value. merge, concat, lookup, values, flatten, tomap, tolist, coalesce, conditions between
// whole maps and for expressions keep that. All others mark their whole result, as do a for expression whose condition or
// key is secret, and toset, for a set cannot hold marked elements.
func (c *Config) plainFunctions() functions {
	all := map[string]function.Function{
		"basename":   textFunction(path.Base),
		"compact":    stdlib.CompactFunc,
		"concat":     stdlib.ConcatFunc,
		"contains":   stdlib.ContainsFunc,
		"dirname":    textFunction(path.Dir),
		"distinct":   stdlib.DistinctFunc,
		"endswith":   textTest("suffix", strings.HasSuffix),
		"file":       c.fileFunction(),
		"flatten":    stdlib.FlattenFunc,
		"format":     stdlib.FormatFunc,
		"join":       stdlib.JoinFunc,
		"jsondecode": stdlib.JSONDecodeFunc,
		"jsonencode": stdlib.JSONEncodeFunc,
		"keys":       stdlib.KeysFunc,
		"length":     lengthFunction,
		"lookup":     stdlib.LookupFunc,
		"lower":      stdlib.LowerFunc,
		"max":        stdlib.MaxFunc,
		"merge":      stdlib.MergeFunc,
		"min":        stdlib.MinFunc,
		"regex":      stdlib.RegexFunc,
		"regexall":   stdlib.RegexAllFunc,
		"replace":    replaceFunction,
		"split":      stdlib.SplitFunc,
		"startswith": textTest("prefix", strings.HasPrefix),
		"substr":     stdlib.SubstrFunc,
		"tobool":     conversion(cty.Bool),
		"tolist":     conversion(cty.List(cty.DynamicPseudoType)),
		"tomap":      conversion(cty.Map(cty.DynamicPseudoType)),
		"tonumber":   conversion(cty.Number),
		"toset":      conversion(cty.Set(cty.DynamicPseudoType)),
		"tostring":   conversion(cty.String),
		"trimprefix": stdlib.TrimPrefixFunc,
		"trimspace":  stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc,
		"upper":      stdlib.UpperFunc,
		"values":     stdlib.ValuesFunc,
	}
	for name, f := range all {
		all[name] = guarded(f)
	}
	all["coalesce"] = coalesceFunction
	all["nonsensitive"] = nonsensitiveFunction
	all["sensitive"] = sensitiveFunction
	all["templatefile"] = c.templateFunction(maps.Clone(all))
	return functions{plain: all}
}
