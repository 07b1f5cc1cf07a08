package main

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"herald/auth/textfile"
	"herald/consumer"
	"herald/consumer/spelling"
)

// verbatimTag marks an argument that is data and not a setting. Every text is allowed in it.
const verbatimTag = "verbatim"

// anycaseTag marks a choice that users may write in capitals and with _ for -, as other programs do: SCRAM_SHA_256.
const anycaseTag = "anycase"

// nonemptyTag marks a name whose default an empty value would not mean: a variable that is empty by mistake must not
// pass for a variable that is not set.
const nonemptyTag = "nonempty"

// checkSettings makes the parser check the text of every flag and argument, from the command line, the
// environment and the configuration file alike.
func checkSettings(model *kong.Application) {
	_ = kong.Visit(model, func(node kong.Visitable, next kong.Next) error { // the function returns no error of its own
		switch v, ok := node.(*kong.Value); {
		case !ok || v.Passthrough:
		case v.Tag.Has(verbatimTag):
			v.Mapper = kong.MapperFunc(decodeVerbatim)
		default:
			v.Mapper = settingMapper{v.Mapper}
		}
		return next(nil)
	})
}

// decodeVerbatim sets a string to the argument. kong's own mapper replaces bytes that are not UTF-8.
func decodeVerbatim(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("value")
	if err == nil {
		target.SetString(token.String())
	}
	return err
}

// settingMapper trims white space around the elements of lists. In all other texts it refuses characters
// that nobody sees: a setting that was copied with a space, or read from a file with a line break, would be
// accepted and match nothing.
type settingMapper struct{ kong.Mapper }

// Decode implements [kong.Mapper].
func (m settingMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	token := ctx.Scan.Peek()
	if ctx.Value.IsBool() && token.Type != kong.FlagValueToken {
		return m.Mapper.Decode(ctx, target) // the next token is not the flag's
	}
	if ctx.Value.IsSlice() {
		return m.decodeList(ctx, target)
	}
	if ctx.Value.Tag.Has(anycaseTag) {
		ctx = withoutCase(ctx)
		token = ctx.Scan.Peek()
	}
	if text, ok := token.Value.(string); ok && token.IsValue() {
		if text == "" && ctx.Value.Tag.Has(nonemptyTag) {
			return errors.New("the name is empty: give one, or leave the setting out")
		}
		if err := checkText(text); err != nil {
			return err
		}
		if err := checkChoice(text, ctx.Value); err != nil {
			return err
		}
	}
	return m.Mapper.Decode(ctx, target)
}

// withoutCase returns the context with the next token in lower case, and with - for _.
func withoutCase(ctx *kong.DecodeContext) *kong.DecodeContext {
	token := ctx.Scan.Peek()
	text, ok := token.Value.(string)
	if !ok || !token.IsValue() {
		return ctx
	}
	ctx.Scan.Pop()
	return ctx.WithScanner(kong.ScanAsType(token.Type, strings.ReplaceAll(strings.ToLower(text), "_", "-")))
}

// checkChoice returns an error for a text that is not one of the flag's values. kong's own error does not say what a
// text in the wrong case was meant for.
func checkChoice(text string, flag *kong.Value) error {
	choices := slices.DeleteFunc(flag.EnumSlice(), func(choice string) bool { return choice == "" })
	if flag.Enum == "" || text == "" || slices.Contains(choices, text) {
		return nil
	}
	return fmt.Errorf("%q: want %s%s", text, strings.Join(choices, " or "), cmp.Or(spelling.Suggest(text, choices), explainMechanism(text)))
}

// decodeList decodes the elements one by one.
func (m settingMapper) decodeList(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("list")
	if err != nil {
		return fmt.Errorf("the value is missing: want %s", ctx.Value.Flag.PlaceHolder)
	}
	elements, err := splitList(token.String(), ctx.Value.Tag.Sep)
	if err != nil {
		return err
	}
	for _, e := range elements {
		one := kong.JoinEscaped([]string{e}, ctx.Value.Tag.Sep)
		err := m.Mapper.Decode(ctx.WithScanner(kong.ScanAsType(token.Type, one)), target)
		if errors.Is(err, consumer.ErrSeveralTopics) {
			return fmt.Errorf("%w; for several topics, repeat --topic or separate them by semicolons", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// splitList returns the elements of a list without the white space around them. In an element, a backslash
// precedes the separator.
func splitList(text string, separator rune) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("the list is empty: give one value or more, or leave the setting out")
	}
	elements := kong.SplitEscaped(text, separator)
	if strings.HasSuffix(text, string(separator)) && !strings.HasSuffix(text, `\`+string(separator)) {
		elements = append(elements, "") // which kong leaves out
	}
	for i, e := range elements {
		e = strings.TrimSpace(e)
		if e == "" {
			return nil, fmt.Errorf("%q has an empty element: want values with one %q between them", text, separator)
		}
		if err := checkText(e); err != nil {
			return nil, fmt.Errorf("%w; %q separates values", err, separator)
		}
		elements[i] = e
	}
	return elements, nil
}

// checkText returns an error for a text that begins or ends with a character that nobody sees, or has a
// control character anywhere.
func checkText(text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%q is not UTF-8", text)
	}
	if err := textfile.CheckEnds(text); err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		inner, _ := utf8.DecodeRuneInString(text[i:])
		return fmt.Errorf("%q contains %s: remove it", text, textfile.CharacterName(inner))
	}
	return nil
}
