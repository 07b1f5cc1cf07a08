package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep a decoded value may be nested: the stack of a goroutine is bounded, and a program whose stack
// overflows ends.
const maxDepth = 1000

var (
	errMismatch    = errors.New("the value does not fit the schema")
	errBytesLeft   = errors.New("the value does not fit the schema: bytes are left")
	errTooDeep     = errors.New("the value is nested too deep")
	errNotUTF8     = errors.New("a string of the value is not UTF-8")
	errRepeatedKey = errors.New("a map of the value has a key twice")
)

func (s *avroSchema) decode(f *frame) ([]byte, error) {
	if len(f.payload) > MaxValue {
		return nil, errTooLarge
	}
	d := avroDecoder{in: f.payload, out: make([]byte, 0, 64+2*len(f.payload)), limit: maxText(len(f.payload))}
	err := d.decode(s.root, 0)
	if err == nil && len(d.out) > d.limit {
		err = errGrows
	}
	if err == nil && len(d.in) > 0 {
		err = errBytesLeft
	}
	if err != nil {
		return nil, fmt.Errorf("%w, after byte %d", err, len(f.payload)-len(d.in))
	}
	return d.out, nil
}

// avroDecoder writes the JSON encoding of a value in Avro's binary encoding, both as the specification has them:
// https://avro.apache.org/docs/1.12.0/specification/#json-encoding. It writes at least one byte for each value that it
// reads, so the length of the text bounds its work, whatever the value claims to have.
type avroDecoder struct {
	in, out []byte
	limit   int // of out, in bytes
}

// decode decodes a value of a node.
func (d *avroDecoder) decode(n *avroNode, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if len(d.out) > d.limit {
		return errGrows
	}
	switch n.kind {
	case avroNull:
		d.out = append(d.out, "null"...)
		return nil
	case avroFixed:
		return d.decodeBytes(int64(n.size))
	case avroEnum:
		return d.decodeEnum(n)
	case avroArray, avroMap:
		return d.decodeBlocks(n, depth)
	case avroUnion:
		return d.decodeUnion(n, depth)
	case avroRecord:
		return d.decodeRecord(n, depth)
	case avroBoolean, avroFloat, avroDouble:
		return d.decodeFixedSize(n.kind)
	default:
		return d.decodeVarint(n.kind)
	}
}

// take cuts n bytes from the value.
func (d *avroDecoder) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(d.in)) {
		return nil, errMismatch
	}
	b := d.in[:n]
	d.in = d.in[n:]
	return b, nil
}

func (d *avroDecoder) readLong() (int64, error) {
	v, n := binary.Varint(d.in)
	if n <= 0 {
		return 0, errMismatch
	}
	d.in = d.in[n:]
	return v, nil
}

// decodeVarint decodes a value that begins with a number of variable length: an integer, bytes or a string.
func (d *avroDecoder) decodeVarint(kind avroKind) error {
	v, err := d.readLong()
	switch {
	case err != nil:
		return err
	case kind == avroBytes:
		return d.decodeBytes(v)
	case kind == avroString:
		return d.decodeString(v)
	case kind == avroInt && (v < math.MinInt32 || v > math.MaxInt32):
		return errMismatch
	}
	d.out = strconv.AppendInt(d.out, v, 10)
	return nil
}

