package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonDecoders holds decoders for later calls of checkJSON.
var jsonDecoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// checkJSON returns an error unless the value is one JSON text of at most [MaxValue] bytes, in UTF-8, in which each name
// is unique in its object: readers of JSON do not agree on the meaning of a name that occurs twice (RFC 8259, section 4).
// A text that is nested deeper than 10,000 levels is refused. The text is returned as it is, without spaces around it.
func checkJSON(value []byte) ([]byte, error) {
	if len(value) > MaxValue {
		return nil, errTooLarge
	}
	text := bytes.Trim(value, " \t\r\n")
	d := jsonDecoders.Get().(*jsontext.Decoder)
	defer func() {
		d.Reset(bytes.NewReader(nil)) // the decoder no longer holds the value
		jsonDecoders.Put(d)
	}()
	d.Reset(bytes.NewBuffer(text))
	if err := d.SkipValue(); err != nil {
		return nil, notJSONError(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the value is more than one JSON text")
	}
	return text, nil
}

var (
	errTooLarge = fmt.Errorf("the value is larger than %d MiB", MaxValue>>20)
	errGrows    = fmt.Errorf("%w, or its text is more than %d times as large", errTooLarge, maxGrowth)
)

// refuseJSON returns the error for a value that checkJSON has refused.
func refuseJSON(schema string, err error) error {
	if errors.Is(err, errTooLarge) {
		return &Error{Reason: ReasonTooLarge, Schema: schema, Err: err}
	}
	return &Error{Reason: ReasonNotJSON, Schema: schema, Err: err}
}

// notJSONError explains an error of jsontext without the parts of the value that it may contain.
func notJSONError(err error) error {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Errorf("the value is not JSON: a name occurs twice in an object, after byte %d", syntactic.ByteOffset)
		}
		return fmt.Errorf("the value is not JSON after byte %d", syntactic.ByteOffset)
	}
	return errors.New("the value is not JSON: it ends too early")
}
