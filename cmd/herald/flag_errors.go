package main

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/alecthomas/kong"
)

// explainedMapper parses a flag's value as kong does, but its errors say which value the flag wants.
// kong's own errors show Go's types and functions.
type explainedMapper struct {
	kong.Mapper
	want string
}

// Decode implements [kong.Mapper].
func (m explainedMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	given := ctx.Scan.Peek()
	switch err := m.Mapper.Decode(ctx, target); {
	case err == nil:
		return nil
	case given.IsEOL():
		return errors.New("the value is missing: want " + m.want)
	default:
		return fmt.Errorf("%q: want %s", fmt.Sprint(given.Value), m.want)
	}
}

// flagErrors returns the parser's options that explain the errors of flags of Go's basic types.
func flagErrors() []kong.Option {
	defaults := kong.NewRegistry().RegisterDefaults()
	var options []kong.Option
	for _, t := range []struct {
		example any
		want    string
	}{
		{time.Duration(0), "a duration with its unit, such as 500ms, 15s or 10m"},
		{int(0), "a whole number, such as 10"},
		{int32(0), "a whole number up to 2147483647, such as 10"},
		{int64(0), "a whole number, such as 10"},
		{float64(0), "a number, such as 2.5"},
		{"", "a text"},
	} {
		kind := reflect.TypeOf(t.example)
		options = append(options, kong.TypeMapper(kind, explainedMapper{defaults.ForType(kind), t.want}))
	}
	return options
}
