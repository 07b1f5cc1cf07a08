package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"herald/consumer/spelling"
)

// explainFlag improves kong's error about an unknown flag; it returns other errors unchanged. kong takes -topic for the
// flag -t, and its suggestions know neither that nor a flag that has only the last words of the given one.
func explainFlag(err error, args []string) error {
	given, unknown := strings.CutPrefix(err.Error(), "unknown flag ")
	parsed, ok := errors.AsType[*kong.ParseError](err)
	if !unknown || !ok || parsed.Context == nil {
		return err
	}
	given, _, _ = strings.Cut(given, ", did you mean ")
	var names []string
	for _, f := range parsed.Context.Flags() {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	}
	if strings.HasPrefix(given, "--") {
		for _, name := range names {
			if strings.HasSuffix(given, name[1:]) { // --event-type, where the flag is --type
				return fmt.Errorf("unknown flag %s, did you mean %q?", given, name)
			}
		}
		return err
	}
	if i := slices.IndexFunc(args, func(arg string) bool {
		return strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.Contains(arg, given[1:])
	}); i >= 0 {
		given, _, _ = strings.Cut(args[i], "=")
	}
	advice := ""
	if len(given) > len("-x") {
		advice = spelling.Suggest("-"+given, names)
	}
	if node := parsed.Context.Selected(); advice == "" && node != nil && len(node.Positional) > 0 {
		advice = ": write -- before a value that begins with a dash"
	}
	return fmt.Errorf("unknown flag %s%s", given, advice)
}
