package format

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Bounds of a value, before it is decoded.
const (
	maxMessageDepth = 100
	maxWeight       = 96 << 20 // bytes of memory, of the value and of its text
	minMaxWeight    = 1 << 20  // a small value may have this weight, and a larger one weightGrowth for each byte, see [maxText]
	weightGrowth    = 512
	messageWeight   = 300 // a message without fields takes 2 bytes in a value, and this much in memory
	elementWeight   = 32  // a number takes a byte in a value
)

// protobufWeight bounds how much memory a value will take: its messages, and the names of its fields and enums in its
// text. A value of 1 MiB may take hundreds of times as much.
type protobufWeight struct {
	types *dynamicpb.Types
	left  int // bytes
}

func (w *protobufWeight) add(n int) error {
	if w.left -= n; w.left < 0 {
		return errTooLarge
	}
	return nil
}

// weigh adds the weight of a message.
func (w *protobufWeight) weigh(message protoreflect.MessageDescriptor, b []byte, depth int) error {
	rest, err := w.weighFields(message, b, depth, 0)
	if err == nil && len(rest) > 0 {
		return errMismatch
	}
	return err
}

// weighFields adds the weight of a message, up to the end of the group that it is, and returns the bytes after it. Group 0
// is none: then it ends with the bytes.
func (w *protobufWeight) weighFields(message protoreflect.MessageDescriptor, b []byte, depth int, group protowire.Number) ([]byte, error) {
	if depth > maxMessageDepth {
		return nil, errTooDeep
	}
	if err := w.add(messageWeight); err != nil {
		return nil, err
	}
	for len(b) > 0 {
		number, wireType, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errMismatch
		}
		b = b[n:]
		if wireType == protowire.EndGroupType {
			if number != group {
				return nil, errMismatch
			}
			return b, nil
		}
		var err error
		field := w.findField(message, number)
		if wireType == protowire.StartGroupType && field != nil && field.Kind() == protoreflect.GroupKind {
			if err = w.addName(field); err == nil {
				b, err = w.weighFields(field.Message(), b, depth+1, number)
			}
		} else {
			b, err = w.weighField(field, number, wireType, b, depth)
		}
		if err != nil {
			return nil, err
		}
	}
	if group != 0 {
		return nil, errMismatch
	}
	return nil, nil
}

// findField returns a field or an extension of a message; nil if the message has no such field.
func (w *protobufWeight) findField(message protoreflect.MessageDescriptor, number protowire.Number) protoreflect.FieldDescriptor {
	if field := message.Fields().ByNumber(number); field != nil {
		return field
	}
	if message.ExtensionRanges().Has(number) {
		if extension, err := w.types.FindExtensionByNumber(message.FullName(), number); err == nil {
			return extension.TypeDescriptor()
		}
	}
	return nil
}

// addName adds the weight of a field's name in the text.
func (w *protobufWeight) addName(field protoreflect.FieldDescriptor) error {
	if field.IsExtension() {
		return w.add(elementWeight + len(field.FullName()) + len("[]"))
	}
	return w.add(elementWeight + len(field.JSONName()))
}

// weighField adds the weight of a field at the start of b, and returns the bytes after it. The field is nil if the message
// has none of the number.
func (w *protobufWeight) weighField(field protoreflect.FieldDescriptor, number protowire.Number, wireType protowire.Type, b []byte, depth int) ([]byte, error) {
	n := protowire.ConsumeFieldValue(number, wireType, b)
	if n < 0 {
		return nil, errMismatch
	}
	value, rest := b[:n], b[n:]
	switch {
	case wireType == protowire.StartGroupType: // unknown, and skipped field by field
		return rest, w.add(elementWeight * (1 + len(value)/2))
	case field == nil:
		return rest, w.add(elementWeight)
	}
	if err := w.addName(field); err != nil {
		return nil, err
	}
	switch wireType {
	case protowire.BytesType:
		value, _ = protowire.ConsumeBytes(value)
		return rest, w.weighContent(field, value, depth)
	case protowire.VarintType:
		return rest, w.weighEnums(field, value)
	default:
		return rest, nil
	}
}

// weighContent adds the weight of a field that has a length.
func (w *protobufWeight) weighContent(field protoreflect.FieldDescriptor, value []byte, depth int) error {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return w.weigh(field.Message(), value, depth+1)
	case protoreflect.StringKind, protoreflect.BytesKind:
		return w.add(2 * len(value))
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return w.add(len(value) / 4 * elementWeight)
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return w.add(len(value) / 8 * elementWeight)
	default:
		return w.weighEnums(field, value)
	}
}

// weighEnums adds the weight of numbers of variable length, one after another. The text has the names of enums.
func (w *protobufWeight) weighEnums(field protoreflect.FieldDescriptor, b []byte) error {
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return errMismatch
		}
		b = b[n:]
		weight := elementWeight
		if enum := field.Enum(); enum != nil {
			if value := enum.Values().ByNumber(protoreflect.EnumNumber(int32(v))); value != nil {
				weight += len(value.Name())
			}
		}
		if err := w.add(weight); err != nil {
			return err
		}
	}
	return nil
}

// checkAny bounds the messages inside the parts of type Any, which are bytes until the text is written. A message may hold
// an Any that holds an Any, and so on, and the recursion limit of the library begins again with each.
func (s *protobufSchema) checkAny(message protoreflect.Message, w *protobufWeight, depth int) (err error) {
	if depth > maxMessageDepth {
		return errTooDeep
	}
	if message.Descriptor().FullName() == "google.protobuf.Any" {
		return s.checkAnyContent(message, w, depth)
	}
	message.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				break
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = s.checkAny(v.Message(), w, depth+1)
				return err == nil
			})
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = s.checkAny(v.List().Get(i).Message(), w, depth+1)
			}
		default:
			err = s.checkAny(v.Message(), w, depth+1)
		}
		return err == nil
	})
	return err
}

// checkAnyContent bounds the message inside an Any.
func (s *protobufSchema) checkAnyContent(message protoreflect.Message, w *protobufWeight, depth int) error {
	fields := message.Descriptor().Fields()
	typeURL, content := message.Get(fields.ByNumber(1)).String(), message.Get(fields.ByNumber(2)).Bytes()
	if typeURL == "" && len(content) == 0 {
		return nil
	}
	if err := w.add(messageWeight + 2*len(typeURL)); err != nil {
		return err
	}
	messageType, err := s.types.FindMessageByURL(typeURL)
	if err != nil {
		return errNoJSON
	}
	if err := w.weigh(messageType.Descriptor(), content, depth); err != nil {
		return err
	}
	inner := messageType.New()
	if err := s.unmarshal(inner.Interface(), content); err != nil {
		return errMismatch
	}
	return s.checkAny(inner, w, depth+1)
}
