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
	messageWeight   = 300      // a message without fields takes 2 bytes in a value, and this much in memory
	elementWeight   = 32       // a number takes a byte in a value
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
	if depth > maxMessageDepth {
		return errTooDeep
	}
	if err := w.add(messageWeight); err != nil {
		return err
	}
	for len(b) > 0 {
		number, wireType, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMismatch
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, wireType, b); n < 0 {
			return errMismatch
		}
		field := w.findField(message, number)
		if field != nil {
			if err := w.weighField(field, wireType, b[:n], depth); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
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

// weighField adds the weight of a field. Its value is as in the message, with a length or with the end of a group.
func (w *protobufWeight) weighField(field protoreflect.FieldDescriptor, wireType protowire.Type, value []byte, depth int) error {
	name := len(field.JSONName())
	if field.IsExtension() {
		name = len(field.FullName()) + 2
	}
	if err := w.add(elementWeight + name); err != nil {
		return err
	}
	switch wireType {
	case protowire.BytesType:
		value, _ = protowire.ConsumeBytes(value)
	case protowire.StartGroupType:
		value, _ = protowire.ConsumeGroup(field.Number(), value)
	case protowire.VarintType:
		return w.weighEnums(field, value)
	default:
		return nil
	}
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
// an Any that holds an Any, and so on, and the recursion limit of the library begins anew with each.
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
