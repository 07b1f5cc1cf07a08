package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"herald/cmd/herald/visible"
)

// Exit codes.
const (
	exitFailed = 1 // the command was tried and failed
	exitUsage  = 2 // a flag, environment variable or file is wrong
)

type commands struct {
	Dev     devCommand     `cmd:"" help:"Start a broker, the server and the demo page in one process."`
	Serve   serveCommand   `cmd:"" help:"Serve the topics of a Kafka cluster."`
	Check   checkCommand   `cmd:"" help:"Check the configuration of serve, and with --connect what it needs of Kafka."`
	Produce produceCommand `cmd:"" help:"Write one notification to Kafka."`
	Tail    tailCommand    `cmd:"" help:"Follow a stream in the terminal. It resumes after a broken connection."`
	Bench   benchCommand   `cmd:"" help:"Measure a server under load."`
	Token   tokenCommand   `cmd:"" help:"Print a token for development."`
	Revoke  revokeCommand  `cmd:"" help:"Revoke tokens before they expire."`
	Ready   readyCommand   `cmd:"" help:"Say whether a running server is ready, for health checks."`
	ID      idCommand      `cmd:"" name:"id" help:"Explain an event id."`
	Streams streamsCommand `cmd:"" help:"List the open streams of a server, or end some."`
	Version versionCommand `cmd:"" help:"Print the version."`

	Completion completionCommand `cmd:"" help:"Print a script that completes commands and flags in a shell."`

	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`

	Man        manCommand        `cmd:"" name:"man" hidden:""`
	BenchChild benchChildCommand `cmd:"" name:"bench-child" hidden:""`
}

const description = "Streams Kafka records to people over Server-Sent Events."

const firstSteps = `Herald streams Kafka records to people over Server-Sent Events.

  herald dev            try it: broker, server and demo page in one process
  herald serve --help   run it on a Kafka cluster
  herald --help         all commands
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run runs the command in args and returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) == 0 {
		_, _ = io.WriteString(stderr, firstSteps)
		return exitUsage
	}
	parsed, err := parseArgs(ctx, helpArgs(args), new(commands))
	if err != nil {
		printError(stderr, err)
		return exitUsage
	}
	if err := parsed.Run(); err != nil {
		if status, ok := errors.AsType[exitError](err); ok {
			return int(status)
		}
		printError(stderr, err)
		if _, ok := errors.AsType[usageError](err); ok {
			return exitUsage
		}
		return exitFailed
	}
	return 0
}

// helpArgs returns the arguments serve --help for help serve, and other arguments unchanged.
func helpArgs(args []string) []string {
	if args[0] == "help" {
		return slices.Concat(args[1:], []string{"--help"})
	}
	return args
}

// printError prints the error of a command. Its text may have a part of a flag or of a server's answer.
func printError(stderr io.Writer, err error) {
	_, _ = fmt.Fprintln(stderr, "herald:", visible.Lines(err.Error()))
}

// usageError is a mistake in a flag, environment variable or file that the command finds only when it
// runs.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError is an exit code whose reason the command has printed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// parseArgs fills cli from the command line, the environment and the configuration file.
func parseArgs(ctx context.Context, args []string, cli *commands) (*kong.Context, error) {
	file := new(configFile)
	parser := newParser(ctx, cli, file)
	parsed, err := parser.Parse(args)
	if err != nil {
		err = explainFlag(err, args)
	}
	if wrong := checkEnvironment(os.Environ(), parser.Model); wrong != nil {
		err = wrong // a misspelt variable may be the reason for which another setting is missing
	}
	if err != nil {
		return nil, file.locate(err, parser.Model)
	}
	return parsed, nil
}

func newParser(ctx context.Context, cli *commands, file *configFile) *kong.Kong {
	parser := kong.Must(cli, append(flagErrors(),
		kong.Name("herald"), kong.Description(description), kong.Vars{"version": versionLine()}, serverDefaults(),
		kong.DefaultEnvars(envPrefix), kong.Resolvers(file),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(file))...)
	checkSettings(parser.Model)
	return parser
}

// version is set by the linker: see the Makefile.
var version = ""

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run() error {
	_, err := fmt.Println(versionLine())
	return err
}

// versionLine returns the text that the command version and the flag --version print.
func versionLine() string {
	return fmt.Sprintf("herald %s %s %s/%s", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion returns the version that the linker has set or, without one, the version that the go
// command has recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// explainedMapper parses a flag's value as kong does, but its errors say which value the flag wants.
// kong's own errors show Go's types and functions.
type explainedMapper struct {
	kong.Mapper
	want    string
	example string // for flags without a default, and for flags whose default is 0
}

// Decode implements [kong.Mapper].
func (m explainedMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	given := ctx.Scan.Peek()
	err := m.Mapper.Decode(ctx, target)
	if err == nil {
		return nil
	}
	want := m.want
	if m.example != "" {
		example := m.example
		if ctx.Value.HasDefault && ctx.Value.Default != "0" { // 10 is too small for many flags
			example = ctx.Value.Default
		}
		want += ", such as " + example
	}
	if given.IsEOL() {
		return errors.New("the value is missing: want " + want)
	}
	return fmt.Errorf("%q: want %s", fmt.Sprint(given.Value), want)
}

// flagErrors returns the parser's options that explain the errors of flags of Go's basic types.
func flagErrors() []kong.Option {
	defaults := kong.NewRegistry().RegisterDefaults()
	var options []kong.Option
	for _, t := range []struct {
		value   any
		want    string
		example string
	}{
		{time.Duration(0), "a duration with its unit, such as 500ms, 15s or 10m", ""},
		{int(0), "a whole number without a sign or a unit", "10"},
		{int32(0), "a whole number without a sign or a unit, at most 2147483647", "10"},
		{int64(0), "a whole number without a sign or a unit", "10"},
		{float64(0), "a number without a sign or a unit", "2.5"},
		{"", "a text", ""},
	} {
		kind := reflect.TypeOf(t.value)
		options = append(options, kong.TypeMapper(kind, explainedMapper{defaults.ForType(kind), t.want, t.example}))
	}
	return options
}
