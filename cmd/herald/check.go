package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"herald/cmd/herald/visible"
)

// checkCommand has the flags of serve, and starts nothing.
type checkCommand struct {
	serveCommand

	Connect bool `env:"-" help:"Also ask the brokers, the key set's server and the schema registry whether the server will get what it needs. Default: look at settings and files only." group:"Check"`
	All     bool `env:"-" help:"Print settings that have their default value, too. Default: the others only." group:"Check"`
	JSON    bool `env:"-" name:"json" help:"Print JSON. Default: text." group:"Check"`
}

// Help implements kong.HelpProvider.
func (*checkCommand) Help() string {
	return `Example:

    herald check --connect --brokers localhost:9092 --topic notifications --jwt-secret-file secret

The command reads the same flags, environment variables and file of --config as herald serve: in a command line that works, write check for serve. It prints each setting with its value and its origin, and then what it has found, a line for each finding: ok, notice, warning or error. It reads the files that the settings name, and prints no secret.

With --connect, it gets the token or the credentials for the log-in to Kafka, connects to each broker at the address that the cluster advertises, and asks for the topics of --topic, for the rights on topics and consumer groups one by one, for the key set, and whether the schema registry answers. It writes no record, joins no group and commits nothing, so it may run beside a server that works.

A notice is about things that the command cannot judge, such as a port in use or the network, and does not change the exit code.

Exit codes. 0: neither a warning nor an error. 1: the server would start, but not all of it would work, or is safe. 2: the server would not start, because a flag, variable or file is wrong.`
}

// Validate implements kong.Validatable. It leaves to Run what Run can show as a finding.
func (c *checkCommand) Validate() error { return c.complete() }

// Run implements the command.
func (c *checkCommand) Run(ctx context.Context, parsed *kong.Context, file *configFile) error {
	f := &findings{locate: func(err error) error { return file.locate(err, parsed.Model) }}
	cfg := c.checkSettings(ctx, f)
	if c.Connect {
		c.checkKafka(ctx, f, &cfg)
		c.checkKeySet(ctx, f, cfg.Keys)
		c.checkSchemaRegistry(ctx, f, &cfg)
		checkListeners(ctx, f, &cfg)
	}
	answer := checkAnswer{Settings: listSettings(parsed, file, c.All), Findings: f.list, Exit: f.exit()}
	show := printCheck
	if c.JSON {
		show = printCheckJSON
	}
	if err := show(os.Stdout, &answer); err != nil {
		return err
	}
	if answer.Exit != 0 {
		return exitError(answer.Exit)
	}
	return nil
}

// checkAnswer is what the command prints.
type checkAnswer struct {
	Settings []shownSetting `json:"settings"`
	Findings []finding      `json:"findings"`
	Exit     int            `json:"exit"`
}

func printCheckJSON(w io.Writer, answer *checkAnswer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(answer)
}

func printCheck(w io.Writer, answer *checkAnswer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range answer.Settings {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, visible.Text(s.Value), visible.Text(s.From))
	}
	_, _ = fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return err
	}
	for _, one := range answer.Findings {
		if _, err := fmt.Fprintf(w, "%-8s %s\n", one.Level, one.Text); err != nil {
			return err
		}
	}
	return nil
}
