package format

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const protobufEverything = `syntax="proto3";
import "google/protobuf/any.proto"; import "google/protobuf/timestamp.proto"; import "google/protobuf/struct.proto";
message M {
  string s = 1; repeated M m = 2; map<string, M> map = 3; repeated int32 i = 4; repeated double d = 5; E e = 6;
  google.protobuf.Any any = 7; google.protobuf.Timestamp t = 8; google.protobuf.Struct struct = 9; int64 l = 10; bytes b = 11;
  double nan = 12; repeated E es = 13; float f = 14;
  message Inner { string x = 1; }
  message Other { string z = 2; }
}
enum E { ZERO = 0; ONE = 1; }
message Second { string y = 1; }
`

const protobufGroups = `syntax="proto2"; message M { repeated group G = 1 { optional int32 a = 2; repeated group H = 3 {} } }`

// field encodes a field that has a length.
func field(number protowire.Number, value string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value))
}

// number encodes a field that is a number of variable length.
func number(n protowire.Number, value uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), value))
}

// nest applies a function n times, first to nothing.
func nest(n int, f func(string) string) (value string) {
	for range n {
		value = f(value)
	}
	return value
}

func anyOf(name, value string) string { return field(1, "type.googleapis.com/"+name) + field(2, value) }

func TestProtobuf(t *testing.T) {
	inMessage := func(value string) string { return field(2, value) }
	inAny := func(value string) string { return field(7, anyOf("M", value)) }
	for name, c := range map[string]struct {
		schema, indexes, value, want string
		err                          error
	}{
		"empty":                   {indexes: "\x00", want: `{}`},
		"the second message":      {indexes: varints(1, 1), value: field(1, "a"), want: `{"y":"a"}`},
		"an inner message":        {indexes: varints(2, 0, 0), value: field(1, "a"), want: `{"x":"a"}`},
		"after a map's message":   {indexes: varints(2, 0, 1), value: field(1, "a"), want: `{"x":"a"}`},
		"without a map's message": {indexes: varints(2, 0, 1), value: field(2, "a"), want: `{"z":"a"}`},
		"a long is a string":      {indexes: "\x00", value: number(10, 1<<63), want: `{"l":"-9223372036854775808"}`},
		"enum, known or not":      {indexes: "\x00", value: field(13, "\x01\x07"), want: `{"es":["ONE",7]}`},
		"NaN":                     {indexes: "\x00", value: "\x61\x00\x00\x00\x00\x00\x00\xf8\x7f", want: `{"nan":"NaN"}`},
		"bytes":                   {indexes: "\x00", value: field(11, "\xff"), want: `{"b":"/w=="}`},
		"an unknown field":        {indexes: "\x00", value: number(99, 1) + field(1, "a"), want: `{"s":"a"}`},
		"an Any":                  {indexes: "\x00", value: field(7, anyOf("Second", field(1, "a"))), want: `{"any":{"@type":"type.googleapis.com/Second","y":"a"}}`},
		"an Any of google's":      {indexes: "\x00", value: field(7, anyOf("google.protobuf.StringValue", field(1, "a"))), want: `{"any":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"a"}}`},
		"an Any of nothing":       {indexes: "\x00", value: field(7, ""), want: `{"any":{}}`},

		"no indexes":             {indexes: "", err: errIndexes},
		"no such message":        {indexes: varints(1, 2), err: errIndexes},
		"no inner message":       {indexes: varints(2, 1, 0), err: errIndexes},
		"a negative index":       {indexes: varints(1, -1), err: errIndexes},
		"a negative count":       {indexes: varints(-1), err: errIndexes},
		"a huge count":           {indexes: varints(1 << 40), err: errIndexes},
		"cut indexes":            {indexes: varints(2, 0), err: errIndexes},
		"cut off":                {indexes: "\x00", value: "\x0a\x03ab", err: errMismatch},
		"not UTF-8":              {indexes: "\x00", value: field(1, "\xff"), err: errMismatch},
		"a timestamp too large":  {indexes: "\x00", value: field(8, number(1, 1<<60)), err: errNoJSON},
		"an unknown Any":         {indexes: "\x00", value: field(7, anyOf("Third", "")), err: errNoJSON},
		"an Any of Herald's":     {indexes: "\x00", value: field(7, anyOf("opentelemetry.proto.common.v1.AnyValue", "")), err: errNoJSON},
		"a broken Any":           {indexes: "\x00", value: field(7, anyOf("M", "\x0a")), err: errMismatch},
		"100 levels":             {indexes: "\x00", value: nest(100, inMessage), want: strings.Repeat(`{"m":[`, 100) + "{}" + strings.Repeat("]}", 100)},
		"101 levels":             {indexes: "\x00", value: nest(101, inMessage), err: errTooDeep},
		"1,000 Any":              {indexes: "\x00", value: nest(1000, inAny), err: errTooDeep},
		"an Any in two parts":    {indexes: "\x00", value: nest(1000, func(v string) string { return field(7, field(1, "/M")) + field(7, field(2, v)) }), err: errTooDeep},
		"groups without end":     {indexes: "\x00", value: strings.Repeat("\xa3\x06", 1<<20), err: errMismatch},
		"1 MiB of messages":      {indexes: "\x00", value: strings.Repeat("\x12\x00", 1<<19), err: errTooLarge},
		"1 MiB of elements":      {indexes: "\x00", value: field(4, strings.Repeat("\x00", 4<<20)), err: errTooLarge},
		"a value too large":      {indexes: "\x00", value: field(1, strings.Repeat("a", MaxValue)), err: errTooLarge},
		"a text too large":       {indexes: "\x00", value: field(1, strings.Repeat("\x01", 8<<20)), err: errTooLarge},
		"long names":             {schema: `syntax="proto3"; message M { repeated N m = 1; } message N { int32 ` + strings.Repeat("n", 1<<19) + ` = 1; }`, indexes: "\x00", value: strings.Repeat("\x0a\x02\x08\x01", 1<<18), err: errTooLarge},
		"long names of an enum":  {schema: `syntax="proto3"; message M { repeated E m = 1; } enum E { ` + strings.Repeat("n", 1<<19) + ` = 0; }`, indexes: "\x00", value: field(1, strings.Repeat("\x00", 1<<18)), err: errTooLarge},
		"another Timestamp":      {schema: `syntax="proto3"; package google.protobuf; message Timestamp { string seconds = 1; }`, indexes: "\x00", value: field(1, "a"), err: errPanic},
		"another Any":            {schema: `syntax="proto3"; package google.protobuf; message Any { int32 a = 1; }`, indexes: "\x00", value: number(1, 1), err: errPanic},
		"a few small messages":   {schema: `syntax="proto3"; message M { repeated N m = 1; } message N { int32 ` + strings.Repeat("n", 1<<17) + ` = 1; }`, indexes: "\x00", value: strings.Repeat("\x0a\x02\x08\x01", 20), err: errTooLarge},
		"a required field":       {schema: `syntax="proto2"; message M { required int32 a = 1; }`, indexes: "\x00", err: errMismatch},
		"a packed list, unsaid":  {schema: `syntax="proto2"; message M { repeated int32 a = 1; }`, indexes: "\x00", value: field(1, "\x01\x02") + number(1, 3), want: `{"a":[1,2,3]}`},
		"groups":                 {schema: protobufGroups, indexes: "\x00", value: "\x0b\x10\x05\x1b\x1c\x0c\x0b\x0c", want: `{"g":[{"a":5,"h":[{}]},{}]}`},
		"a group without an end": {schema: protobufGroups, indexes: "\x00", value: "\x0b\x10\x05", err: errMismatch},
		"another group's end":    {schema: protobufGroups, indexes: "\x00", value: "\x0b\x1c", err: errMismatch},
		"an end without a group": {schema: protobufGroups, indexes: "\x00", value: "\x0c", err: errMismatch},
		"groups too deep":        {schema: `syntax="proto2"; message M { optional group G = 1 { optional M m = 2; } }`, indexes: "\x00", value: nest(100, func(v string) string { return "\x0b" + field(2, v) + "\x0c" }), err: errTooDeep},
		"unknown groups":         {indexes: "\x00", value: "\xa3\x06" + strings.Repeat("\x08\x01", 4<<20) + "\xa4\x06", err: errTooLarge},
		"unknown fields":         {indexes: "\x00", value: strings.Repeat(number(99, 1), 4<<20), err: errTooLarge},
		"a message in two parts": {schema: `syntax="proto3"; message M { M m = 1; int32 a = 2; int32 b = 3; }`, indexes: "\x00", value: field(1, number(2, 1)) + field(1, number(3, 2)), want: `{"m":{"a":1,"b":2}}`},
	} {
		text := c.schema
		if text == "" {
			text = protobufEverything
		}
		s := mustCompile(t, typeProtobuf, text)
		before := allocated()
		got, err := decodeSafely(s, &frame{payload: []byte(c.indexes + c.value)})
		if !errors.Is(err, c.err) || err == nil && string(got) != c.want {
			t.Errorf("%s: %.200q, %v, want %q, %v", name, got, err, c.want, c.err)
		}
		if used := allocated() - before; used > 20*MaxValue {
			t.Errorf("%s: %d MiB allocated", name, used>>20)
		}
	}
}

