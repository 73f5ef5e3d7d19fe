// Package config reads the language: HCL files in, the nodes of the engine out. It works in three steps, each of which
// tells everything that is wrong at once. Load parses and checks what can be seen without evaluating anything. Validate
// evaluates with every fact and every secret unknown, so it needs neither the host nor a right to read anything. Evaluate
// reads facts and secrets; what fails there fails the resources that use it, and nothing else.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/converge-agent/converge/diag"
	"github.com/converge-agent/converge/resources"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/spf13/afero"
)

// Loader reads configurations.
type Loader struct {
	// Kinds are the kinds of blocks that there are.
	Kinds []*resources.Kind
	// Files is where the configuration, files of variables, and the files of file() and templatefile() are. Secrets are
	// read from the host instead: see Config.Evaluate.
	Files afero.Fs
	// Getenv is os.LookupEnv, for CONVERGE_VAR_name and env().
	Getenv func(string) (string, bool)
	// CredentialDirs is where credential() looks, in this order: $CREDENTIALS_DIRECTORY where systemd set one, then
	// /etc/credstore (systemd.exec(5), LoadCredential=). The advice for a missing one names that below /etc.
	CredentialDirs []string
	// Dotenv parses the file of dotenv().
	Dotenv func([]byte) map[string]string
}

// Config is a loaded configuration.
type Config struct {
	loader *Loader
	dir    string // what file() is relative to
	files  map[string]*hcl.File
	kinds  map[string]*resources.Kind

	variables map[string]*variable
	units     map[string]*unit
	locals    []*unit // in the order of the files, as are blocks
	blocks    []*unit
	order     []*unit // each after those that it refers to

	lost      map[string]bool // the types of blocks that were reported and not taken in
	functions functions
	broken    map[hclsyntax.Expression]bool // what was reported already and is not to be evaluated
	failed    bool                          // Load found errors
	unmanaged []resources.Address           // by the last Evaluate
}

// Sources returns the files by the names that diagnostics use, for hcl.NewDiagnosticTextWriter. Files of variables are
// left out: a snippet of one could show a secret.
func (c *Config) Sources() map[string]*hcl.File { return c.files }

// Load reads the file at path, or the *.hcl files directly in the directory at path in the order of their names, and
// checks all that needs no evaluation: syntax, kinds, labels, attribute names, references, cycles, and the values of the
// variables. The Config is never nil; after errors it serves for Sources, and for Validate to find what else is wrong.
func (l *Loader) Load(path string, given Variables) (*Config, hcl.Diagnostics) {
	c := &Config{
		loader:    l,
		files:     map[string]*hcl.File{},
		kinds:     map[string]*resources.Kind{},
		variables: map[string]*variable{},
		units:     map[string]*unit{},
		lost:      map[string]bool{},
		broken:    map[hclsyntax.Expression]bool{},
	}
	for _, k := range l.Kinds {
		c.kinds[k.Name] = k
	}
	diags := c.load(path, given)
	c.failed = diags.HasErrors()
	return c, diags
}

func (c *Config) load(path string, given Variables) hcl.Diagnostics {
	names, dir, err := c.find(path)
	if err != nil {
		return fromError("Cannot read the configuration", err)
	}
	c.dir = dir
	c.functions = c.plainFunctions()

	var diags hcl.Diagnostics
	for _, name := range names {
		diags = append(diags, c.parse(name)...)
	}
	if diags.HasErrors() {
		return diags // half a file would only look like many unknown names
	}
	for _, name := range names {
		diags = append(diags, c.declare(c.files[name].Body.(*hclsyntax.Body))...)
	}
	diags = append(diags, c.setVariables(given)...)
	diags = append(diags, c.checkReferences()...)
	return append(diags, c.sort()...)
}

// find returns the names of the files to read, as diagnostics show them, and their directory.
func (c *Config) find(path string) (names []string, dir string, err error) {
	info, err := c.loader.Files.Stat(path)
	if err != nil {
		return nil, "", diag.Wrap(pathError(err), "read "+path, "Name a *.hcl file, or a directory that holds some.")
	}
	if !info.IsDir() {
		return []string{path}, filepath.Dir(path), nil
	}
	entries, err := afero.ReadDir(c.loader.Files, path)
	if err != nil {
		return nil, "", diag.Wrap(pathError(err), "list "+path, "Check the rights of the directory.")
	}
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".hcl") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, "", diag.New("read "+path, "there is no *.hcl file in it",
			"Write one there, or name another directory.")
	}
	slices.Sort(names)
	return names, path, nil
}

func (c *Config) parse(name string) hcl.Diagnostics {
	src, err := c.readFile(name)
	if err != nil {
		return fromError("Cannot read the configuration", err)
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if file != nil {
		c.files[name] = file
	}
	if more := len(diags) - maxSyntaxErrors; more > 0 {
		diags = append(diags[:maxSyntaxErrors], &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "More of the same",
			Detail: fmt.Sprintf("There are %d more in %s. Is it a configuration at all?", more, name)})
	}
	return diags
}

// maxSyntaxErrors is how many errors of syntax are told of one file. A binary file has one at every byte.
const maxSyntaxErrors = 20

// maxSource is the size in bytes of the largest file that is read as a part of a configuration.
const maxSource = 4 << 20

// readFile reads a regular file of the configuration.
func (c *Config) readFile(name string) ([]byte, error) {
	info, err := c.loader.Files.Stat(name)
	if err != nil {
		return nil, diag.Wrap(pathError(err), "read "+name, "Check the path.")
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, diag.New("read "+name, "it is not a regular file", "Name a file.")
	case info.Size() > maxSource:
		return nil, diag.New("read "+name, "it is larger than 4 MiB", "Name a text file that is part of a configuration.")
	}
	src, err := afero.ReadFile(c.loader.Files, name)
	if err != nil {
		return nil, diag.Wrap(pathError(err), "read "+name, "Check its owner and mode.")
	}
	return src, nil
}

// pathError takes the operation and the path off an error of the file system; the caller says both.
func pathError(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
