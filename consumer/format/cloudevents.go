package format

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"herald/consumer/batch"
)

// cloudEvents decodes CloudEvents 1.0 in Kafka's binding, in structured mode as JSON and in binary mode. A record that is
// not a CloudEvent passes as it is.
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md.
type cloudEvents struct{}

// attributePrefix begins the headers that hold attributes in binary mode.
const attributePrefix = "ce_"

func (cloudEvents) Ready(*batch.Record, func()) bool { return true }

func (cloudEvents) Decode(r *batch.Record) (Decoded, error) {
	structured, err := isStructured(r)
	var d Decoded
	switch {
	case err != nil:
	case structured:
		text, notJSON := checkJSON(r.Value)
		if notJSON != nil {
			return Decoded{}, refuseJSON("", notJSON)
		}
		d, err = readEvent(text)
	default:
		d, err = decodeBinaryMode(r)
	}
	if err != nil {
		return Decoded{}, &Error{Reason: ReasonNotCloudEvent, Err: err}
	}
	return d, nil
}

// isStructured reports whether the content type of a record says that its value is a CloudEvent as JSON. The error says
// that the value is another thing that begins with application/cloudevents: a batch, or another encoding than JSON.
func isStructured(r *batch.Record) (bool, error) {
	header, ok := contentType(r)
	if !ok || len(header) < len(cloudEventsType) || !strings.EqualFold(string(header[:len(cloudEventsType)]), cloudEventsType) {
		return false, nil
	}
	media, _, err := mime.ParseMediaType(string(header))
	switch {
	case err != nil:
		return false, errors.New("the content type is not valid")
	case media == cloudEventsType+"-batch" || strings.HasPrefix(media, cloudEventsType+"-batch+"):
		return false, errors.New("the value is a batch of CloudEvents; Kafka's binding has no such mode")
	case media != cloudEventsType+"+json" && media != cloudEventsType:
		return false, errors.New("the value is a CloudEvent in another encoding than JSON")
	}
	return true, nil
}

const cloudEventsType = "application/cloudevents"

// contentType returns the last header that is named content-type, in any case.
func contentType(r *batch.Record) ([]byte, bool) {
	for _, h := range slices.Backward(r.Headers) {
		if strings.EqualFold(h.Key, "content-type") {
			return h.Value, true
		}
	}
	return nil, false
}

// decodeBinaryMode finds the attributes of a record among its headers. A record without attributes passes as it is. Of
// several headers with one name, the last counts.
func decodeBinaryMode(r *batch.Record) (Decoded, error) {
	d := Decoded{Value: r.Value}
	var seen map[string]struct{}
	for _, h := range slices.Backward(r.Headers) {
		name, ok := strings.CutPrefix(h.Key, attributePrefix)
		if _, isRepeated := seen[name]; !ok || isRepeated || h.Value == nil || !isAttributeName(name) {
			continue
		}
		if len(seen) == maxAttributes {
			return Decoded{}, errManyAttributes
		}
		if seen == nil {
			seen = make(map[string]struct{})
		}
		seen[name] = struct{}{}
		if name == "type" {
			d.Type = string(h.Value)
		}
		d.Headers = append(d.Headers, h)
	}
	slices.Reverse(d.Headers)
	return d, nil
}

const maxAttributes = 1000 // of an event

var errManyAttributes = fmt.Errorf("the event has more than %d attributes", maxAttributes)

// isAttributeName reports whether CloudEvents allow the name for an attribute: lower-case ASCII letters and digits.
func isAttributeName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// eventReader reads the members of an event in structured mode.
type eventReader struct {
	Decoded
	data        jsontext.Value // nil: the event has none
	dataBase64  jsontext.Value
	contentType string // of the data
	specVersion string
}

// readEvent reads a JSON text that is a CloudEvent.
func readEvent(text []byte) (Decoded, error) {
	if text[0] != '{' {
		return Decoded{}, errors.New("the event is not an object")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	e := eventReader{}
	_, _ = d.ReadToken() // checkJSON has read the text without an error
	for d.PeekKind() == '"' {
		nameText, _ := d.ReadToken()
		name := nameText.String()
		value, err := d.ReadValue()
		if err != nil {
			return Decoded{}, errors.New("the event cannot be read")
		}
		if err := e.add(name, value); err != nil {
			return Decoded{}, err
		}
	}
	if !strings.HasPrefix(e.specVersion, "1.") && e.specVersion != "1" {
		return Decoded{}, errors.New("the event has another specversion than 1.0")
	}
	if e.Type == "" {
		return Decoded{}, errors.New("the event has no type")
	}
	err := e.setValue()
	return e.Decoded, err
}

// add adds a member of the event.
func (e *eventReader) add(name string, value jsontext.Value) error {
	switch {
	case name == "data":
		e.data = value.Clone()
		return nil
	case name == "data_base64":
		e.dataBase64 = value.Clone()
		return nil
	case !isAttributeName(name):
		return errors.New("the event has an attribute whose name is not made of lower-case letters and digits")
	case value.Kind() == '{' || value.Kind() == '[':
		return fmt.Errorf("the attribute %.40s is not a string, a number or a boolean", name)
	case value.Kind() == 'n': // an attribute that is absent, by the JSON format of CloudEvents
		return nil
	case len(e.Headers) == maxAttributes:
		return errManyAttributes
	}
	content := attributeText(value)
	e.Headers = append(e.Headers, batch.Header{Key: attributePrefix + name, Value: content})
	switch name {
	case "type":
		e.Type = string(content)
	case "specversion":
		e.specVersion = string(content)
	case "datacontenttype":
		e.contentType = string(content)
	}
	return nil
}

// attributeText returns the text of an attribute: the content of a string, and other values as they are.
func attributeText(value jsontext.Value) []byte {
	if value.Kind() != '"' {
		return value.Clone()
	}
	content, _ := jsontext.AppendUnquote([]byte{}, value)
	return content
}

// setValue sets the value to the event's data, as the same event has it in binary mode: JSON data as JSON, a text of
// another content type as it is, and binary data as bytes. An event without data has an empty value.
func (e *eventReader) setValue() error {
	switch {
	case e.data != nil && e.dataBase64 != nil:
		return errors.New("the event has data and data_base64")
	case e.dataBase64 != nil:
		if e.dataBase64.Kind() != '"' {
			return errors.New("data_base64 is not a string")
		}
		content, err := base64.StdEncoding.AppendDecode([]byte{}, attributeText(e.dataBase64))
		if err != nil {
			return errors.New("data_base64 is not base64")
		}
		e.Value = content
	case e.data == nil:
		e.Value = []byte{}
	case e.data.Kind() == '"' && !isJSONType(e.contentType):
		e.Value = attributeText(e.data)
	default:
		e.Value = e.data
	}
	return nil
}

// isJSONType reports whether data of this content type is JSON. Without a content type, it is.
func isJSONType(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return true
	}
	_, subtype, _ := strings.Cut(media, "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}
