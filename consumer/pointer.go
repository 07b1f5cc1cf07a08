package consumer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// checkPointer returns an error unless the text is a JSON pointer (RFC 6901, section 3) to a part of a value.
// The empty pointer, which points to the whole value, is refused.
func checkPointer(pointer string) error {
	if !strings.HasPrefix(pointer, "/") {
		return fmt.Errorf("JSON pointer %q: it begins with a slash, such as /owner/id", pointer)
	}
	for rest := pointer; ; {
		_, after, found := strings.Cut(rest, "~")
		if !found {
			return nil
		}
		if !strings.HasPrefix(after, "0") && !strings.HasPrefix(after, "1") {
			return fmt.Errorf("JSON pointer %q: ~ is written ~0, and / in a name ~1", pointer)
		}
		rest = after
	}
}

// userFinder finds the user in a value, which it reads once.
type userFinder struct {
	decoder *jsontext.Decoder
	name    []byte
}

var userFinders = sync.Pool{New: func() any { return &userFinder{decoder: new(jsontext.Decoder)} }}

// userInValue returns the string, or the decimal text of the integer, that a JSON pointer points to in a value. It
// returns nil and the reason, such as [ownerlessNoField], if the pointer points to anything else or to an empty string,
// and if the value is not a single JSON text in which each name is unique in its object. Readers of JSON do not agree
// on the meaning of a name that occurs twice (RFC 8259, section 4). With [ownerlessWrongType], found is the type that
// is there.
//
// The whole value is read, in time proportional to its length: 1 µs for 280 bytes (BenchmarkUserInValue). A
// text that is nested deeper than 10,000 levels is refused.
func userInValue(value []byte, pointer string) (user []byte, missing, found string) {
	f := userFinders.Get().(*userFinder)
	defer func() {
		f.decoder.Reset(bytes.NewReader(nil)) // the decoder no longer holds the value
		userFinders.Put(f)
	}()
	f.decoder.Reset(bytes.NewBuffer(value))
	user, err := f.find(jsontext.Pointer(pointer))
	wrong, isWrong := errors.AsType[wrongTypeError](err)
	isJSON := err == nil || isWrong || errors.Is(err, errNoField)
	switch {
	case !isJSON || f.finish() != nil:
		return nil, ownerlessNotJSON, ""
	case isWrong:
		return nil, ownerlessWrongType, string(wrong)
	case err != nil:
		return nil, ownerlessNoField, ""
	case len(user) == 0:
		return nil, ownerlessEmpty, ""
	default:
		return user, "", ""
	}
}

// errNoField says that a JSON pointer points to nothing.
var errNoField = errors.New("no such field")

// wrongTypeError says that a JSON pointer points to a value of this type, which cannot be a name.
type wrongTypeError string

func (e wrongTypeError) Error() string { return "found " + string(e) }

// typeNames has the types of values that cannot be names, by the first byte of the value.
var typeNames = map[jsontext.Kind]string{'n': "null", 't': "true", 'f': "false", '{': "an object", '[': "an array"}

// find returns the name that the pointer points to, and leaves the decoder after it. The name of an integer is its text.
// Another number has several texts, such as 1e3 and 1000.0, and cannot be a name.
func (f *userFinder) find(pointer jsontext.Pointer) ([]byte, error) {
	for token := range pointer.Tokens() {
		if err := f.descend(token); err != nil {
			return nil, err
		}
	}
	kind := f.decoder.PeekKind()
	if wrong, ok := typeNames[kind]; ok {
		return nil, cmp.Or[error](f.decoder.SkipValue(), wrongTypeError(wrong))
	}
	text, err := f.decoder.ReadValue()
	switch {
	case err != nil:
		return nil, err
	case kind == '"':
		return jsontext.AppendUnquote(nil, text)
	case bytes.ContainsAny(text, ".eE") || string(text) == "-0":
		return nil, wrongTypeError("a number that is not an integer in decimal")
	default:
		return bytes.Clone(text), nil
	}
}

// descend moves the decoder into the next value, to the member or element that the token names.
func (f *userFinder) descend(token string) error {
	d := f.decoder
	kind := d.PeekKind()
	if kind != '{' && kind != '[' {
		return cmp.Or(d.SkipValue(), errNoField)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != '}' && d.PeekKind() != ']'; i++ {
		match := kind == '[' && strconv.Itoa(i) == token
		if kind == '{' {
			text, err := d.ReadValue()
			if err != nil {
				return err
			}
			if f.name, err = jsontext.AppendUnquote(f.name[:0], text); err != nil {
				return err
			}
			match = string(f.name) == token
		}
		if match {
			return nil
		}
		if err := d.SkipValue(); err != nil {
			return err
		}
	}
	return errNoField
}

// finish reads the rest of the value. It returns an error if the value is not one JSON text.
func (f *userFinder) finish() error {
	d := f.decoder
	for d.StackDepth() > 0 {
		var err error
		if kind := d.PeekKind(); kind == '}' || kind == ']' {
			_, err = d.ReadToken()
		} else {
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.Join(err, errors.New("more than one text"))
	}
	return nil
}