// TestNestingOfText finds brackets in a text as the parser does.
func TestNestingOfText(t *testing.T) {
	deep := strings.Repeat("{", maxNesting+1)
	for text, want := range map[string]error{
		strings.Repeat("{", maxNesting):  nil,
		deep:                             errNesting,
		strings.Repeat("{}", maxNesting): nil,
		`"` + deep + `"`:                 nil,
		`'\'` + deep + `'`:               nil,
		`"\\"` + deep:                    errNesting,
		"// " + deep + "\n":              nil,
		"// \n" + deep:                   errNesting,
		"/* " + deep + "\n*/":            nil,
		"/*/ */" + deep:                  errNesting,
		"/ " + deep:                      errNesting,
		"\"\n" + deep:                    errNesting,
		"/*" + deep:                      nil,
	} {
		if got := checkNesting(text); !errors.Is(got, want) {
			t.Errorf("%.20q: %v, want %v", text, got, want)
		}
	}
}

// FuzzDescriptor decodes values by schemas in their compiled form.
func FuzzDescriptor(f *testing.F) {
	for _, file := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, structpb.File_google_protobuf_struct_proto, mustCompile(f, typeProtobuf, protobufGroups).(*protobufSchema).file} {
		b, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("\x00\x0a\x01a"))
	}
	f.Fuzz(func(t *testing.T, descriptor, value []byte) {
		s, err := compileSafely(t.Context(), &schemaText{Text: base64.StdEncoding.EncodeToString(descriptor), Type: typeProtobuf}, nil)
		if err != nil {
			return
		}
		if got, err := decodeSafely(s, &frame{payload: value}); err == nil {
			if _, err := checkJSON(got); err != nil {
				t.Fatalf("%q: %v", got, err)
			}
		}
	})
}

// FuzzProtobuf decodes values of any bytes.
func FuzzProtobuf(f *testing.F) {
	s := mustCompile(f, typeProtobuf, protobufEverything)
	f.Add([]byte("\x00" + field(2, field(1, "a")) + field(4, "\x01\x02") + field(3, field(1, "k")+field(2, ""))))
	f.Add([]byte("\x00" + field(7, anyOf("M", field(7, anyOf("google.protobuf.Struct", ""))))))
	f.Add([]byte("\x00" + field(8, number(1, 1)+number(2, 2)) + field(9, field(1, field(1, "a")+field(2, number(1, 0))))))
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := decodeSafely(s, &frame{payload: value})
		if errors.Is(err, errPanic) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		if _, err := checkJSON(got); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	})
}
