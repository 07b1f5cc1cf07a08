package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
)

// mustCompile compiles a schema.
func mustCompile(tb testing.TB, kind, text string) schema {
	tb.Helper()
	s, err := compileSafely(context.Background(), &schemaText{Text: text, Type: kind}, nil)
	if err != nil {
		tb.Fatalf("%.200s: %v", text, err)
	}
	return s
}

// varints encodes numbers as Avro and Protobuf's signed numbers do.
func varints(numbers ...int64) string {
	var b []byte
	for _, n := range numbers {
		b = binary.AppendVarint(b, n)
	}
	return string(b)
}

const (
	avroList   = `{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"]}]}`
	avroMapOf  = `{"type":"map","values":"int"}`
	avroNested = `{"type":"record","name":"a.b.R","fields":[
		{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
		{"name":"f","type":{"type":"fixed","name":"c.F","size":2}},
		{"name":"u","type":["null","E","c.F","R",{"type":"array","items":"E"},{"type":"map","values":"E"},{"type":"long","logicalType":"timestamp-millis"}]}]}`
)

func TestAvro(t *testing.T) {
	for name, c := range map[string]struct {
		schema, value, want string
		err                 error
	}{
		"null":              {schema: `"null"`, want: `null`},
		"booleans":          {schema: `{"type":"array","items":"boolean"}`, value: "\x04\x00\x01\x00", want: `[false,true]`},
		"a bad boolean":     {schema: `"boolean"`, value: "\x02", err: errMismatch},
		"the least int":     {schema: `"int"`, value: varints(math.MinInt32), want: `-2147483648`},
		"an int too large":  {schema: `"int"`, value: varints(math.MaxInt32 + 1), err: errMismatch},
		"the largest long":  {schema: `"long"`, value: varints(math.MaxInt64), want: `9223372036854775807`},
		"a long too long":   {schema: `"long"`, value: strings.Repeat("\xff", 10) + "\x01", err: errMismatch},
		"a cut long":        {schema: `"long"`, value: "\x80", err: errMismatch},
		"a float":           {schema: `"float"`, value: "\xcd\xcc\xcc\x3d", want: `0.1`},
		"NaN":               {schema: `"float"`, value: "\x00\x00\xc0\x7f", want: `"NaN"`},
		"infinities":        {schema: `{"type":"array","items":"double"}`, value: "\x04\x00\x00\x00\x00\x00\x00\xf0\x7f\x00\x00\x00\x00\x00\x00\xf0\xff\x00", want: `["Infinity","-Infinity"]`},
		"a large double":    {schema: `"double"`, value: "\x9c\x75\x00\x88\x3c\xe4\x37\x7e", want: `1e+300`},
		"minus zero":        {schema: `"double"`, value: "\x00\x00\x00\x00\x00\x00\x00\x80", want: `-0`},
		"a cut double":      {schema: `"double"`, value: "\x00", err: errMismatch},
		"bytes":             {schema: `"bytes"`, value: varints(6) + "\x00a\"\\\x7f\xff", want: `"\u0000a\"\\` + "\x7f" + `ÿ"`},
		"a string":          {schema: `"string"`, value: varints(4) + "ä\"\n", want: `"ä\"\n"`},
		"not UTF-8":         {schema: `"string"`, value: varints(1) + "\xff", err: errNotUTF8},
		"a huge length":     {schema: `"string"`, value: varints(math.MaxInt64), err: errMismatch},
		"a negative length": {schema: `"bytes"`, value: varints(-1), err: errMismatch},
		"bytes left":        {schema: `"int"`, value: "\x00\x00", err: errBytesLeft},
		"nothing":           {schema: `"int"`, err: errMismatch},

		"names in a union":   {schema: avroNested, value: varints(1) + "ab" + varints(3, 0) + "cd" + varints(0), want: `{"e":"Y","f":"ab","u":{"a.b.R":{"e":"X","f":"cd","u":null}}}`},
		"an enum's name":     {schema: avroNested, value: varints(0) + "ab" + varints(1, 1), want: `{"e":"X","f":"ab","u":{"a.b.E":"Y"}}`},
		"a fixed's name":     {schema: avroNested, value: varints(0) + "ab" + varints(2) + "cd", want: `{"e":"X","f":"ab","u":{"c.F":"cd"}}`},
		"a logical type":     {schema: avroNested, value: varints(0) + "ab" + varints(6, 1), want: `{"e":"X","f":"ab","u":{"long":1}}`},
		"an array's name":    {schema: avroNested, value: varints(0) + "ab" + varints(4, -1, 1, 0, 0), want: `{"e":"X","f":"ab","u":{"array":["X"]}}`},
		"no such branch":     {schema: avroNested, value: varints(0) + "ab" + varints(7), err: errMismatch},
		"a negative branch":  {schema: avroNested, value: varints(0) + "ab" + varints(-1), err: errMismatch},
		"no such symbol":     {schema: avroNested, value: varints(2) + "ab", err: errMismatch},
		"blocks":             {schema: `{"type":"array","items":"int"}`, value: varints(1, 7, -2, 2, 8, 9, 0), want: `[7,8,9]`},
		"the least count":    {schema: `{"type":"array","items":"int"}`, value: varints(math.MinInt64, 0), err: errMismatch},
		"a map":              {schema: avroMapOf, value: varints(2, 1) + "a" + varints(1, 0, 2, 0), want: `{"a":1,"":2}`},
		"a key twice":        {schema: avroMapOf, value: varints(2, 1) + "a" + varints(1, 1) + "a" + varints(2, 0), err: errRepeatedKey},
		"a key twice, later": {schema: avroMapOf, value: varints(20) + manyKeys(19) + varints(1) + "a" + varints(0, 0), err: errRepeatedKey},
		"many keys":          {schema: `{"type":"map","values":"null"}`, value: varints(3, 1) + "a" + varints(1) + "b" + varints(1) + "c" + varints(0), want: `{"a":null,"b":null,"c":null}`},

		"a list":                 {schema: avroList, value: varints(1, 1, 0), want: `{"n":{"L":{"n":{"L":{"n":null}}}}}`},
		"a list too long":        {schema: avroList, value: strings.Repeat("\x02", 10<<20), err: errTooDeep},
		"nulls without end":      {schema: `{"type":"array","items":"null"}`, value: varints(math.MaxInt64), err: errTooLarge},
		"records without fields": {schema: `{"type":"array","items":{"type":"record","name":"R","fields":[]}}`, value: varints(1 << 40), err: errTooLarge},
		"a value too large":      {schema: `"bytes"`, value: varints(MaxValue+1) + strings.Repeat("a", MaxValue+1), err: errTooLarge},
		"bytes that grow":        {schema: `{"type":"array","items":"bytes"}`, value: varints(2, 8<<20) + strings.Repeat("\x00", 8<<20) + varints(1) + "a" + varints(0), err: errTooLarge},
		"values that double":     {schema: avroDoubling(40), err: errTooLarge},
		"a fixed of 2 GiB":       {schema: `{"type":"fixed","name":"F","size":2147483647}`, value: "a", err: errMismatch},
		"long names":             {schema: `{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"` + strings.Repeat("n", 1<<19) + `","type":"null"}]}}`, value: varints(1 << 40), err: errTooLarge},
	} {
		before := allocated()
		got, err := mustCompile(t, typeAvro, c.schema).decode(&frame{payload: []byte(c.value)})
		if !errors.Is(err, c.err) || err == nil && string(got) != c.want {
			t.Errorf("%s: %.200q, %v, want %q, %v", name, got, err, c.want, c.err)
		}
		if used := allocated() - before; used > 12*uint64(maxText(len(c.value)))+8<<20 { // with the schema
			t.Errorf("%s: %d KiB allocated for %d bytes", name, used>>10, len(c.value))
		}
	}
}

