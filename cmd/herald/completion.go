package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints a script for a shell. The scripts are made here from kong's model: the two libraries that do
// it (willabides/kongplete, jotaen/kong-completion) have had no release since 2023 and 2022, and run the program for
// each completion.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell: bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (*completionCommand) Help() string {
	return `Example:

    herald completion bash > /etc/bash_completion.d/herald
    herald completion zsh > "${fpath[1]}/_herald"
    herald completion fish > ~/.config/fish/completions/herald.fish

The script completes commands, flags, the values of flags with a few choices, and names of files.`
}

// Run implements the command.
func (c *completionCommand) Run(parsed *kong.Context) error {
	return writeCompletion(os.Stdout, c.Shell, parsed.Model)
}

// writeCompletion writes the script for the shell.
func writeCompletion(w io.Writer, shell string, model *kong.Application) error {
	out := bufio.NewWriter(w)
	commands := slices.DeleteFunc(slices.Clone(model.Children), func(n *kong.Node) bool { return n.Hidden })
	switch shell {
	case "zsh":
		writeZsh(out, commands)
	case "fish":
		writeFish(out, commands)
	default:
		writeBash(out, commands)
	}
	return out.Flush()
}

// completedFlags returns the flags of a command, without hidden ones.
func completedFlags(n *kong.Node) []*kong.Flag {
	return slices.DeleteFunc(slices.Clone(n.Flags), func(f *kong.Flag) bool { return f.Hidden })
}

// choices returns the values that a flag or an argument can have, or nil.
func choices(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(c string) bool { return c == "" })
}

// takesPath says whether the flag's value is the name of a file or a directory.
func takesPath(f *kong.Flag) bool { return f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR" }

// brief returns the first sentence of a help text, without characters that mean something to a shell.
func brief(help string) string {
	first, _, _ := strings.Cut(strings.Join(strings.Fields(help), " "), ". ")
	return strings.NewReplacer("'", "’", `\`, "", "[", "(", "]", ")", ":", " -", "`", "", "$", "").Replace(strings.TrimSuffix(first, "."))
}

func writeBash(w io.Writer, commands []*kong.Node) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	var names []string
	for _, n := range commands {
		names = append(names, n.Name)
	}
	line("# bash completion for herald; made by herald completion bash")
	line("_herald() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}\n\tCOMPREPLY=()")
	line("\tif ((COMP_CWORD == 1)); then\n\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\t\treturn\n\tfi", strings.Join(names, " "))
	line("\tif [[ $cur == = ]]; then # bash makes = a word of its own\n\t\tcur=\n\telif [[ $prev == = ]]; then\n\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n\tfi")
	line("\tcase $command:$prev in")
	for _, n := range commands {
		for _, f := range completedFlags(n) {
			switch list := choices(f.Value); {
			case list != nil:
				line("\t%s:--%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;", n.Name, f.Name, strings.Join(list, " "))
			case takesPath(f):
				line("\t%s:--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;", n.Name, f.Name)
			case !f.IsBool():
				line("\t%s:--%s) return ;;", n.Name, f.Name)
			}
		}
	}
	line("\tesac\n\tcase $command in")
	for _, n := range commands {
		words := argumentChoices(n)
		for _, f := range completedFlags(n) {
			words = append(words, "--"+f.Name)
		}
		line("\t%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;", n.Name, strings.Join(words, " "))
	}
	line("\tesac\n}\ncomplete -o filenames -F _herald herald")
}

// argumentChoices returns the values that the arguments of a command can have.
func argumentChoices(n *kong.Node) (list []string) {
	for _, p := range n.Positional {
		list = append(list, choices(p)...)
	}
	return list
}

func writeZsh(w io.Writer, commands []*kong.Node) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("#compdef herald\n# made by herald completion zsh\n_herald() {\n\tlocal -a commands=(")
	for _, n := range commands {
		line("\t\t'%s:%s'", n.Name, brief(n.Help))
	}
	line("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi")
	line("\tlocal command=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $command in")
	for _, n := range commands {
		line("\t%s)\n\t\t_arguments \\", n.Name)
		for _, f := range completedFlags(n) {
			repeat := ""
			if f.IsSlice() {
				repeat = "*"
			}
			switch list := choices(f.Value); {
			case f.IsBool():
				line("\t\t\t'--%s[%s]' \\", f.Name, brief(f.Help))
			case list != nil:
				line("\t\t\t'%s--%s=[%s]:value:(%s)' \\", repeat, f.Name, brief(f.Help), strings.Join(list, " "))
			case takesPath(f):
				line("\t\t\t'%s--%s=[%s]:file:_files' \\", repeat, f.Name, brief(f.Help))
			default:
				line("\t\t\t'%s--%s=[%s]:value: ' \\", repeat, f.Name, brief(f.Help))
			}
		}
		line("\t\t\t'*:argument:(%s)'\n\t\t;;", strings.Join(argumentChoices(n), " "))
	}
	line("\tesac\n}\nif [[ $funcstack[1] == _herald ]]; then\n\t_herald \"$@\"\nelse\n\tcompdef _herald herald\nfi")
}

func writeFish(w io.Writer, commands []*kong.Node) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("# fish completion for herald; made by herald completion fish\ncomplete -c herald -f")
	for _, n := range commands {
		line("complete -c herald -n __fish_use_subcommand -a %s -d '%s'", n.Name, brief(n.Help))
		seen := fmt.Sprintf("complete -c herald -n '__fish_seen_subcommand_from %s'", n.Name)
		if list := argumentChoices(n); list != nil {
			line("%s -a '%s'", seen, strings.Join(list, " "))
		}
		for _, f := range completedFlags(n) {
			value := " -x"
			switch list := choices(f.Value); {
			case f.IsBool():
				value = ""
			case list != nil:
				value = fmt.Sprintf(" -x -a '%s'", strings.Join(list, " "))
			case takesPath(f):
				value = " -r -F"
			}
			line("%s -l %s%s -d '%s'", seen, f.Name, value, brief(f.Help))
		}
	}
}
