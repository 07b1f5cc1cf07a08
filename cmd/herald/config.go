package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	yaml "go.yaml.in/yaml/v4"

	"herald/auth/textfile"
	"herald/cmd/herald/tail"
	"herald/consumer/spelling"
)

const (
	envPrefix  = "HERALD"
	configFlag = "config" // the flag that names the configuration file
)

// configFile gives flags the values in the file that --config names. A key of the file is a flag's name.
// The command line and the environment take precedence over the file. configFile implements
// [kong.Resolver].
type configFile struct {
	read   bool
	path   string
	values map[string]setting
	used   map[string]bool // flags that got their value from the file
}

// setting is a flag's value in the file.
type setting struct {
	text string
	line int
}

// configError is a mistake in the form of the file, not in a flag's value.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string { return fmt.Sprintf("--%s %s: %v", configFlag, e.path, e.err) }

func (e *configError) Unwrap() error { return e.err }

// Validate implements [kong.Resolver]. It does nothing: Resolve checks the keys, because it knows the
// command.
func (c *configFile) Validate(*kong.Application) error { return nil }

// Resolve implements [kong.Resolver].
func (c *configFile) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !c.read {
		c.read = true
		if err := c.load(ctx); err != nil {
			return nil, &configError{c.path, err}
		}
	}
	value, ok := c.values[flag.Name]
	if !ok || slices.ContainsFunc(flag.Envs, isSet) {
		return nil, nil //nolint:nilnil // kong's convention for a resolver without a value
	}
	c.used[flag.Name] = true
	return value.text, nil
}

func isSet(variable string) bool {
	_, ok := os.LookupEnv(variable)
	return ok
}

// load reads the file, if the command has the flag --config and the user gave it.
func (c *configFile) load(ctx *kong.Context) error {
	flags := make(map[string]*kong.Flag)
	for _, f := range ctx.Flags() {
		flags[f.Name] = f
	}
	if flags[configFlag] == nil {
		return nil
	}
	c.path, _ = ctx.FlagValue(flags[configFlag]).(string)
	if c.path == "" {
		return nil
	}
	text, err := readConfig(c.path)
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err // configError adds the path
	}
	if err != nil {
		return err
	}
	c.used = make(map[string]bool)
	c.values, err = parseConfig(text, flags, foreignFlags(ctx.Model, flags))
	return err
}

// maxConfig is the size of the largest configuration file, in bytes. Without it, /dev/zero would take all memory.
const maxConfig = 1 << 20

// readConfig reads a configuration file, which may be a pipe.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // the file was only read
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("the file is longer than %d bytes: is it the right file?", maxConfig)
	}
	return text, err
}

// flagInText matches the flag that an error names.
var flagInText = regexp.MustCompile(`--([a-z]+(?:-[a-z]+)*)`)

// locate adds the line of the file to an error about a value that comes from the file.
func (c *configFile) locate(err error, model *kong.Application) error {
	if e, ok := errors.AsType[*configError](err); ok {
		return e // kong would add the flag that it resolved first, which has nothing to do with the error
	}
	text := strings.Replace(err.Error(), "(from envar ", "(environment variable ", 1)
	for _, node := range model.Children {
		text = strings.TrimPrefix(text, node.Name+": ")
	}
	if name := flagInText.FindStringSubmatch(text); name != nil && c.used[name[1]] {
		return fmt.Errorf("--%s %s: line %d: %s", configFlag, c.path, c.values[name[1]].line, text)
	}
	return errors.New(text)
}

// foreignFlags returns the flags that only other commands have, each with its command's name. It looks
// only at commands that can read a configuration file.
func foreignFlags(model *kong.Application, flags map[string]*kong.Flag) map[string]string {
	foreign := make(map[string]string)
	for _, node := range model.Children {
		if !slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == configFlag }) {
			continue
		}
		for _, f := range node.Flags {
			if _, known := foreign[f.Name]; !known && flags[f.Name] == nil { // check has the flags of serve, too
				foreign[f.Name] = node.Name
			}
		}
	}
	return foreign
}

// parseConfig reads one YAML mapping of flags' names to values or lists of values. foreign holds the
// flags of other commands, for errors.
func parseConfig(text []byte, flags map[string]*kong.Flag, foreign map[string]string) (map[string]setting, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil // an empty file
	} else if encoding := textfile.CheckEncoding(text); err != nil && encoding != nil { // YAML allows some byte order marks
		return nil, fmt.Errorf("the file %w", encoding)
	} else if err != nil {
		return nil, fmt.Errorf("%s: want YAML: lines like \"listen: 127.0.0.1:8080\", without tabs, and quotes around a value that has a colon and a space", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want lines like \"listen: 127.0.0.1:8080\"", root.Line)
	}
	var names []string
	for name, f := range flags {
		if name != configFlag && name != "help" && name != "version" && !f.Hidden {
			names = append(names, name)
		}
	}
	values := make(map[string]setting)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		if command, ok := foreign[key.Value]; ok {
			return nil, fmt.Errorf("line %d: %s is a setting of herald %s only", key.Line, key.Value, command)
		}
		if !slices.Contains(names, key.Value) {
			return nil, fmt.Errorf("line %d: unknown key %q%s", key.Line, key.Value, spelling.Suggest(key.Value, names))
		}
		if _, twice := values[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s is given twice", key.Line, key.Value)
		}
		value, err := configValue(node, flags[key.Value])
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", node.Line, key.Value, err)
		}
		values[key.Value] = setting{value, node.Line}
	}
	return values, nil
}

// configValue returns the value as text, in the form that the flag has on the command line.
func configValue(node *yaml.Node, flag *kong.Flag) (string, error) {
	if node.Kind == yaml.ScalarNode && node.Tag != "!!null" {
		return node.Value, nil // kong splits the text of a list as it does on the command line
	}
	if !flag.IsSlice() {
		return "", fmt.Errorf("want one value, such as \"%s: %s\", not %s", flag.Name, cmp.Or(flag.Default, flag.PlaceHolder, "true"), nodeKind(node))
	}
	wrong := func(n *yaml.Node) error {
		return fmt.Errorf("want one value or a list, such as \"%s: [a, b]\", not %s", flag.Name, nodeKind(n))
	}
	if node.Kind != yaml.SequenceNode {
		return "", wrong(node)
	}
	var items []string
	for _, item := range node.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return "", fmt.Errorf("in the list: %w", wrong(item))
		}
		items = append(items, item.Value)
	}
	return kong.JoinEscaped(items, flag.Tag.Sep), nil
}

// nodeKind names the node's kind in YAML's terms.
func nodeKind(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	default:
		return "nothing"
	}
}

// foreignVariables matches variables with our prefix that are not settings. Kubernetes sets some for a
// service called herald or herald-… (kubernetes.io, "Environment variables" of Services); others belong
// to deploy/compose.yaml and to the tests.
var foreignVariables = regexp.MustCompile(`^HERALD_(([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)|IMAGE|KAFKA_IMAGE|TEST_.*|REQUIRE_.*)$`)

// checkEnvironment returns an error for a variable with our prefix that no flag reads. It is probably
// misspelt.
func checkEnvironment(environ []string, model *kong.Application) error {
	known := []string{tail.TokenVariable}
	err := kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			known = append(known, f.Envs...)
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !slices.Contains(known, name) && !foreignVariables.MatchString(name) {
			return fmt.Errorf("unknown environment variable %s%s", name, spelling.Suggest(name, known))
		}
	}
	return nil
}