// allocated returns how many bytes the program has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// manyKeys encodes elements of a map of int, whose keys are a, b, c and so on.
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(varints(1) + string(rune('a'+i)) + varints(0))
	}
	return b.String()
}

// avroDoubling is a schema whose value takes no bytes and has 2 to the power of n parts.
func avroDoubling(n int) string {
	schema := `{"type":"record","name":"R0","fields":[{"name":"a","type":"null"},{"name":"b","type":"null"}]}`
	for i := range n {
		schema = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"a","type":%s},{"name":"b","type":"R%d"}]}`, i+1, schema, i)
	}
	return schema
}

func TestBadSchemas(t *testing.T) {
	for name, c := range map[string]struct{ kind, text string }{
		"another type":             {"THRIFT", "x"},
		"Avro: not JSON":           {typeAvro, "{"},
		"Avro: no such type":       {typeAvro, `{"type":"record","name":"R","fields":[{"name":"a","type":"S"}]}`},
		"Avro: deep":               {typeAvro, strings.Repeat(`{"type":"array","items":`, 40000) + `"int"` + strings.Repeat("}", 40000)},
		"Avro: brackets":           {typeAvro, strings.Repeat("[", maxSchemaText)},
		"Avro: no items":           {typeAvro, `{"type":"array"}`},
		"Avro: null":               {typeAvro, `null`},
		"Avro: a number":           {typeAvro, `1`},
		"Protobuf: no text":        {typeProtobuf, "x"},
		"Protobuf: empty base64":   {typeProtobuf, "AAAA"},
		"Protobuf: deep messages":  {typeProtobuf, strings.Repeat("message a{", maxSchemaText/10)},
		"Protobuf: deep option":    {typeProtobuf, "option (x)={" + strings.Repeat("a{", maxSchemaText/2)},
		"Protobuf: hidden depth":   {typeProtobuf, `option x="\"";/* " */ option (x)={` + strings.Repeat("/*}*/a{//}\n", maxSchemaText/11)},
		"Protobuf: itself":         {typeProtobuf, `syntax="proto3"; import "(schema)";`},
		"Protobuf: missing import": {typeProtobuf, `syntax="proto3"; import "a.proto";`},
		"Protobuf: a part of Herald": {typeProtobuf, `syntax="proto3"; import "opentelemetry/proto/common/v1/common.proto";
			message M { opentelemetry.proto.common.v1.AnyValue v = 1; }`},
	} {
		before := allocated()
		_, err := compileSafely(t.Context(), &schemaText{Text: c.text, Type: c.kind}, nil)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if used := allocated() - before; used > 64<<20 {
			t.Errorf("%s: %d MiB allocated", name, used>>20)
		}
	}
}

// fuzzedAvro are the schemas of FuzzAvro.
var fuzzedAvro = []string{
	avroList, avroNested, avroMapOf, `{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"a","type":"boolean"},{"name":"b","type":"float"},{"name":"c","type":"double"}]}}`,
	`["null","int","long","string","bytes",{"type":"array","items":"string"}]`,
}

// FuzzAvro compares the text of each value with the text that package avro makes.
func FuzzAvro(f *testing.F) {
	for i := range fuzzedAvro {
		f.Add(i, []byte(varints(1, 1, 0)))
		f.Add(i, []byte(varints(0)+"ab"+varints(3, 1)+"cd"+varints(0)))
		f.Add(i, []byte(varints(-2, 2, 1)+"a"+varints(1, 1)+"b"+varints(2, 0)))
	}
	schemas := make([]*avroSchema, len(fuzzedAvro))
	for i, text := range fuzzedAvro {
		schemas[i] = mustCompile(f, typeAvro, text).(*avroSchema)
	}
	f.Fuzz(func(t *testing.T, which int, value []byte) {
		which = int(uint(which) % uint(len(schemas)))
		got, err := schemas[which].decode(&frame{payload: value})
		if err != nil {
			return
		}
		if _, err := checkJSON(got); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		reference := avro.MustParse(fuzzedAvro[which])
		var decoded any
		rest, err := reference.Decode(value, &decoded, avro.TaggedUnions())
		if err != nil || len(rest) > 0 {
			return // it refuses more, such as many elements without a size
		}
		want, err := reference.EncodeJSON(decoded, avro.TaggedUnions())
		if err != nil {
			return
		}
		if diff := cmp.Diff(parseExactly(t, want), parseExactly(t, got)); diff != "" {
			t.Errorf("package avro: %s\nthis package: %s", want, got)
		}
	})
}

// parseExactly parses a JSON text. Numbers are equal if their texts or their values are.
func parseExactly(t *testing.T, text []byte) (value any) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return value
}

// FuzzSchema decodes values by schemas of any text.
func FuzzSchema(f *testing.F) {
	for _, text := range fuzzedAvro {
		f.Add(typeAvro, text, []byte(varints(1, 1, 0)))
	}
	f.Add(typeProtobuf, protobufEverything, []byte("\x0a\x03abc"))
	f.Add(typeProtobuf, `syntax="proto2"; package google.protobuf; message Timestamp { optional string seconds=1; optional group G=2 {} }`, []byte("\x0a\x01a\x13\x14"))
	f.Fuzz(func(t *testing.T, kind, text string, value []byte) {
		s, err := compileSafely(t.Context(), &schemaText{Text: text, Type: kind}, nil)
		if err != nil {
			return
		}
		got, err := decodeSafely(s, &frame{payload: value, prefix: []byte{0}})
		if err != nil {
			return
		}
		if _, err := checkJSON(got); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	})
}
