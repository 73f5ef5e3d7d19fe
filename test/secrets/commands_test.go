package secrets

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// command is one command of the program, as its own help tells.
type command struct {
	name  string // "completion bash"
	flags []flag
}

type flag struct {
	name  string // "--lock-timeout"
	takes string // the word for its value; "" where it takes none
}

// arguments has every command, with what it needs to do its work: PATH stands for the configuration.
var arguments = map[string][]string{
	"apply":                 {"--auto-approve", "PATH"},
	"completion bash":       {},
	"completion fish":       {},
	"completion powershell": {},
	"completion zsh":        {},
	"disable":               {"mending the database by hand"},
	"enable":                {},
	"help":                  {"apply"},
	"history":               {},
	"plan":                  {"PATH"},
	"rollback":              {"--auto-approve", "2"},
	"show":                  {"2"},
	"validate":              {"PATH"},
	"version":               {},
}

// undone has the commands after which others would do nothing, and what is run to undo that.
var undone = map[string]invocation{"disable": {"enable"}, "rollback": {"enable"}}

const (
	savedPlan = "/root/saved.plan"
	jsonFile  = "/var/log/converge.jsonl" // of --json-out
)

// withSavedPlan are the flags of apply that come with a saved plan; savedPlans (secrets_test.go) tries them.
var withSavedPlan = []string{"--plan", "--partial"}

// together are the flags that change little of what a run shows, and nothing of what the others do: they are tried in one run.
var together = []string{"--detailed-exitcode", "--fail-fast", "--json-out", "--lock-timeout", "--metrics-file", "--parallelism", "--var"}

// telling are the flags that change what is told, and where. They are tried on failures, too; of the others there is nothing
// new to be seen then.
var telling = []string{"--diff", "--json", "--json-out", "--metrics-file", "--out", "--quiet"}

// mayRefuse are the commands that may have nothing to go back to, or to show: a secret that was replaced is not kept, and
// another state directory has other runs.
var mayRefuse = []string{"rollback", "show"}

// flagValues has every flag that takes a value, with one. Flags that take none are tried by themselves.
var flagValues = map[string]string{
	"--for":          "1h",
	"--json-out":     jsonFile,
	"--limit":        "5",
	"--lock-timeout": "1m",
	"--metrics-file": "/var/lib/node_exporter/converge.prom",
	"--out":          savedPlan,
	"--parallelism":  "2",
	"--plan":         savedPlan,
	"--state-dir":    "/var/lib/another",
	"--target":       "file.it",
	"--var":          "plain=nothing",
	"--var-file":     varFile,
}

// invocation is one way to run a command.
type invocation []string

func (i invocation) String() string { return "converge " + strings.Join(i, " ") }

// invocations are a command as it is, and with each of those of its flags that try chooses; with some of them at once.
func (c command) invocations(config string, try func(flag string) bool) []invocation {
	base := append(invocation(strings.Fields(c.name)), arguments[c.name]...)
	for i, a := range base {
		if a == "PATH" {
			base[i] = config
		}
	}
	out := []invocation{base}
	all := slices.Clone(base)
	for _, f := range c.flags {
		if slices.Contains(base, f.name) || c.name == "apply" && slices.Contains(withSavedPlan, f.name) || !try(f.name) {
			continue
		}
		with := []string{f.name}
		if f.takes != "" {
			with = append(with, flagValues[f.name])
		}
		if slices.Contains(together, f.name) {
			all = append(all, with...)
		} else {
			out = append(out, append(slices.Clone(base), with...))
		}
	}
	if len(all) > len(base) {
		out = append(out, all)
	}
	return out
}

func everyFlag(string) bool        { return true }
func tellingFlag(name string) bool { return slices.Contains(telling, name) }

// evaluates reports whether the command reads a configuration.
func (c command) evaluates() bool { return slices.Contains(arguments[c.name], "PATH") }

// unknownCommands says what the tables lack for the program's commands.
func unknownCommands(commands []command) []string {
	var out []string
	known := map[string]bool{}
	for _, c := range commands {
		known[c.name] = true
		if _, ok := arguments[c.name]; !ok {
			out = append(out, fmt.Sprintf("the command %q is not in arguments (commands_test.go): add a line with what it needs to do its work", c.name))
		}
		for _, f := range c.flags {
			if _, ok := flagValues[f.name]; f.takes != "" && !ok {
				out = append(out, fmt.Sprintf("%s of %q is not in flagValues (commands_test.go): add a line with a value (%s)", f.name, c.name, f.takes))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(arguments)) {
		if !known[name] {
			out = append(out, fmt.Sprintf("arguments (commands_test.go) has the command %q, which there is not", name))
		}
	}
	return out
}

var (
	commandsHeading = regexp.MustCompile(`(?m)^.*[Cc]ommands\b.*:$`)
	subcommandLine  = regexp.MustCompile(`(?m)^  ([a-z][\w-]*) +\S`)
	flagLine        = regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[\w-]+)(?: (\S+))?(?:   |$)`)
)

// commandTree asks the program for its commands, by its help.
func commandTree(help func(args ...string) string) []command {
	var out []command
	var walk func(path []string)
	walk = func(path []string) {
		text := help(append([]string{"help"}, path...)...)
		subcommands := ""
		for _, heading := range commandsHeading.FindAllString(text, -1) {
			subcommands += section(text, heading)
		}
		if subcommands == "" {
			c := command{name: strings.Join(path, " ")}
			for _, m := range flagLine.FindAllStringSubmatch(section(text, "Flags:")+section(text, "Global Flags:"), -1) {
				c.flags = append(c.flags, flag{m[1], m[2]})
			}
			out = append(out, c)
			return
		}
		for _, m := range subcommandLine.FindAllStringSubmatch(subcommands, -1) {
			walk(append(slices.Clone(path), m[1]))
		}
	}
	walk(nil)
	return out
}

// section is the part of a help text below a heading, up to the next empty line.
func section(text, heading string) string {
	_, below, found := strings.Cut("\n"+text, "\n"+heading+"\n")
	if !found {
		return ""
	}
	part, _, _ := strings.Cut(below, "\n\n")
	return part + "\n"
}