// decodeFixedSize decodes a value whose kind has one size.
func (d *avroDecoder) decodeFixedSize(kind avroKind) error {
	sizes := [...]int64{avroBoolean: 1, avroFloat: 4, avroDouble: 8}
	b, err := d.take(sizes[kind])
	switch {
	case err != nil:
		return err
	case kind == avroFloat:
		d.appendFloat(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
	case kind == avroDouble:
		d.appendFloat(math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
	case b[0] > 1:
		return errMismatch
	default:
		d.out = strconv.AppendBool(d.out, b[0] == 1)
	}
	return nil
}

// appendFloat writes a number with as many digits as its precision needs. JSON has no text for NaN and infinities, so they
// are strings, as Avro's Java implementation and Protobuf's JSON write them.
func (d *avroDecoder) appendFloat(v float64, bits int) {
	switch {
	case math.IsNaN(v):
		d.out = append(d.out, `"NaN"`...)
	case math.IsInf(v, 1):
		d.out = append(d.out, `"Infinity"`...)
	case math.IsInf(v, -1):
		d.out = append(d.out, `"-Infinity"`...)
	default:
		format := byte('f')
		if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) { // as ECMAScript does
			format = 'e'
		}
		d.out = strconv.AppendFloat(d.out, v, format, -1, bits)
	}
}

// decodeBytes decodes n bytes into a string with a character for each byte, from U+0000 to U+00FF.
func (d *avroDecoder) decodeBytes(n int64) error {
	b, err := d.take(n)
	if err != nil {
		return err
	}
	if len(d.out)+len(b) > d.limit {
		return errGrows
	}
	d.out = append(d.out, '"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			d.out = append(d.out, '\\', c)
		case c < ' ':
			const digits = "0123456789abcdef"
			d.out = append(d.out, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		default:
			d.out = utf8.AppendRune(d.out, rune(c))
		}
	}
	d.out = append(d.out, '"')
	return nil
}

func (d *avroDecoder) decodeString(n int64) error {
	s, err := d.take(n)
	if err != nil {
		return err
	}
	if len(d.out)+len(s) > d.limit {
		return errGrows
	}
	if d.out, err = jsontext.AppendQuote(d.out, s); err != nil {
		return errNotUTF8
	}
	return nil
}

func (d *avroDecoder) decodeEnum(n *avroNode) error {
	i, err := d.readLong()
	if err != nil || i < 0 || i >= int64(len(n.labels)) {
		return errMismatch
	}
	d.out = append(d.out, n.labels[i]...)
	return nil
}

// decodeUnion writes the value of a branch as an object with the branch's name, and null alone.
func (d *avroDecoder) decodeUnion(n *avroNode, depth int) error {
	i, err := d.readLong()
	if err != nil || i < 0 || i >= int64(len(n.children)) {
		return errMismatch
	}
	branch := n.children[i]
	if branch.kind == avroNull {
		return d.decode(branch, depth)
	}
	d.out = append(d.out, '{')
	d.out = append(d.out, n.labels[i]...)
	if err := d.decode(branch, depth+1); err != nil {
		return err
	}
	d.out = append(d.out, '}')
	return nil
}

func (d *avroDecoder) decodeRecord(n *avroNode, depth int) error {
	d.out = append(d.out, '{')
	for i, child := range n.children {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		d.out = append(d.out, n.labels[i]...)
		if err := d.decode(child, depth+1); err != nil {
			return err
		}
	}
	d.out = append(d.out, '}')
	return nil
}

// decodeBlocks decodes an array or a map: blocks of elements, up to a block of none.
func (d *avroDecoder) decodeBlocks(n *avroNode, depth int) error {
	brackets := "[]"
	if n.kind == avroMap {
		brackets = "{}"
	}
	d.out = append(d.out, brackets[0])
	var keys keySet
	for isFirst := true; ; {
		count, err := d.readBlockStart()
		if err != nil {
			return err
		}
		if count == 0 {
			break
		}
		for ; count > 0; count-- {
			if !isFirst {
				d.out = append(d.out, ',')
			}
			isFirst = false
			if n.kind == avroMap {
				if err := d.decodeKey(&keys); err != nil {
					return err
				}
			}
			if err := d.decode(n.children[0], depth+1); err != nil {
				return err
			}
		}
	}
	d.out = append(d.out, brackets[1])
	return nil
}

// readBlockStart returns how many elements a block has. A negative count comes before the block's size in bytes, which
// serves readers that skip the block.
func (d *avroDecoder) readBlockStart() (int64, error) {
	count, err := d.readLong()
	if err != nil || count >= 0 {
		return count, err
	}
	if _, err := d.readLong(); err != nil || count == math.MinInt64 {
		return 0, errMismatch
	}
	return -count, nil
}

// decodeKey decodes the key of a map's element. A key that occurs twice would make a name that occurs twice, whose meaning
// readers of JSON do not agree on.
func (d *avroDecoder) decodeKey(keys *keySet) error {
	n, err := d.readLong()
	if err != nil {
		return err
	}
	start := d.in
	if err := d.decodeString(n); err != nil {
		return err
	}
	if !keys.add(start[:n]) {
		return errRepeatedKey
	}
	d.out = append(d.out, ':')
	return nil
}

// keySet is a set of keys. The first keys are in a list, which needs no memory of its own.
type keySet struct {
	few   [8][]byte
	count int
	many  map[string]struct{}
}

// add adds a key, and reports whether the set did not have it.
func (s *keySet) add(key []byte) bool {
	if s.many == nil {
		for _, k := range s.few[:s.count] {
			if string(k) == string(key) {
				return false
			}
		}
		if s.count < len(s.few) {
			s.few[s.count] = key
			s.count++
			return true
		}
		s.many = make(map[string]struct{})
		for _, k := range s.few {
			s.many[string(k)] = struct{}{}
		}
	}
	before := len(s.many)
	s.many[string(key)] = struct{}{}
	return len(s.many) > before
}
