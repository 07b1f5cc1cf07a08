package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// checkPointer says whether the text is a JSON pointer (RFC 6901, section 3) to a part of a value.
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

// userFinder reads a value once.
type userFinder struct {
	decoder *jsontext.Decoder
	name    []byte
}

var userFinders = sync.Pool{New: func() any { return &userFinder{decoder: new(jsontext.Decoder)} }}

// userIn returns the string that a JSON pointer finds in a value; nil if it finds none, if it is empty,
// or if the value is not one JSON text with each name once in an object (RFC 8259, section 4: readers do
// not agree on what others mean). All of the value is read. What anybody writes costs time in proportion
// to its length, 1 µs for 280 bytes (BenchmarkUserInValue); texts nested deeper than 10,000 are refused.
func userIn(value []byte, pointer string) []byte {
	f := userFinders.Get().(*userFinder)
	defer func() {
		f.decoder.Reset(bytes.NewReader(nil)) // it is not to hold on to the value
		userFinders.Put(f)
	}()
	f.decoder.Reset(bytes.NewBuffer(value))
	user, err := f.find(pointer)
	if err != nil || f.finish() != nil {
		return nil
	}
	return user
}

var errNotFound = errors.New("not found")

func (f *userFinder) find(pointer string) ([]byte, error) {
	for pointer != "" {
		var token string
		token, pointer = cutToken(pointer)
		if err := f.descend(token); err != nil {
			return nil, err
		}
	}
	if f.decoder.PeekKind() != '"' {
		return nil, errNotFound
	}
	text, err := f.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	return jsontext.AppendUnquote(nil, text)
}

// cutToken returns the pointer's first reference token, unescaped, and the pointer behind it.
func cutToken(pointer string) (token, rest string) {
	token, rest = pointer[1:], ""
	if end := strings.IndexByte(token, '/'); end >= 0 {
		token, rest = token[:end], token[end:]
	}
	if strings.Contains(token, "~") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return token, rest
}

// descend goes to the value that the next value has under the token.
func (f *userFinder) descend(token string) error {
	d := f.decoder
	kind := d.PeekKind()
	if kind != '{' && kind != '[' {
		return errNotFound
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
	return errNotFound
}

// finish reads the rest of the value. The error says that it is no JSON.
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
