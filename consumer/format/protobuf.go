package format

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// protobufSchema decodes values in Protobuf's binary encoding.
type protobufSchema struct {
	file     protoreflect.FileDescriptor
	types    *dynamicpb.Types // of the file and its imports, for extensions and for values of type Any
	mayBeAny bool             // a value may have parts of type Any
}

// mainPath is the path of the schema itself, in errors too.
const mainPath = "(schema)"

// compileTimeout bounds the time for a schema. 1 MiB of a schema takes 1 s.
const compileTimeout = 10 * time.Second

// compileProtobuf makes a schema of its text and the texts that it imports.
func compileProtobuf(ctx context.Context, text string, references []namedText) (schema, error) {
	sources := protobufSources{mainPath: text}
	for _, ref := range references {
		sources[ref.name] = ref.text
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(sources), MaxParallelism: 1}
	ctx, stop := context.WithTimeout(ctx, compileTimeout)
	defer stop()
	files, err := compiler.Compile(ctx, mainPath)
	if err != nil {
		return nil, fmt.Errorf("the schema cannot be compiled: %w", err)
	}
	s := &protobufSchema{file: files[0]}
	var registered protoregistry.Files
	if err := s.register(&registered, s.file); err != nil {
		return nil, err
	}
	for _, path := range wellKnown {
		if file, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
			_ = s.register(&registered, file) // a schema that defines one of them itself has its own
		}
	}
	s.types = dynamicpb.NewTypes(&registered)
	return s, nil
}

