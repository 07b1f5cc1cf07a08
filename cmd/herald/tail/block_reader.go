package tail

import (
	"bytes"
	"errors"
	"time"
)

const (
	// maxEvent bounds an event in bytes, with its fields' names. A record of Kafka has at most 1 MiB by
	// default.
	maxEvent = 32 << 20
	// keepBuffer is the largest empty buffer, in bytes, that a BlockReader keeps: a program may have one
	// reader for each of thousands of streams.
	keepBuffer = 1 << 10
	// maxRetry bounds the reconnection time that a server can set.
	maxRetry = time.Hour
	// bom is U+FEFF in UTF-8, the byte order mark. A stream may begin with one, which is then not data.
	bom = "\xef\xbb\xbf"
)

// ErrEventTooLarge reports that an event of the stream has more than 32 MiB.
var ErrEventTooLarge = errors.New("an event is larger than 32 MiB")

// Block is the part of an event stream between two blank lines. Its slices are valid until the next
// call of [BlockReader.Push] or [BlockReader.Next].
type Block struct {
	ID      []byte
	HasID   bool // ID is the last event id from this block on
	Type    []byte
	Data    []byte // lines are separated by LF
	HasData bool   // a block without data dispatches no event
}

// BlockReader reads a text/event-stream (WHATWG HTML, section 9.2.6) that the caller pushes to it in
// pieces. It looks at each byte once, however the stream is cut into pieces, and it copies a block
// only if the block arrives in several pieces or has several data lines. The zero value begins a
// stream.
type BlockReader struct {
	// Retry is the reconnection time that the stream has set. It is zero until the stream sets one.
	Retry time.Duration

	in     []byte // from the start of the block on; either the caller's piece or buffer
	buffer []byte // keeps the start of an incomplete block between two pieces
	line   int    // offset in in of the first line that has not been parsed
	seen   int    // offset in in; no line ends between line and seen

	fields fields
	joined []byte // the block's data, if it has several lines

	begun  bool // the stream's first bytes have been checked for a byte order mark
	skipLF bool // the last line ended in CR: an LF that follows belongs to the same line end
	limit  int  // bytes of a block; 0: maxEvent
}

// fields is the part of a block that has been parsed. It holds offsets because the bytes move when a
// block is completed by another piece.
type fields struct {
	any            bool // the block has a field that matters when the block ends
	id, kind, data span
	hasID, hasData bool
	isJoined       bool // data has several lines, which are in joined
}

type span struct{ from, to int }

// Push gives the reader the next bytes of the stream. The caller may reuse p after Next has returned
// false.
func (r *BlockReader) Push(p []byte) error {
	if len(r.buffer) == 0 {
		r.in = p
		return nil
	}
	limit := r.limit
	if limit == 0 {
		limit = maxEvent
	}
	if len(r.buffer)+len(p) > limit {
		return ErrEventTooLarge
	}
	r.buffer = append(r.buffer, p...)
	r.in = r.buffer
	return nil
}

// Next reads the next complete block into b. It returns false if the rest of the block has not been
// pushed yet.
func (r *BlockReader) Next(b *Block) bool {
	if !r.begun {
		if len(r.in) < len(bom) && bytes.HasPrefix([]byte(bom), r.in) {
			return r.keep()
		}
		r.in = bytes.TrimPrefix(r.in, []byte(bom))
		r.begun = true
	}
	for {
		if r.skipLF && r.line < len(r.in) {
			r.skipLF = false
			if r.in[r.line] == '\n' {
				r.line++
				r.seen = r.line
			}
		}
		end := lineEnd(r.in[r.seen:])
		if end < 0 {
			r.seen = len(r.in)
			return r.keep()
		}
		from, to := r.line, r.seen+end
		r.line = to + 1
		if r.in[to] == '\r' {
			if r.line < len(r.in) && r.in[r.line] == '\n' {
				r.line++
			} else {
				// The line is complete without the byte after the CR, which a live stream may not send for
				// a long time.
				r.skipLF = r.line == len(r.in)
			}
		}
		r.seen = r.line
		if from == to {
			r.take(b)
			return true
		}
		r.parse(span{from, to})
		if !r.fields.any { // heartbeats are comments that no blank line follows: drop them at once
			r.advance()
		}
	}
}

// lineEnd returns the index of the first LF or CR, or -1.
func lineEnd(p []byte) int {
	lf := bytes.IndexByte(p, '\n')
	head := p
	if lf >= 0 {
		head = p[:lf]
	}
	if cr := bytes.IndexByte(head, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// parse takes the field of one line. The name of a comment's field is empty.
func (r *BlockReader) parse(line span) {
	text := r.in[line.from:line.to]
	colon := bytes.IndexByte(text, ':')
	name, value := text, span{line.to, line.to}
	if colon >= 0 {
		name, value.from = text[:colon], line.from+colon+1
		if value.from < line.to && r.in[value.from] == ' ' {
			value.from++
		}
	}
	f := &r.fields
	switch string(name) {
	case "data":
		r.addData(value)
	case "id":
		if bytes.IndexByte(r.bytesOf(value), 0) < 0 {
			f.id, f.hasID, f.any = value, true, true
		}
	case "event":
		f.kind, f.any = value, true
	case "retry":
		if d, ok := parseRetry(r.bytesOf(value)); ok {
			r.Retry = d
		}
	}
}

func (r *BlockReader) addData(value span) {
	f := &r.fields
	switch {
	case !f.hasData:
		f.data, f.hasData, f.any = value, true, true
		return
	case !f.isJoined:
		r.joined = append(r.joined[:0], r.bytesOf(f.data)...)
		f.isJoined = true
	}
	r.joined = append(append(r.joined, '\n'), r.bytesOf(value)...)
}

func (r *BlockReader) bytesOf(s span) []byte { return r.in[s.from:s.to] }

// take moves the complete block into b.
func (r *BlockReader) take(b *Block) {
	f := &r.fields
	*b = Block{ID: r.bytesOf(f.id), HasID: f.hasID, Type: r.bytesOf(f.kind), HasData: f.hasData}
	switch {
	case f.isJoined:
		b.Data = r.joined
		if cap(r.joined) > keepBuffer {
			r.joined = nil
		}
	case f.hasData:
		b.Data = r.bytesOf(f.data)
	}
	r.fields = fields{}
	r.advance()
}

// advance drops the bytes that have been parsed.
func (r *BlockReader) advance() {
	r.in = r.in[r.line:]
	r.line, r.seen = 0, 0
}

// keep copies the incomplete block, because its bytes are the caller's. It returns false.
func (r *BlockReader) keep() bool {
	switch {
	case len(r.in) == 0 && cap(r.buffer) > keepBuffer:
		r.buffer = nil
	case len(r.in) > 0 && len(r.in) == len(r.buffer) && &r.in[0] == &r.buffer[0]:
		// The block is there already. A copy for each piece of a long event would take minutes.
	default:
		r.buffer = append(r.buffer[:0], r.in...)
	}
	r.in = nil
	return false
}

// parseRetry reads milliseconds, which are ASCII digits and nothing else. More than an hour counts as
// an hour.
func parseRetry(text []byte) (time.Duration, bool) {
	if len(text) == 0 {
		return 0, false
	}
	var ms int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(ms*10+int64(c-'0'), maxRetry.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, true
}
