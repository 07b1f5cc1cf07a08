package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// manCommand prints the manual page. It is hidden because packages and make man run it, and nobody else.
type manCommand struct{}

// Run implements the command.
func (manCommand) Run(parsed *kong.Context) error { return writeMan(os.Stdout, parsed.Model) }

// writeMan writes the manual page, in the macros of man(7), from the texts that --help prints.
func writeMan(w io.Writer, model *kong.Application) error {
	out := bufio.NewWriter(w)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	line(`.TH HERALD 1 "%s" "herald %s" "Herald"`, manDate(), roff(buildVersion()))
	line(".SH NAME\nherald \\- streams Kafka records to people over Server\\-Sent Events")
	line(".SH SYNOPSIS\n.B herald\n.I command\n.RI [ flag ...]")
	line(".SH COMMANDS")
	for _, node := range model.Children {
		if node.Hidden {
			continue
		}
		line(".SS herald %s", roff(strings.TrimPrefix(node.Summary(), "herald ")))
		line("%s", roff(node.Help))
		writeManText(out, node.Detail)
		for _, f := range node.Flags {
			if f.Hidden || f.Name == "help" || f.Name == "version" {
				continue
			}
			line(".TP\n.B %s\n%s", roff(flagUsage(f)), roff(kong.DefaultHelpValueFormatter(f.Value)))
		}
	}
	line(".SH ENVIRONMENT\nThe variable of a flag, if its help names one, has the flag's name in upper case, with HERALD_ in front and _ in place of \\-. A flag takes precedence over its variable.")
	line(".SH EXIT STATUS\n0: done. 1: the command was tried and failed. 2: a flag, variable or file is wrong.")
	return out.Flush()
}

// flagUsage returns a flag with the placeholder of its value.
func flagUsage(f *kong.Flag) string {
	usage := "--" + f.Name
	if f.Short != 0 {
		usage = "-" + string(f.Short) + ", " + usage
	}
	if f.IsBool() {
		return usage
	}
	return usage + "=" + f.FormatPlaceHolder()
}

// manDate returns the date of the commit that the program was built from.
func manDate() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at.Format(time.DateOnly)
			}
		}
	}
	return "2026-01-01" // of a build without a repository; man(7) wants a date
}

// writeManText writes the long help of a command. Lines that begin with spaces are examples and tables.
func writeManText(w io.Writer, text string) {
	example := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indented := strings.HasPrefix(line, "    ")
		switch {
		case indented && !example:
			_, _ = fmt.Fprintln(w, ".PP\n.EX")
		case line == "" || !example:
		case !indented:
			_, _ = fmt.Fprint(w, ".EE\n.PP\n")
		}
		if line == "" {
			continue
		}
		if !indented && !example {
			_, _ = fmt.Fprintln(w, ".PP")
		}
		_, _ = fmt.Fprintln(w, roff(line))
		example = indented
	}
	if example {
		_, _ = fmt.Fprintln(w, ".EE")
	}
}

// roff escapes a text, which may begin a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", `\(cq`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
