package format

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// Bounds of a schema, with the schemas that it refers to.
const (
	maxSchemaText     = 1 << 20 // bytes
	maxReferences     = 200
	maxReferenceDepth = 20
)

// loader asks a source for a schema and the schemas that it refers to.
type loader struct{ source Source }

// schemaText is a schema as a registry has it.
type schemaText struct {
	Text       string            `json:"schema"`
	Type       string            `json:"schemaType"` // empty: Avro
	References []schemaReference `json:"references"`
}

// schemaReference names another schema: a type of Avro, or an import of Protobuf.
type schemaReference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// namedText is the text of a schema that another schema refers to by a name.
type namedText struct{ name, text string }

// load returns a schema and its estimated memory in bytes. The error is an [*Error] if the schema cannot be used. It wraps
// [ErrNotFound] if the registry does not have the schema or a schema that it refers to. It is any other error if the
// registry did not answer.
func (l *loader) load(ctx context.Context, key schemaKey) (schema, int, error) {
	path := "/schemas/ids/" + key.String()
	if key.byGUID {
		path = "/schemas/guids/" + key.String()
	}
	main, err := l.get(ctx, path)
	if err != nil {
		return nil, 0, err
	}
	c := collection{loader: l, seen: make(map[string]bool), size: len(main.Text)}
	if main.Type != typeJSON { // a text of JSON Schema is not used
		if err := c.addReferences(ctx, main.References, 0); err != nil {
			return nil, 0, err
		}
	}
	if c.size > maxSchemaText && main.Type != typeJSON {
		return nil, 0, badSchema(errSchemaTooLarge)
	}
	s, err := compileSafely(ctx, main, c.texts)
	if err != nil {
		return nil, 0, badSchema(err)
	}
	return s, schemaCost(c.size), nil
}

// get asks for one schema.
func (l *loader) get(ctx context.Context, path string) (*schemaText, error) {
	body, err := l.source.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	var s schemaText
	if err := json.Unmarshal(body, &s); err != nil || s.Text == "" {
		return nil, errors.New("the answer is not the JSON of a schema registry")
	}
	return &s, nil
}

// schemaCost estimates how much memory a schema of a size takes. Compiled, the text of a Protobuf file takes about ten
// times as much.
func schemaCost(size int) int { return 4<<10 + 16*size }

var errSchemaTooLarge = fmt.Errorf("the schema and its references have more than %d bytes", maxSchemaText)

// badSchema returns the error for a schema that cannot be used. The libraries' errors may have long parts of its text.
func badSchema(err error) *Error {
	return &Error{Reason: ReasonBadSchema, Err: fmt.Errorf("%.300w", err)}
}

// collection collects the schemas that a schema refers to, each after the schemas that it refers to itself.
type collection struct {
	loader *loader
	seen   map[string]bool // by name
	texts  []namedText
	size   int
}

func (c *collection) addReferences(ctx context.Context, references []schemaReference, depth int) error {
	for _, ref := range references {
		if c.seen[ref.Name] {
			continue
		}
		c.seen[ref.Name] = true
		if len(c.seen) > maxReferences || depth == maxReferenceDepth {
			return badSchema(fmt.Errorf("the schema has more than %d references, or they are nested deeper than %d levels", maxReferences, maxReferenceDepth))
		}
		// A schema of a deleted version is still needed for records of its time.
		path := fmt.Sprintf("/subjects/%s/versions/%d?deleted=true", url.PathEscape(ref.Subject), ref.Version)
		s, err := c.loader.get(ctx, path)
		if err != nil {
			return fmt.Errorf("reference %.100q, subject %.100q, version %d: %w", ref.Name, ref.Subject, ref.Version, err)
		}
		if c.size += len(s.Text); c.size > maxSchemaText {
			return badSchema(errSchemaTooLarge)
		}
		if err := c.addReferences(ctx, s.References, depth+1); err != nil {
			return err
		}
		c.texts = append(c.texts, namedText{ref.Name, s.Text})
	}
	return nil
}

// Types of schemas, as a registry names them.
const (
	typeAvro     = "AVRO"
	typeProtobuf = "PROTOBUF"
	typeJSON     = "JSON"
)

// compileSafely makes a schema of its text, and turns a panic into an error.
func compileSafely(ctx context.Context, main *schemaText, references []namedText) (s schema, err error) {
	defer func() {
		if recover() != nil {
			s, err = nil, errors.New("the parser panicked")
		}
	}()
	switch main.Type {
	case "", typeAvro:
		return compileAvro(main.Text, references)
	case typeProtobuf:
		return compileProtobuf(ctx, main.Text, references)
	case typeJSON:
		return jsonSchema{}, nil
	}
	return nil, fmt.Errorf("the type of the schema is %.40q, want AVRO, PROTOBUF or JSON", main.Type)
}

// jsonSchema decodes values of JSON Schema, which are JSON texts. They are not checked against the schema.
type jsonSchema struct{}

func (jsonSchema) decode(f *frame) ([]byte, error) {
	text, err := checkJSON(f.payload)
	if err != nil {
		return nil, refuseJSON("", err)
	}
	return text, nil
}
