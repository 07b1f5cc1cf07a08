package stream

import (
	"bytes"
	"iter"
	"slices"
	"strconv"
	"unicode/utf8"

	"herald/consumer"
)

// This file encodes what a client may ask for besides a record's value: the parameter fields adds lines to an event,
// and the parameter format makes the data of the event a JSON object.

// appendFieldLines appends the lines of the fields that the shape shows. A client that does not know them ignores
// them (WHATWG HTML, section 9.2.6).
func (h *Hub) appendFieldLines(b []byte, s shape, p consumer.Partition, r *consumer.Record) []byte {
	if ms := r.Time.UnixMilli(); s.has(showTime) && ms >= 0 {
		b = append(strconv.AppendInt(append(b, "time: "...), ms, 10), '\n')
	}
	if s.has(showKey) && r.Key != nil {
		b = append(appendLineText(append(b, "key: "...), r.Key), '\n')
	}
	if s.has(showPos) {
		b = append(appendPos(append(b, "pos: "...), p, r.Offset), '\n')
	}
	if s.has(showHeaders) {
		for name, value := range h.shownHeaders(r) {
			b = append(append(append(b, "header."...), name...), ": "...)
			b = append(appendLineText(b, value), '\n')
		}
	}
	return b
}

// shownHeaders yields the record headers that a client may ask for, and what the format of the route found besides the
// value, as if it were headers.
func (h *Hub) shownHeaders(r *consumer.Record) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, name := range h.headers {
			if value, _ := r.Header(name); value != nil && !yield(name, value) {
				return
			}
		}
		for _, a := range r.Attributes() {
			if slices.Contains(h.headers, a.Key) {
				if value, _ := r.Header(a.Key); value != nil { // the attribute is that header
					continue
				}
			}
			if a.Value != nil && !yield(a.Key, a.Value) {
				return
			}
		}
	}
}

// appendFieldMembers appends the fields that the shape shows as members of a JSON object, each with a comma after it.
func (h *Hub) appendFieldMembers(b []byte, s shape, p consumer.Partition, r *consumer.Record) []byte {
	if ms := r.Time.UnixMilli(); s.has(showTime) && ms >= 0 {
		b = append(strconv.AppendInt(append(b, `"time":`...), ms, 10), ',')
	}
	if s.has(showKey) && r.Key != nil {
		b = append(appendJSONText(append(b, `"key":`...), r.Key), ',')
	}
	if s.has(showPos) {
		b = append(appendPos(append(b, `"pos":"`...), p, r.Offset), `",`...)
	}
	if s.has(showHeaders) {
		b = append(b, `"headers":{`...)
		for name, value := range h.shownHeaders(r) {
			b = append(appendJSONText(b, []byte(name)), ':')
			b = append(appendJSONText(b, value), ',')
		}
		b = append(bytes.TrimSuffix(b, []byte{','}), "},"...)
	}
	return b
}

// appendDataMember appends the last member of a JSON object, the record's value, and the end of the object. It is the
// last member because records of the same value then share its bytes, whatever their other members are.
func appendDataMember(b, value []byte) []byte {
	b = append(b, `"data":`...)
	if value == nil {
		return append(b, "null}"...)
	}
	return append(appendJSONText(b, value), '}')
}

// fieldsSize returns the size, in bytes, of the texts in the fields that the shape shows. Producers choose the names of a
// format's attributes, so these count.
func (h *Hub) fieldsSize(s shape, r *consumer.Record) (size int) {
	if s.has(showKey) {
		size += len(r.Key)
	}
	if s.has(showHeaders) {
		for name, value := range h.shownHeaders(r) {
			size += len(name) + len(value)
		}
	}
	return size
}

// appendPos appends the place of a record in Kafka, which is the same in all streams. No topic's name has an @.
func appendPos(b []byte, p consumer.Partition, offset int64) []byte {
	b = append(append(b, p.Topic...), '-')
	b = append(strconv.AppendInt(b, int64(p.ID), 10), '@')
	return strconv.AppendInt(b, offset, 10)
}

// replacement stands for bytes that a text cannot have.
const replacement = "\uFFFD"

// appendLineText appends a text that stands on one line: a line break in it would begin a line of the producer's
// choice, such as an id, and a NUL would end the text in some clients. Each of them becomes U+FFFD, as bytes do that
// are not UTF-8.
func appendLineText(b, text []byte) []byte {
	text = toUTF8(text)
	for {
		end := bytes.IndexAny(text, "\r\n\x00")
		if end < 0 {
			return append(b, text...)
		}
		b = append(append(b, text[:end]...), replacement...)
		text = text[end+1:]
	}
}

// appendJSONText appends a text as a JSON string on one line. Bytes that are not UTF-8 become U+FFFD. It also
// escapes the line breaks that JSON allows in a string: some clients split lines there, against the standard.
func appendJSONText(b, text []byte) []byte {
	const digits = "0123456789abcdef"
	text = toUTF8(text)
	b = append(b, '"')
	begun := 0
	for i := 0; i < len(text); {
		c, size := rune(text[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRune(text[i:])
		}
		if c >= ' ' && c != '"' && c != '\\' && c != '\u0085' && c != '\u2028' && c != '\u2029' {
			i += size
			continue
		}
		b = append(b, text[begun:i]...)
		i += size
		begun = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', byte(c))
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', digits[c>>12&15], digits[c>>8&15], digits[c>>4&15], digits[c&15])
		}
	}
	return append(append(b, text[begun:]...), '"')
}

// toUTF8 returns the text with U+FFFD in place of bytes that are not UTF-8.
func toUTF8(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	return bytes.ToValidUTF8(text, []byte(replacement))
}
