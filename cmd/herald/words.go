package main

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/alecthomas/kong"
)

// words says in ours what a flag of some type wants, where kong's are those of Go.
type words struct {
	kong.Mapper
	want string
}

// Decode implements [kong.Mapper].
func (w words) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	given := ctx.Scan.Peek()
	switch err := w.Mapper.Decode(ctx, target); {
	case err == nil:
		return nil
	case given.IsEOL():
		return errors.New("the value is missing: want " + w.want)
	default:
		return fmt.Errorf("%q: want %s", fmt.Sprint(given.Value), w.want)
	}
}

// inOurWords are options for the parser.
func inOurWords() []kong.Option {
	kongs := kong.NewRegistry().RegisterDefaults()
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
		options = append(options, kong.TypeMapper(kind, words{kongs.ForType(kind), t.want}))
	}
	return options
}