// register registers a file and its imports.
func (s *protobufSchema) register(files *protoregistry.Files, file protoreflect.FileDescriptor) error {
	if _, err := files.FindFileByPath(file.Path()); err == nil {
		return nil
	}
	if file.Messages().ByName("Any") != nil && file.Package() == "google.protobuf" {
		s.mayBeAny = true
	}
	for i := range file.Imports().Len() {
		if err := s.register(files, file.Imports().Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	if err := files.RegisterFile(file); err != nil {
		return fmt.Errorf("the schema has a name twice: %w", err)
	}
	return nil
}

// protobufSources has the texts of files by their paths. Its FindFileByPath implements protocompile.Resolver.
type protobufSources map[string]string

func (s protobufSources) FindFileByPath(path string) (protocompile.SearchResult, error) {
	text, ok := s[path]
	if file, err := protoregistry.GlobalFiles.FindFileByPath(path); isBuiltIn(path) && err == nil {
		return protocompile.SearchResult{Desc: file}, nil
	}
	if builtIn := confluentFiles[path]; !ok && builtIn != "" {
		text, ok = builtIn, true
	}
	if !ok {
		return protocompile.SearchResult{}, protoregistry.NotFound
	}
	if encoded, err := base64.StdEncoding.DecodeString(text); err == nil {
		return parseDescriptor(path, encoded)
	}
	if err := checkNesting(text); err != nil {
		return protocompile.SearchResult{}, err
	}
	return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
}

// parseDescriptor parses a schema in its compiled form, a FileDescriptorProto. Python's serializer registers schemas in
// this form, and Apicurio returns schemas as they were registered. A text of Protobuf's language is never valid base64.
func parseDescriptor(path string, encoded []byte) (protocompile.SearchResult, error) {
	var file descriptorpb.FileDescriptorProto
	if err := (proto.UnmarshalOptions{RecursionLimit: maxMessageDepth}).Unmarshal(encoded, &file); err != nil {
		return protocompile.SearchResult{}, errors.New("the schema is base64, but not of a file descriptor")
	}
	file.Name = &path
	setNames(file.GetMessageType(), file.GetExtension())
	return protocompile.SearchResult{Proto: &file}, nil
}

// setNames sets the JSON names of fields that have none: serializers leave out the name that follows from the field's.
func setNames(messages []*descriptorpb.DescriptorProto, fields []*descriptorpb.FieldDescriptorProto) {
	for _, field := range fields {
		if field.JsonName == nil {
			field.JsonName = new(jsonName(field.GetName()))
		}
	}
	for _, m := range messages {
		setNames(m.GetNestedType(), m.GetField())
		setNames(nil, m.GetExtension())
	}
}

// jsonName returns the name of a field in JSON: without underscores, with a capital letter after each.
func jsonName(name string) string {
	var b strings.Builder
	isAfterUnderscore := false
	for i := range len(name) {
		c := name[i]
		if isAfterUnderscore && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if isAfterUnderscore = c == '_'; !isAfterUnderscore {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decode decodes a value into Protobuf's JSON: https://protobuf.dev/programming-guides/json/.
func (s *protobufSchema) decode(f *frame) ([]byte, error) {
	if len(f.payload) > MaxValue {
		return nil, errTooLarge
	}
	message, payload, err := s.findMessage(f)
	if err != nil {
		return nil, err
	}
	w := protobufWeight{types: s.types, left: min(maxWeight, minMaxWeight+weightGrowth*len(payload))}
	if err := w.weigh(message, payload, 0); err != nil {
		return nil, err
	}
	value := dynamicpb.NewMessage(message)
	if err := s.unmarshal(value, payload); err != nil {
		return nil, errMismatch
	}
	if s.mayBeAny {
		if err := s.checkAny(value, &w, 0); err != nil {
			return nil, err
		}
	}
	text, err := protojson.MarshalOptions{Resolver: s.types}.Marshal(value)
	if err != nil {
		return nil, errNoJSON
	}
	if len(text) > MaxValue {
		return nil, errTooLarge
	}
	// protojson writes spaces at places that differ from build to build. Names are checked here, too: the names of fields
	// may collide.
	if err := (*jsontext.Value)(&text).Compact(jsontext.AllowDuplicateNames(false)); err != nil {
		return nil, errNoJSON
	}
	return text, nil
}

func (s *protobufSchema) unmarshal(value proto.Message, payload []byte) error {
	return proto.UnmarshalOptions{Resolver: s.types, DiscardUnknown: true, RecursionLimit: maxMessageDepth + 1}.Unmarshal(payload, value)
}

var (
	errIndexes = errors.New("the value names a message that the schema does not have")
	errNoJSON  = errors.New("the value has no JSON encoding: a part of a type of google.protobuf is out of its range, or an Any has a type that the schema does not import")
)

// findMessage reads the message indexes of a value: the place of its type in the schema. It returns the type, and the
// value after the indexes.
//
// A map field makes a message that the text of the schema does not show. Confluent's Java serializer does not count these
// messages; its other serializers do. If it makes a difference, the value belongs to the first type whose fields it has.
func (s *protobufSchema) findMessage(f *frame) (protoreflect.MessageDescriptor, []byte, error) {
	indexes, payload, ok := readIndexes(f.payload)
	if f.prefix != nil { // newer serializers write the indexes into the header
		indexes, _, ok = readIndexes(f.prefix)
		payload = f.payload
	}
	if !ok {
		return nil, nil, errIndexes
	}
	message, other := s.messageAt(indexes, true), s.messageAt(indexes, false)
	if message == nil || message.IsMapEntry() || other != nil && other != message && !hasFields(message, payload) && hasFields(other, payload) {
		message = other
	}
	if message == nil {
		return nil, nil, errIndexes
	}
	return message, payload, nil
}

// messageAt returns the message that indexes name, or nil. countsMaps says whether they count the messages of maps.
func (s *protobufSchema) messageAt(indexes []int64, countsMaps bool) (message protoreflect.MessageDescriptor) {
	messages := s.file.Messages()
	for _, i := range indexes {
		message = nil
		for at := 0; at < messages.Len() && message == nil; at++ {
			if m := messages.Get(at); countsMaps || !m.IsMapEntry() {
				if i == 0 {
					message = m
				}
				i--
			}
		}
		if message == nil {
			return nil
		}
		messages = message.Messages()
	}
	return message
}

// hasFields reports whether a message has all fields of a value.
func hasFields(message protoreflect.MessageDescriptor, value []byte) bool {
	for len(value) > 0 {
		number, _, n := protowire.ConsumeField(value)
		if n < 0 || message.Fields().ByNumber(number) == nil {
			return false
		}
		value = value[n:]
	}
	return true
}

// firstMessage are the indexes of the first message, which a single 0 stands for.
var firstMessage = []int64{0}

// readIndexes reads the indexes of a message, and of the messages around it, from the outermost.
func readIndexes(b []byte) (indexes []int64, rest []byte, ok bool) {
	count, n := binary.Varint(b)
	if n <= 0 || count < 0 || count > maxMessageDepth {
		return nil, nil, false
	}
	if b = b[n:]; count == 0 {
		return firstMessage, b, true
	}
	for range count {
		i, n := binary.Varint(b)
		if n <= 0 {
			return nil, nil, false
		}
		indexes, b = append(indexes, i), b[n:]
	}
	return indexes, b, true
}
