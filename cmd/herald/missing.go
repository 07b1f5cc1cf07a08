package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// missing collects the flags and arguments that a command needs and the user has not given, so that one error
// names all of them.
type missing []string

// add adds a flag or an argument, with its purpose and an example in brackets, unless it is given.
func (m *missing) add(given bool, what string) {
	if !given {
		*m = append(*m, what)
	}
}

// err returns nil if nothing is missing.
func (m missing) err() error {
	if len(m) == 0 {
		return nil
	}
	return errors.New("missing: " + strings.Join(m, ", "))
}

// hasArgument says whether the command line has an argument that is not a flag.
func hasArgument(ctx *kong.Context) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Positional != nil })
}
