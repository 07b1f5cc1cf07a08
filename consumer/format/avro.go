package format

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/twmb/avro"
)

// avroKind says how a node of a schema is encoded.
type avroKind byte

const (
	avroNull avroKind = iota
	avroBoolean
	avroInt
	avroLong
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroFixed
	avroEnum
	avroArray
	avroMap
	avroUnion
	avroRecord
)

// avroKinds has the kinds by the names of types.
var avroKinds = map[string]avroKind{
	"null": avroNull, "boolean": avroBoolean, "int": avroInt, "long": avroLong, "float": avroFloat, "double": avroDouble,
	"bytes": avroBytes, "string": avroString, "fixed": avroFixed, "enum": avroEnum, "array": avroArray, "map": avroMap,
	"union": avroUnion, "record": avroRecord, "error": avroRecord,
}

// avroNode is a part of a schema. A record that contains itself makes a cycle of nodes.
type avroNode struct {
	kind     avroKind
	size     int         // of a fixed
	labels   []string    // as JSON: symbols of an enum; names of a record's fields or of a union's branches, with a colon
	children []*avroNode // of a record, a union, an array or a map
}

// avroSchema decodes values in Avro's binary encoding.
type avroSchema struct{ root *avroNode }

// compileAvro makes a schema of its text. Package avro parses the text and finds its faults. It does not decode the
// values, because it makes maps and slices of them: 1 MiB of records of one byte takes 350 MiB. avroDecoder writes the
// JSON text from the bytes, so that its length bounds memory and time.
func compileAvro(text string, references []namedText) (schema, error) {
	var cache avro.SchemaCache
	for _, ref := range references {
		if _, err := cache.Parse(ref.text); err != nil {
			return nil, fmt.Errorf("the referenced schema %.100q cannot be parsed: %w", ref.name, err)
		}
	}
	parsed, err := cache.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the schema cannot be parsed: %w", err)
	}
	c := avroCompiler{named: make(map[string]*avroNode)}
	root, err := c.compile(parsed.Root(), "")
	if err != nil {
		return nil, err
	}
	return &avroSchema{root: root}, nil
}

// avroCompiler makes nodes of a parsed schema, whose nesting package avro bounds.
type avroCompiler struct {
	named map[string]*avroNode // records, enums and fixeds by their full names
}

// compile makes a node. A name without a namespace belongs to the given one: the namespace of the record around it.
func (c *avroCompiler) compile(s *avro.SchemaNode, namespace string) (*avroNode, error) {
	kind, ok := avroKinds[s.Type]
	if !ok {
		if n := c.find(s.Type, namespace); n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("the schema has no type %.100q", s.Type)
	}
	n := &avroNode{kind: kind, size: s.Size}
	if kind == avroFixed || kind == avroEnum || kind == avroRecord {
		name := fullName(s.Name, s.Namespace)
		c.named[name] = n
		namespace = name[:max(0, strings.LastIndexByte(name, '.'))]
	}
	for _, symbol := range s.Symbols {
		if err := n.addLabel(symbol, ""); err != nil {
			return nil, err
		}
	}
	for i := range s.Fields {
		if err := n.addLabel(s.Fields[i].Name, ":"); err != nil {
			return nil, err
		}
		if err := c.addChild(n, &s.Fields[i].Type, namespace); err != nil {
			return nil, err
		}
	}
	for i := range s.Branches {
		if err := n.addLabel(c.branchName(&s.Branches[i], namespace), ":"); err != nil {
			return nil, err
		}
		if err := c.addChild(n, &s.Branches[i], namespace); err != nil {
			return nil, err
		}
	}
	for _, child := range []*avro.SchemaNode{s.Items, s.Values} {
		if child != nil && (kind == avroArray || kind == avroMap) {
			if err := c.addChild(n, child, namespace); err != nil {
				return nil, err
			}
		}
	}
	if (kind == avroArray || kind == avroMap) && len(n.children) != 1 {
		return nil, errors.New("an array or a map of the schema has no type of its elements")
	}
	return n, nil
}

func (c *avroCompiler) addChild(n *avroNode, s *avro.SchemaNode, namespace string) error {
	child, err := c.compile(s, namespace)
	n.children = append(n.children, child)
	return err
}

// addLabel adds a label of a node: a text as a JSON string, and what comes after it.
func (n *avroNode) addLabel(text, after string) error {
	label, err := jsontext.AppendQuote(nil, text)
	n.labels = append(n.labels, string(label)+after)
	return err
}

// find returns the node of a named type, or nil.
func (c *avroCompiler) find(name, namespace string) *avroNode {
	if n := c.named[fullName(name, namespace)]; n != nil {
		return n
	}
	return c.named[name]
}

// branchName returns the name of a branch in Avro's JSON encoding: the name of its type, or the full name of a record, an
// enum or a fixed.
func (c *avroCompiler) branchName(s *avro.SchemaNode, namespace string) string {
	kind, ok := avroKinds[s.Type]
	switch {
	case !ok && c.named[fullName(s.Type, namespace)] != nil:
		return fullName(s.Type, namespace)
	case ok && (kind == avroFixed || kind == avroEnum || kind == avroRecord):
		return fullName(s.Name, s.Namespace)
	}
	return s.Type
}

// fullName returns the full name of a type, such as com.example.Order.
func fullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}
